"""Retraining on the archive: from a plan to a challenger, examined, gated and filed; serving is never touched."""
