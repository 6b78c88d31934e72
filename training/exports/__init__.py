"""De-identified data sets for training elsewhere."""
