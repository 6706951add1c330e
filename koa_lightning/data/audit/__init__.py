"""Checks for faults in a folder of knees, one kind of fault per file."""
