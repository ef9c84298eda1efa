"""Find the galaxy of an image and measure it as SExtractor does, by its Python port `sep`.

Detection follows Dieleman 2014 (kaggle-galaxies, extract_pysex_params_gen2.py): pixels of the green channel that are 2
sigma above the noise, with SExtractor's background and filter. Of all objects it takes the one with the largest area,
weighted by a Gaussian of its distance from the centre. The size is his too: the semi-major axis of the Petrosian
aperture. docs/experiments.md, 2026-11-20, says how closely both agree with the measurements that he published.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from galaxy_zoo.errors import InputError

THRESHOLD = 2.0
"""Brightness of a pixel above the background, in standard deviations of the noise. Source: Dieleman 2014."""
CENTRALITY = 5000 / 424**2
"""Twice the variance of the weight by distance, in areas of an image. Source: Dieleman 2014, on images of 424 px."""
ROUNDING_NOISE = 12**-0.5
"""Standard deviation of rounding to whole grey levels: no image has less noise."""
PETROSIAN_RATIO, PETROSIAN_RADII = 0.2, 2.0
"""At the Petrosian radius the light is a fifth of the mean within; an aperture has twice that radius. Source: the
defaults of SExtractor (PETRO_PARAMS) and of SDSS."""
MIN_PETROSIAN = 3.5 / PETROSIAN_RADII
"""Smallest Petrosian radius, in units of the object's semi-major axis. Source: SExtractor's PETRO_PARAMS."""
MAX_PETROSIAN, STEP = 6.0, 0.05
ANNULUS = 0.1
"""Half the width of the ring whose light is compared, relative to its radius."""

Floats = NDArray[np.floating[Any]]
Found = tuple[float, float, float]
"""x and y of the barycentre, from the upper left corner, where pixel i covers [i, i + 1); and the radius; in pixels."""


def require_sep() -> None:
    """Raise InputError if `sep` is not installed."""
    try:
        import sep  # noqa: F401, PLC0415 - an extra that only framed views need
    except ImportError as error:
        raise InputError("measuring galaxies needs sep; install it with: pip install sep") from error


def find_galaxy(pixels: NDArray[np.uint8]) -> Found | None:
    """Find the galaxy in pixels of shape (height, width, 3); return None if nothing stands out from the noise."""
    import sep  # noqa: PLC0415

    green = np.ascontiguousarray(pixels[:, :, 1], np.float32)
    background = sep.Background(green)
    light = green - background.back()
    sep.set_extract_pixstack(max(light.size, sep.get_extract_pixstack()))  # large enough for any object
    noise = max(background.globalrms, ROUNDING_NOISE)
    objects, owners = sep.extract(light, THRESHOLD, err=noise, segmentation_map=True)
    if not len(objects):
        return None
    height, width = light.shape
    squares = (objects["x"] - (width - 1) / 2) ** 2 + (objects["y"] - (height - 1) / 2) ** 2
    weights = np.exp(-squares / (CENTRALITY * light.size))
    number = int(np.argmax(objects["a"] * objects["b"] * weights))
    galaxy = objects[number]
    own = (owners == 0) | (owners == number + 1)
    radius = PETROSIAN_RADII * petrosian_radius(_distances(galaxy, light.shape)[own], light[own])
    return float(galaxy["x"]) + 0.5, float(galaxy["y"]) + 0.5, float(galaxy["a"]) * radius


def petrosian_radius(distances: Floats, light: Floats) -> float:
    """Return the radius, 1.75 to 6 in the unit of `distances`, where the light is a fifth of the mean within."""
    bins = (distances[distances < MAX_PETROSIAN * (1 + ANNULUS)] / STEP).astype(np.int64)
    near = light[distances < MAX_PETROSIAN * (1 + ANNULUS)]
    edges = np.arange(round(MAX_PETROSIAN * (1 + ANNULUS) / STEP) + 2) * STEP
    areas = np.concatenate([[0], np.cumsum(np.bincount(bins, minlength=len(edges) - 1))])
    sums = np.concatenate([[0], np.cumsum(np.bincount(bins, near, minlength=len(edges) - 1))])

    def mean(inner: Floats, outer: Floats) -> Floats:
        area, total = (np.interp(outer, edges, of) - np.interp(inner, edges, of) for of in (areas, sums))
        return np.asarray(total / np.maximum(area, 1e-9))

    radii = np.arange(MIN_PETROSIAN, MAX_PETROSIAN, STEP)
    rings, within = mean((1 - ANNULUS) * radii, (1 + ANNULUS) * radii), mean(np.zeros_like(radii), radii)
    falls = np.flatnonzero(rings < PETROSIAN_RATIO * within)
    return float(radii[falls[0]]) if len(falls) else MAX_PETROSIAN


def _distances(galaxy: Any, shape: tuple[int, ...]) -> Floats:
    """Return each pixel's distance from a galaxy, in units of the ellipse of its second moments."""
    y, x = np.indices(shape, sparse=True)
    x, y = x - galaxy["x"], y - galaxy["y"]
    return np.asarray(np.sqrt(galaxy["cxx"] * x * x + galaxy["cyy"] * y * y + galaxy["cxy"] * x * y))
