"""Studies in memory, from synthetic patients, folders and data sets, with their patients and statements."""
