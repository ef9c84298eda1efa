"""The true parameters of a synthetic galaxy, which the renderer draws and the voters judge.

Lengths are in pixels of the 424-pixel frame (`_px`), angles in radians, and light in units of the sky noise of one
pixel: a surface brightness of 1 is as bright as one standard deviation of the sky.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

FRAME_PX = 424
"""Width and height of a Kaggle image."""

PSF_SIGMA_NATIVE_PX = 1.5
"""Blur in camera pixels: seeing of 1.4 arcsec FWHM on pixels of 0.396 arcsec.

Source: SDSS DR7 imaging, https://classic.sdss.org/dr7/ (median r seeing 1.32 arcsec).
"""


class Family(StrEnum):
    """Kind of object at the centre of the frame."""

    SPHEROID = "spheroid"
    DISK = "disk"
    ARTIFACT = "artifact"


class Odd(StrEnum):
    """Odd feature of a galaxy, in the order of the answers of question 8."""

    RING = "ring"
    LENS = "lens or arc"
    DISTURBED = "disturbed"
    IRREGULAR = "irregular"
    OTHER = "other"
    MERGER = "merger"
    DUST_LANE = "dust lane"


@dataclass(frozen=True, kw_only=True)
class Bulge:
    """A Sersic spheroid; a spheroidal galaxy is only a bulge."""

    fraction: float  # of the galaxy's light, 0 to 1
    radius_px: float  # half-light radius
    sersic_index: float
    axis_ratio: float
    boxiness: float  # 0 elliptical isophotes, 1 boxes
    blueness: float  # 0 old stars, 1 young stars


@dataclass(frozen=True, kw_only=True)
class Disk:
    """An exponential disk."""

    scale_px: float  # exponential scale length
    axis_ratio: float  # as seen: about the cosine of the inclination
    edge_on: bool
    blueness: float
    dust: float  # depth of the lane of an edge-on disk, 0 to 1


@dataclass(frozen=True)
class Bar:
    """A bar of stars through the bulge."""

    strength: float  # share of the disk's light, 0 to about 0.4
    length_px: float  # half length
    angle: float  # in the disk's plane


@dataclass(frozen=True, kw_only=True)
class Arms:
    """Logarithmic spiral arms."""

    strength: float  # 0 none, 1 as strong as arms get
    count: int
    pitch: float  # always positive: the angle between an arm and a circle
    handedness: int  # +1 or -1
    phase: float
    start_px: float  # arms begin here
    sharpness: float  # of an arm's cross-section
    clumpiness: float  # 0 smooth, 1 knots


@dataclass(frozen=True)
class Ring:
    """A ring in the disk's plane."""

    strength: float  # share of the disk's light
    radius_px: float


@dataclass(frozen=True, kw_only=True)
class Blob:
    """One more elliptical patch of light: a companion, a knot, a neighbour."""

    x_px: float  # from the frame's centre
    y_px: float
    radius_px: float  # half-light radius
    axis_ratio: float
    angle: float
    sersic_index: float
    flux: float  # in sky noise x square frame pixels
    blueness: float


@dataclass(frozen=True, kw_only=True)
class Arc:
    """A curved streak around the centre: a lensed image or a tidal tail."""

    radius_px: float
    widening: float  # growth of the radius along the arc: 0 for a lensed image
    angle: float
    extent: float  # angular length
    width_px: float
    brightness: float
    blueness: float


@dataclass(frozen=True, kw_only=True)
class Star:
    """A foreground star: a point before the blur."""

    x_px: float
    y_px: float
    flux: float
    blueness: float


@dataclass(frozen=True, kw_only=True)
class Trail:
    """A satellite's trail across the frame."""

    offset_px: float  # distance from the frame's centre
    angle: float
    width_px: float
    brightness: float
    blueness: float


@dataclass(frozen=True)
class Seam:
    """A black line where two scans of the mosaic do not meet."""

    offset_px: float
    angle: float
    length_px: float


@dataclass(frozen=True, kw_only=True)
class Sky:
    """What is in the frame besides the galaxy."""

    native_px: int  # camera pixels across the frame: few for a galaxy of small angular size
    noise: tuple[float, float, float]
    background: tuple[float, float, float]
    stars: tuple[Star, ...] = ()
    neighbours: tuple[Blob, ...] = ()
    trails: tuple[Trail, ...] = ()
    seams: tuple[Seam, ...] = ()

    @property
    def psf_px(self) -> float:
        """Standard deviation of the blur, in frame pixels."""
        return PSF_SIGMA_NATIVE_PX * FRAME_PX / self.native_px


@dataclass(frozen=True, kw_only=True)
class Galaxy:
    """The whole truth about one synthetic galaxy."""

    family: Family
    flux: float  # in sky noise x square frame pixels
    angle: float  # position angle of the major axis
    x_px: float  # offset of the nucleus from the frame's centre
    y_px: float
    bulge: Bulge
    disk: Disk
    bar: Bar
    arms: Arms
    ring: Ring
    sky: Sky
    bend: float = 0.0  # how much the galaxy is bent out of shape, 0 to about 1
    odd: Odd | None = None
    oddness: float = 0.0  # how striking the odd feature is, 0 to 1
    companions: tuple[Blob, ...] = ()
    arcs: tuple[Arc, ...] = ()

    @property
    def axis_ratio(self) -> float:
        """Apparent axis ratio of the light: bulge and disk, weighted by their flux."""
        share = self.bulge.fraction
        return share * self.bulge.axis_ratio + (1 - share) * self.disk.axis_ratio

    def visibility(self, size_px: float) -> float:
        """Return the contrast, 0 to 1, that the blur leaves of a pattern that repeats every `size_px`.

        Source: modulation transfer function of a Gaussian, exp(-2 (pi sigma / period)^2).
        """
        return math.exp(-2.0 * (math.pi * self.sky.psf_px / max(size_px, 1.0)) ** 2)
