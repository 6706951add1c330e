"""From a checkpoint and images to predictions, metrics and figures."""
