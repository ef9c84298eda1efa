"""Sizes of images, (height, width) in pixels: which are too large to decode, and which one is the most common."""

from collections import Counter
from collections.abc import Iterable

from galaxy_zoo.errors import ImageError

Size = tuple[int, int]

LARGEST_SIDE_PX = 8192
"""No image that says it is larger is decoded: its pixels would take more than 200 MB."""


def check_sides(size: Size) -> Size:
    """Return the size itself.

    Raises:
        ImageError: a side is no pixel long, or longer than `LARGEST_SIDE_PX`.
    """
    height, width = size
    if not (0 < height <= LARGEST_SIDE_PX and 0 < width <= LARGEST_SIDE_PX):
        raise ImageError(f"{width} x {height} pixels; a side may have 1 to {LARGEST_SIDE_PX}")
    return size


def common_size(sizes: Iterable[Size]) -> Size | None:
    """Return the most common size, the largest of equally common ones, None without any."""
    counts = Counter(sizes)
    return max(counts, key=lambda size: (counts[size], size), default=None)
