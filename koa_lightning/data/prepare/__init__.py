"""DICOM files and other images to 16-bit PNG files that name nobody."""
