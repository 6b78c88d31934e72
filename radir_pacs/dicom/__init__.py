"""Everything that touches DICOM objects as files: UIDs, bounded headers, pixels, volumes, pictures made into DICOM.

All input is hostile. ``read_header`` is bounded by counts and runs in the caller's process; compressed pixels are
decoded in a child process with hard limits (``pixels.PixelDecoder``).
"""
