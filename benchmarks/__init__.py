"""Measurements of speed and quality. Each runs as ``python -m benchmarks.ROOM.NAME``."""
