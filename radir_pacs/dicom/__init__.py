"""Reading DICOM objects: UIDs, bounded headers, pixels, volumes.

All input is hostile. ``read_header`` is bounded by counts and runs in the caller's process; compressed pixels are
decoded in a child process with hard limits (``pixels.PixelDecoder``).
"""
