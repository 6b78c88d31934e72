"""One training from start to finish: load the studies, train, measure on held-out patients, write the bundle."""
