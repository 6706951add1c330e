"""What is measured; nothing here draws."""
