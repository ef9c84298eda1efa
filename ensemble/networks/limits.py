"""Limits on the sizes in a recipe; a number beyond them is a mistake or an attempt to exhaust the memory."""

MOST_LAYERS = 128
MOST_UNITS = 65_536
LARGEST_KERNEL = 255
MOST_PARAMETERS = 10**10
"""Ten billion, which is 40 GB of weights in float32."""
