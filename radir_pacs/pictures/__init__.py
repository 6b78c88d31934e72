"""Tables of JPEG or PNG pictures, made into DICOM objects."""
