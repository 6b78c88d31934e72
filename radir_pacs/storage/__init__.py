"""Durable files: content-addressed blobs in a folder."""
