"""The network: backbone, head, initial weights, outputs and inference."""
