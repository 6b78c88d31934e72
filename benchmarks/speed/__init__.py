"""The speed of each part, beside its peer in the same run."""
