"""DICOMweb (PS3.18): QIDO-RS, WADO-RS, STOW-RS, and the similar-case query beside them."""
