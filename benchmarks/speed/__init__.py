"""How fast each part is, beside its peer in the same run."""
