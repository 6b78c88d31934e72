"""Measurements of speed and quality. Each runs as ``python -m benchmarks.FOLDER.NAME``; FOLDER: ``speed`` or
``experiments``.
"""
