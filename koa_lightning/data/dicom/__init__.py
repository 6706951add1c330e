"""DICOM files: pixels and header."""
