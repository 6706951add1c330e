"""Checkpoints: the typed record, reading and writing it, and finding the files."""
