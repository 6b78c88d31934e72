"""Evaluation of retrieval: a model's figures beside those of a random and a perfect order."""
