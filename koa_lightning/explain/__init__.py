"""Class activation maps: where a model looked."""
