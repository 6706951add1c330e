"""From a folder, a table or DICOM files to batches of uint8 knees."""
