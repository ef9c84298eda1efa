"""Check that FITS cut-outs of one or three bands are whole, stretch them and turn them into pixels.

All images get the same stretch, so that a faint galaxy stays fainter than a bright one. `black` and `white` are in the
units of the file: values up to `black` are black, and an intensity of `white` has full brightness.

    intensity = mean of the bands, each (value - black) / (white - black) and not below 0
    pixel = band * arcsinh(softening * intensity) / arcsinh(softening) / intensity

If a band of a pixel exceeds 1, all its bands are divided by the largest, which keeps the colour.

Three planes, in one HDU or in three, are taken as blue, green, red: in the order of their wavelengths, as the Legacy
Surveys write them (grz). HDUs that are named by colours (R, G, B) or by filters (`SCI_G`, `SCI_R`, `SCI_Z`) may come in
any order. The first row of a FITS image is its lowest, so the rows are reversed.

Source: Lupton et al. 2004, PASP 116, 133.
"""

import io
import math
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galaxy_zoo.errors import ImageError, InputError
from galaxy_zoo.image_size import Size, check_decodable
from shard_tool.images.formats import told

SUFFIXES = (".fits", ".fit")
SIGNATURE = b"SIMPLE  ="
_filters = threading.Lock()
"""Warning filters belong to the process, so only one thread at a time may change them."""

NOT_AN_IMAGE = re.compile(
    "VAR|ERR|SIGMA|RMS|NOISE|WEIGHT|WHT|MASK|DQ|FLAG|FLG|EXP|TIME|SAMP|BACK|BKG|SKY|SEG|PSF|MODEL|CHI|NIMAGE|NUM|DEPTH|"
    "COV|CTX|CONTEXT|UNC|STD"
)
"""Parts of the names of HDUs that are not the image, in Legacy Surveys, WISE, HST, JWST, Pan-STARRS and Euclid."""

NO_NAMES = ("", "PRIMARY", "COMPRESSED_IMAGE")
"""Names of HDUs without a name of their own."""

IMAGE_NAMES = {"SCI", "SCIENCE", "IMAGE", "IMG", "INTENSITY", "FLUX", "DATA"}
"""Words in the name of an HDU that is the image."""

COLOURS = {"B": 0, "BLUE": 0, "G": 1, "GREEN": 1, "R": 2, "RED": 2}
"""Words in the names of three HDUs that are a picture's colours -> order by wavelength."""

FILTERS = ("U", "B", "G", "V", "R", "VIS", "I", "Z", "Y", "J", "H", "KS", "K", "W1", "W2", "W3", "W4")
WAVELENGTHS = {name: i for i, name in enumerate(FILTERS)}
"""Filters in the names of HDUs -> order by wavelength."""

MOST_VALUES = 2**25
"""Most values of an image, all bands together; as float64, with the memory of the stretch, about 1.5 GB."""

LEAST, MOST = 1e-30, 1e30
"""Limits on the range and the softening: beyond any data, far from underflow and overflow."""

BRIGHTEST = 1e30
"""Limit on values, in units of the range: far beyond any data, far from overflow."""


