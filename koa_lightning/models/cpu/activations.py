"""The activations that the compiled loops compute, by number."""

NONE, SILU, RELU6 = 0, 1, 2
