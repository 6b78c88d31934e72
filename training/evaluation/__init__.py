"""Judging retrieval: what a model finds, beside what a random and a perfect order would find."""
