"""Turn an image into the JPEG for a shard: the same bytes, or another size, or converted from another format.

A JPEG keeps its bytes unless `--resize` or `--pad` changes its size. Other images are encoded once, at a stated
quality, with the full resolution of their colours (4:4:4): galaxies are small, and halving it would lose more detail.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from galaxy_zoo.errors import ImageError
from galaxy_zoo.image_size import Size
from shard_tool.images.fits import SUFFIXES as FITS_SUFFIXES
from shard_tool.images.fits import Stretch, decode_fits, fits_size
from shard_tool.images.formats import FITS, JPEG, PNG, format_of, told
from shard_tool.images.jpeg import decode_strictly, jpeg_size
from shard_tool.images.png import decode_png, png_size

Pixels = NDArray[np.uint8]

JPEG_SUFFIXES = (".jpg", ".jpeg")
SUBSAMPLING = "4:4:4"
PIXELS_TO_JPEG = 16
"""Rough ratio of the bytes of the pixels to those of a galaxy's JPEG; decides the number of shards."""


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How images become JPEGs of one size.

    pad_px: centre an image on a black square of this side. resize_px: then scale the square to this side. None: keep
    the size. fits: the stretch; needed for FITS images.
    """

    quality: int = 95
    resize_px: int | None = None
    pad_px: int | None = None
    fits: Stretch | None = None

    @property
    def image_px(self) -> Size | None:
        """Size of the JPEGs, (height, width); None if each keeps the size of its image."""
        side = self.resize_px or self.pad_px
        return None if side is None else (side, side)

    @classmethod
    def of_stated(cls, stated: Mapping[str, Any]) -> "Encoding":
        """Return the encoding that a manifest states."""
        fits = stated.get("fits_asinh")
        return cls(
            quality=stated["quality"],
            resize_px=stated["resize_px"],
            pad_px=stated["pad_px"],
            fits=None if fits is None else Stretch(**fits),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what the manifest states about images that were encoded."""
        return {
            "quality": self.quality,
            "subsampling": SUBSAMPLING,
            "resize_px": self.resize_px,
            "pad_px": self.pad_px,
            "fits_asinh": None if self.fits is None else asdict(self.fits),
        }

    def is_stated(self, stated: Mapping[str, Any] | None) -> bool:
        """Return whether a pack with this encoding may have written the encoding that a manifest states."""
        return self.image_px is None if stated is None else stated == self.to_dict()

    def to_jpeg(self, data: bytes) -> bytes:
        """Return the JPEG for an image file; a JPEG of the right size is returned as it is, without decoding.

        The content decides the format, not the name.

        Raises:
            ImageError: the image cannot be decoded or cannot be brought to the size.
        """
        if format_of(data) == JPEG and self._keeps(data):
            return data
        return self.encode(self._decode(data))

    def encode(self, pixels: Pixels) -> bytes:
        """Return the JPEG of pixels, brought to the size; raise ImageError if that is impossible."""
        subsampling = SUBSAMPLING.replace(":", "")
        fitted = np.ascontiguousarray(self._fit(pixels))
        return bytes(simplejpeg.encode_jpeg(fitted, self.quality, "RGB", subsampling))

    def _keeps(self, jpeg: bytes) -> bool:
        """Return whether neither padding nor resizing changes a JPEG."""
        sides = [side for side in (self.pad_px, self.resize_px) if side is not None]
        return not sides or {jpeg_size(jpeg)} == {(side, side) for side in sides}

    def _decode(self, data: bytes) -> Pixels:
        found = format_of(data)
        if found == JPEG:
            return decode_strictly(data, jpeg_size(data))
        if found == PNG:
            return decode_png(data)
        if found != FITS:
            raise _unreadable(data)
        if self.fits is None:
            raise ImageError("a FITS image by its content; rename it to .fits")
        return decode_fits(data, self.fits)

    def _fit(self, pixels: Pixels) -> Pixels:
        if self.pad_px is not None:
            pixels = _pad(pixels, self.pad_px)
        if self.resize_px is not None:
            pixels = _resize(pixels, self.resize_px)
        return pixels


AS_IT_IS = Encoding()


def encoded_bytes(image_px: Size) -> int:
    """Return roughly how many bytes a JPEG of that size will have."""
    return image_px[0] * image_px[1] * 3 // PIXELS_TO_JPEG


def is_jpeg(name: str) -> bool:
    """Return whether an image file of that name is a JPEG."""
    return name.lower().endswith(JPEG_SUFFIXES)


def is_fits(name: str) -> bool:
    """Return whether an image file of that name is a FITS file."""
    return name.lower().endswith(FITS_SUFFIXES)


def size_of(data: bytes) -> Size:
    """Return the (height, width) in the header of an image file; raise ImageError if it cannot be read."""
    readers = {JPEG: jpeg_size, PNG: png_size, FITS: fits_size}
    if (found := format_of(data)) not in readers:
        raise _unreadable(data)
    return readers[found](data)


def _unreadable(data: bytes) -> ImageError:
    if not data:
        return ImageError("empty file")
    return ImageError(f"not a JPEG, PNG or FITS image: {told(data)}; convert it to JPEG or PNG")


def _pad(pixels: Pixels, side: int) -> Pixels:
    height, width = pixels.shape[:2]
    if height > side or width > side:
        raise ImageError(f"{width} x {height} pixels, larger than the {side} to pad to")
    top, left = (side - height) // 2, (side - width) // 2
    padded: Pixels = np.zeros((side, side, 3), np.uint8)
    padded[top : top + height, left : left + width] = pixels
    return padded


def _resize(pixels: Pixels, side: int) -> Pixels:
    height, width = pixels.shape[:2]
    if height != width:
        raise ImageError(f"{width} x {height} pixels, not square; pad it as well (shard_tool pack --pad)")
    if height == side:
        return pixels
    how = cv2.INTER_AREA if side < height else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, (side, side), interpolation=how), np.uint8)
