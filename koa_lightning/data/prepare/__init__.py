"""From a folder of DICOM files or other images to knees, ready for training."""
