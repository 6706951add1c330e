"""The checkpoint: its typed record, how it is read and written, and where it is found."""
