"""The DICOM listener: C-ECHO and C-STORE (PS3.4 annex B) for every storage SOP class in any transfer syntax."""
