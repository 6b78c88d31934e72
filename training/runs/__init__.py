"""One training from start to finish: bring the studies, train, measure on held-out patients, write the bundle."""
