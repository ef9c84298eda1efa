"""Prove FITS cut-outs of one or three bands to be whole, stretch them and turn them into pixels.

All images get the same stretch, so that a faint galaxy stays fainter than a bright one. `black` and `white` are in the
units of the file: values up to `black` are black, and an intensity of `white` is as bright as can be.

    intensity = mean of the bands, each (value - black) / (white - black) and not below 0
    pixel = band * arcsinh(softening * intensity) / arcsinh(softening) / intensity

and where a band of a pixel comes out above 1, all its bands are divided by the largest, which keeps the colour.

Three planes are taken as blue, green, red: in the order of their wavelengths, as the Legacy Surveys write them
(grz). The first row of a FITS image is its lowest, so the rows are reversed.

Source: Lupton et al. 2004, PASP 116, 133.
"""

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galaxy_zoo.errors import ImageError, InputError
from shard_tool.images.sizes import Size, check_sides

SUFFIXES = (".fits", ".fit")
SIGNATURE = b"SIMPLE  ="
_filters = threading.Lock()
"""Warning filters belong to the process, so only one thread at a time may change them."""

BRIGHTEST = 1e30
"""The limit of values, in units of the range: far beyond any data, far from overflow."""


@dataclass(frozen=True)
class Stretch:
    """The stretch from values to brightness; a larger `softening` shows fainter parts."""

    black: float
    white: float
    softening: float = 10.0

    def to_pixels(self, bands: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Return uint8 pixels of shape (height, width, 3), R G B, from bands of shape (1 or 3, height, width)."""
        scaled = np.clip((bands - self.black) / (self.white - self.black), 0, BRIGHTEST)
        intensity = scaled.mean(axis=0)
        stretched = np.arcsinh(self.softening * intensity) / np.arcsinh(self.softening)
        colours = scaled * np.divide(stretched, intensity, out=np.zeros_like(intensity), where=intensity > 0)
        colours /= np.maximum(colours.max(axis=0), 1)
        red_green_blue = np.broadcast_to(colours[::-1], (3, *intensity.shape))
        return np.asarray(np.rint(255 * red_green_blue), np.uint8).transpose(1, 2, 0)[::-1]


def require_astropy(where: str) -> None:
    """Check that FITS can be read; `where` begins the message.

    Raises:
        InputError: astropy is not installed.
    """
    try:
        import astropy.io.fits  # noqa: F401, PLC0415 - an extra, which most packs do without
    except ImportError as error:
        raise InputError(f"{where}: reading FITS needs astropy; install it with: pip install astropy") from error


def fits_size(data: bytes) -> Size:
    """Return the (height, width) by the header; raise ImageError where it is no image of one or three bands."""
    with _image(data) as image:
        return _size(image)


def decode_fits(data: bytes, stretch: Stretch) -> NDArray[np.uint8]:
    """Decode a FITS image and prove it on the way.

    Returns:
        uint8 of shape (height, width, 3): red, green, blue.

    Raises:
        ImageError: it is empty, no FITS image of one or three bands, damaged, too large, or has pixels without a
            value.
    """
    with _image(data) as image:
        height, width = _size(image)
        bands = np.asarray(image.data, np.float64).reshape(-1, height, width)
    if num_missing := int((~np.isfinite(bands)).sum()):
        raise ImageError(f"{num_missing:,} pixels have no value (NaN or infinite)")
    return stretch.to_pixels(bands)


@contextmanager
def _image(data: bytes) -> Iterator[Any]:
    """Open the first HDU with an image; a warning of astropy is an error unless it is about an odd header."""
    from astropy.io import fits  # noqa: PLC0415
    from astropy.utils.exceptions import AstropyUserWarning  # noqa: PLC0415

    if not data.startswith(SIGNATURE):
        raise ImageError(f"not a FITS file: it begins with {data[:4].hex(' ')}" if data else "empty file")
    damage = (OSError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, AstropyUserWarning)
    try:
        with _filters, warnings.catch_warnings():
            warnings.simplefilter("error", AstropyUserWarning)
            warnings.simplefilter("ignore", fits.verify.VerifyWarning)
            with fits.open(io.BytesIO(data), memmap=False, checksum=True) as file:
                images = [hdu for hdu in file if hdu.is_image and hdu.header.get("NAXIS")]
                if not images:
                    raise ImageError("no image among its HDUs")
                yield images[0]
    except damage as error:
        raise ImageError(f"damaged FITS file: {str(error).strip() or type(error).__name__}") from error


def _size(image: Any) -> Size:
    shape = tuple(int(side) for side in image.shape)
    if len(shape) not in {2, 3} or shape[:-2] not in {(), (1,), (3,)}:
        raise ImageError(
            f"an image of shape {shape}; one band (height, width) or three (3, height, width) are read"
        )
    return check_sides((shape[-2], shape[-1]))
