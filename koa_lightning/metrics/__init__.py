"""The metric engine and what it computes; nothing here draws."""
