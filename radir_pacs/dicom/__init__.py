"""DICOM objects read safely: identifiers, headers, pixels, volumes."""
