"""Report collections become retrieval data sets: readers, relevance tables in the MIMIC-IR layout, measures."""
