"""Studies in memory: from synthetic patients, from folders, from data sets; whose they are and what is said of them."""
