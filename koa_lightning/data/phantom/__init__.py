"""Phantom knees: radiographs drawn by rule, for tests and demonstrations."""
