"""Sizes of images, (height, width) in pixels: which are safe to decode, and which one is the most common.

Source: ITU-T T.81, sections F.1.2 and G.1.2: a block of 8 x 8 pixels takes a bit at least in a baseline or progressive
JPEG; the largest ratio of zlib, which PNG uses, is 1032.
"""

from collections import Counter
from collections.abc import Iterable

from galaxy_zoo.errors import ImageError

Size = tuple[int, int]

LARGEST_SIDE_PX = 8192
"""No image that says it is larger is decoded: its pixels would take more than 200 MB."""
LARGEST_IMAGE_BYTES = 2**28
"""No larger file is read into memory; the largest FITS image that is read has as many."""
MOST_PIXELS_PER_BYTE = 512
"""A file of fewer bytes than that cannot hold the pixels that it says: no colour JPEG or PNG can."""


def check_bytes(num_bytes: int) -> None:
    """Raise ImageError where an image file, before it is read, is larger than any image."""
    if num_bytes > LARGEST_IMAGE_BYTES:
        raise ImageError(f"{num_bytes:,} bytes; an image may have {LARGEST_IMAGE_BYTES:,}")


def check_decodable(size: Size, num_bytes: int) -> Size:
    """Return the size that an image file of so many bytes says it has, before anything is decoded.

    Raises:
        ImageError: a side is no pixel long or longer than `LARGEST_SIDE_PX`, or the file is too short for its pixels.
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
    """Return the most common size, the largest of equally common ones, None without any."""
    counts = Counter(sizes)
    return max(counts, key=lambda size: (counts[size], size), default=None)
