"""The DICOM listener: C-ECHO, C-STORE for every storage SOP class (PS3.4 annex B), and storage commitment (annex J)."""
