"""Speed and memory ratios, each measured side by side; see README.md."""
