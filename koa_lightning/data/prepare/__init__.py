"""From DICOM files and other images to pseudonymous 16-bit PNG files."""
