"""Sizes of images, (height, width) in pixels: limits that are safe to decode, and the most common size.

Source: ITU-T T.81, sections F.1.2 and G.1.2: a block of 8 x 8 pixels takes at least one bit in a baseline or
progressive JPEG. The largest compression ratio of zlib, which PNG uses, is 1032.
"""

from collections import Counter
from collections.abc import Iterable

from galaxy_zoo.errors import ImageError

Size = tuple[int, int]

LARGEST_SIDE_PX = 8192
"""Images with a longer side are not decoded: their pixels could take more than 200 MB."""
LARGEST_IMAGE_BYTES = 2**28
"""Larger files are not read into memory; the largest FITS image that can be read has this size."""
MOST_PIXELS_PER_BYTE = 512
"""No colour JPEG or PNG can hold more pixels per byte."""


def check_bytes(num_bytes: int) -> None:
    """Check, before reading it, that a file is not too large for an image; raise ImageError if it is."""
    if num_bytes > LARGEST_IMAGE_BYTES:
        raise ImageError(f"{num_bytes:,} bytes; an image may have {LARGEST_IMAGE_BYTES:,}")


def check_decodable(size: Size, num_bytes: int) -> Size:
    """Check that an image of this size in so many bytes is safe to decode, and return its size.

    Raises:
        ImageError: a side is 0 or longer than `LARGEST_SIDE_PX`, or the file is too short for its pixels.
    """
    height, width = size
    if not (0 < height <= LARGEST_SIDE_PX and 0 < width <= LARGEST_SIDE_PX):
        raise ImageError(f"{width} x {height} pixels; a side may have 1 to {LARGEST_SIDE_PX}")
    if height * width > MOST_PIXELS_PER_BYTE * num_bytes:
        raise ImageError(
            f"{width} x {height} pixels in {num_bytes:,} bytes, which cannot hold them; it is damaged"
        )
    return size


def common_size(sizes: Iterable[Size]) -> Size | None:
    """Return the most common size, the largest of equally common ones; None if there are no sizes."""
    counts = Counter(sizes)
    return max(counts, key=lambda size: (counts[size], size), default=None)
