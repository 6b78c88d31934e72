"""Studies found on a disk: DICOM files, pictures with a table, data sets with images; prepared once and kept."""