@dataclass(frozen=True)
class Stretch:
    """The stretch from values to brightness; a larger `softening` shows fainter parts."""

    black: float
    white: float
    softening: float = 10.0

    def __post_init__(self) -> None:
        """Raise InputError if float64 cannot compute the stretch."""
        if not LEAST <= self.white - self.black <= MOST:
            raise InputError(
                f"a stretch of FITS images from {self.black:g} to {self.white:g}: the two differ by "
                f"{self.white - self.black:g}; scale the images so that it is {LEAST:g} to {MOST:g}"
            )
        if not LEAST <= self.softening <= MOST:
            raise InputError(
                f"a softening of {self.softening:g} for FITS images: give a number from {LEAST:g} to {MOST:g}"
            )

    def to_pixels(self, bands: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Return uint8 pixels of shape (height, width, 3), R G B, from bands of shape (1 or 3, height, width)."""
        with np.errstate(over="ignore"):  # infinity is clipped
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
        import astropy.io.fits  # noqa: F401, PLC0415 - an extra that most packs do not need
    except ImportError as error:
        raise InputError(f"{where}: reading FITS needs astropy; install it with: pip install astropy") from error


def fits_size(data: bytes) -> Size:
    """Return the (height, width) in the header; raise ImageError if it is not an image of one or three bands."""
    with _planes(data) as planes:
        return _size(planes, len(data))


def decode_fits(data: bytes, stretch: Stretch) -> NDArray[np.uint8]:
    """Decode a FITS image, and check that it is whole.

    Returns:
        uint8, shape (height, width, 3): red, green, blue.

    Raises:
        ImageError: the file is empty, not a FITS image of one or three bands, damaged or too large, or has pixels
            without a value.
    """
    with _planes(data) as planes:
        size = _size(planes, len(data))
        bands = np.concatenate([np.asarray(plane.data, np.float64).reshape(-1, *size) for plane in planes])
    if num_missing := int((~np.isfinite(bands)).sum()):
        raise ImageError(f"{num_missing:,} pixels have no value (NaN or infinite)")
    return stretch.to_pixels(bands)


@contextmanager
def _planes(data: bytes) -> Iterator[list[Any]]:
    """Open the HDUs that hold the image; treat warnings of astropy as errors, except those about odd headers."""
    if not data.startswith(SIGNATURE):
        raise ImageError(f"not a FITS file: {told(data)}" if data else "empty file")
    try:
        require_astropy("a FITS image by its content")
    except InputError as error:
        raise ImageError(str(error)) from error
    from astropy.io import fits  # noqa: PLC0415
    from astropy.utils.exceptions import AstropyUserWarning  # noqa: PLC0415

    damage = (OSError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, AstropyUserWarning)
    try:
        with _filters, warnings.catch_warnings():
            warnings.simplefilter("error", AstropyUserWarning)
            warnings.simplefilter("ignore", fits.verify.VerifyWarning)
            with fits.open(io.BytesIO(data), memmap=False, checksum=True) as file:
                yield _choose([hdu for hdu in file if hdu.is_image and hdu.header.get("NAXIS")])
    except damage as error:
        raise ImageError(f"damaged FITS file: {str(error).strip() or type(error).__name__}") from error


def _choose(images: list[Any]) -> list[Any]:
    """Return the HDU that is the image, or the three that are its bands, from short to long wavelengths.

    HDUs whose names stand for errors or masks are left out, and so are those with other names beside one that says it
    is an image or a band, and a second one without a name, which is the inverse variance.
    """
    if not images:
        raise ImageError("no image data in any of its HDUs")
    likely = [hdu for hdu in images if not NOT_AN_IMAGE.search(hdu.name)] or images
    if any(_says_image(hdu.name) for hdu in likely):
        likely = [hdu for hdu in likely if hdu.name in NO_NAMES or _says_image(hdu.name)]
    first, *others = likely
    bands = [first, *(hdu for hdu in others if hdu.shape == first.shape)]
    if len(first.shape) != 2 or len(bands) == 1 or (len(bands) == 2 and bands[1].name in NO_NAMES):
        return [first]
    if len(bands) != 3:
        raise ImageError(
            f"{len(bands)} HDUs are images of one size; one or three bands are read: keep those in a file"
        )
    return _by_wavelength(bands)


def _words(name: str) -> list[str]:
    return re.findall("[A-Z0-9]+", name.upper())


def _says_image(name: str) -> bool:
    """Return whether the name of an HDU says that it is an image or a band of one."""
    return any(word in IMAGE_NAMES | COLOURS.keys() | WAVELENGTHS.keys() for word in _words(name))


def _by_wavelength(bands: list[Any]) -> list[Any]:
    """Return three bands in the order of the wavelengths in their names; as they are if the names do not decide it."""
    for order in (COLOURS, WAVELENGTHS):
        found = [{order[word] for word in _words(band.name) if word in order} for band in bands]
        places = [each for (each, *more) in map(sorted, filter(None, found)) if not more]
        if len(set(places)) == len(bands):
            return [band for _, band in sorted(zip(places, bands, strict=True), key=itemgetter(0))]
    return bands


def _size(planes: list[Any], num_bytes: int) -> Size:
    shape = tuple(int(side) for side in planes[0].shape)
    if len(shape) == 3 and shape[2] == 3 and shape[0] != 3:
        raise ImageError(f"an image of shape {shape}: its bands come last; write it as (3, height, width)")
    if len(shape) == 3 and shape[0] not in {1, 3}:
        raise ImageError(f"an image of {shape[0]} bands; one or three are read: choose three")
    if len(shape) not in {2, 3}:
        raise ImageError(
            f"an image of shape {shape}; one band (height, width) or three (3, height, width) are read"
        )
    if (num_values := len(planes) * math.prod(shape)) > MOST_VALUES:
        raise ImageError(f"{num_values:,} values in its bands; at most {MOST_VALUES:,} are read")
    return check_decodable((shape[-2], shape[-1]), num_bytes)
