"""Training: synthetic patients, data sets, losses, the training loop and its evaluation."""
