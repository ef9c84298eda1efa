"""Limits of what a recipe may ask of a network: what is beyond them is a mistake, or made to exhaust the memory."""

MOST_LAYERS = 128
MOST_UNITS = 65_536
LARGEST_KERNEL = 255
MOST_PARAMETERS = 10**10
"""40 GB of weights in float32."""
