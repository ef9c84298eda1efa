"""Draw what surrounds a galaxy: field stars, neighbours, trails, blur and noise."""

import math
from dataclasses import replace

import numpy as np

from shard_tool.synthetic.galaxies import Blob, Sky, Star, Trail

MEDIAN_NATIVE_PX = 165.0
"""Camera pixels across a frame: 8.48 x R90 / 0.396 arcsec for R90 = 7.7 arcsec (see population.py)."""

NATIVE_PX_RANGE = (84, 360)
STARS_AT_MEDIAN = 7.0
NEIGHBOURS_AT_MEDIAN = 5.0
BRIGHT_STAR_SHARE = 0.025
TRAIL_SHARE = 0.006
HALF_FRAME_PX = 212.0


def draw_sky(rng: np.random.Generator) -> Sky:
    """Draw the sky around an ordinary galaxy; a frame of larger angle holds more stars and neighbours."""
    native_px = int(np.clip(rng.lognormal(math.log(MEDIAN_NATIVE_PX), 0.33), *NATIVE_PX_RANGE))
    area = (native_px / MEDIAN_NATIVE_PX) ** 2
    stars = [_star(rng) for _ in range(rng.poisson(STARS_AT_MEDIAN * area))]
    if rng.random() < BRIGHT_STAR_SHARE:
        stars.append(_bright_star(rng))
    trails = [draw_trail(rng)] if rng.random() < TRAIL_SHARE else []
    noise = 0.97 * rng.lognormal(0.0, 0.2) * rng.normal(1.0, 0.12, 3) * (1.15, 0.95, 1.0)
    background = rng.normal((0.25, 0.3, 0.0), 0.25, 3) + abs(rng.normal(0.0, 0.35))
    return Sky(
        native_px=native_px,
        noise=(float(noise[0]), float(noise[1]), float(noise[2])),
        background=(float(background[0]), float(background[1]), float(background[2])),
        stars=tuple(stars),
        neighbours=tuple(_neighbour(rng) for _ in range(rng.poisson(NEIGHBOURS_AT_MEDIAN * area))),
        trails=tuple(trails),
    )


def draw_artifact_sky(rng: np.random.Generator) -> Sky:
    """Draw a frame that is all about a saturated star or a broad trail near its centre."""
    sky = draw_sky(rng)
    if rng.random() < 0.7:
        x_px, y_px = rng.normal(0.0, 25.0, 2)
        star = replace(_bright_star(rng), x_px=float(x_px), y_px=float(y_px), flux=float(rng.uniform(4e6, 3e7)))
        return replace(sky, stars=(*sky.stars, star))
    trail = replace(
        draw_trail(rng), offset_px=float(rng.normal(0.0, 20.0)), brightness=float(rng.uniform(80, 400))
    )
    return replace(sky, trails=(trail,))


def draw_trail(rng: np.random.Generator) -> Trail:
    """Draw a satellite's trail."""
    return Trail(
        offset_px=float(rng.uniform(-150.0, 150.0)),
        angle=float(rng.uniform(0.0, math.pi)),
        width_px=float(rng.uniform(2.0, 7.0)),
        brightness=float(rng.uniform(8.0, 80.0)),
        blueness=float(rng.choice([0.0, 0.5])),
    )


def draw_companion(rng: np.random.Generator, *, distance_px: float, flux: float) -> Blob:
    """Draw a galaxy at a distance from the centre, of any shape and colour."""
    angle = rng.uniform(0.0, 2.0 * math.pi)
    return Blob(
        x_px=float(distance_px * math.cos(angle)),
        y_px=float(distance_px * math.sin(angle)),
        radius_px=float(rng.uniform(7.0, 18.0)),
        axis_ratio=float(rng.uniform(0.35, 1.0)),
        angle=float(rng.uniform(0.0, math.pi)),
        sersic_index=float(rng.uniform(1.0, 3.0)),
        flux=flux,
        blueness=float(np.clip(rng.normal(0.3, 0.3), 0.0, 1.0)),
    )


def _star(rng: np.random.Generator) -> Star:
    """Draw a field star: star counts fall with brightness as a power law; most are red or white."""
    x_px, y_px = rng.uniform(-HALF_FRAME_PX, HALF_FRAME_PX, 2)
    flux = 900.0 * rng.random() ** -1.3
    return Star(x_px=float(x_px), y_px=float(y_px), flux=float(min(flux, 4e5)), blueness=_star_blueness(rng))


def _star_blueness(rng: np.random.Generator) -> float:
    """Draw a colour: one field star in four is a cool dwarf, far redder than any galaxy."""
    return float(rng.normal(-1.3, 0.4) if rng.random() < 0.25 else rng.normal(0.55, 0.5))


def _bright_star(rng: np.random.Generator) -> Star:
    x_px, y_px = rng.uniform(-HALF_FRAME_PX, HALF_FRAME_PX, 2)
    flux, blueness = 10.0 ** rng.uniform(5.8, 7.2), rng.uniform(-0.3, 1.1)
    return Star(x_px=float(x_px), y_px=float(y_px), flux=float(flux), blueness=float(blueness))


def _neighbour(rng: np.random.Generator) -> Blob:
    """Draw a faint galaxy of the background anywhere in the frame."""
    x_px, y_px = rng.uniform(-HALF_FRAME_PX, HALF_FRAME_PX, 2)
    return Blob(
        x_px=float(x_px),
        y_px=float(y_px),
        radius_px=float(rng.uniform(2.0, 7.0)),
        axis_ratio=float(rng.uniform(0.3, 1.0)),
        angle=float(rng.uniform(0.0, math.pi)),
        sersic_index=1.0,
        flux=float(min(800.0 * rng.random() ** -1.0, 1e5)),
        blueness=float(rng.uniform(-0.4, 0.9)),
    )
