"""Draw galaxies from a population like that of Galaxy Zoo 2.

The distributions are fitted by eye and by mean votes, not taken from a paper: the targets are the column
means of Kaggle's `central_pixel_benchmark.csv`, the shares of the Class1 argmax (26,693 smooth, 34,826 features,
59 star of 61,578) and the axis ratios b/a 5/25/50/75/95 % = .31/.52/.68/.82/.94. Frames are 8.48 Petrosian
radii (R90) wide, so every galaxy has about the same size in pixels and its angular size decides blur and grain.
Source: Willett et al. 2013, https://arxiv.org/abs/1308.3496 (0.02 x petroR90_r arcsec a pixel).
"""

import math
from dataclasses import replace

import numpy as np

from shard_tool.synthetic.galaxies import Arms, Bar, Bulge, Disk, Family, Galaxy, Odd, Ring
from shard_tool.synthetic.oddities import add_oddity
from shard_tool.synthetic.surroundings import draw_artifact_sky, draw_sky

SPHEROID_SHARE = 0.28
ARTIFACT_SHARE = 0.001
EDGE_ON_AXIS_RATIO = 0.30
"""Below this apparent axis ratio a disk is drawn as an edge-on slab."""

ODD_SHARES: dict[Odd, float] = {
    Odd.RING: 0.045,
    Odd.LENS: 0.008,
    Odd.DISTURBED: 0.035,
    Odd.IRREGULAR: 0.045,
    Odd.OTHER: 0.06,
    Odd.MERGER: 0.055,
    Odd.DUST_LANE: 0.004,
}
"""Share of all galaxies that has each odd feature."""

NO_BAR = Bar(strength=0.0, length_px=1.0, angle=0.0)
NO_ARMS = Arms(
    strength=0.0, count=2, pitch=0.3, handedness=1, phase=0.0, start_px=10.0, sharpness=1.5, clumpiness=0.0
)
NO_RING = Ring(strength=0.0, radius_px=1.0)


def draw_galaxy(rng: np.random.Generator) -> Galaxy:
    """Draw one galaxy with its odd feature and its sky."""
    chance = rng.random()
    if chance < ARTIFACT_SHARE:
        return _artifact(rng)
    galaxy = _spheroid(rng) if chance < ARTIFACT_SHARE + SPHEROID_SHARE else _disk_galaxy(rng)
    return add_oddity(galaxy, _draw_odd(rng), rng)


def _draw_odd(rng: np.random.Generator) -> Odd | None:
    edges = np.cumsum(list(ODD_SHARES.values()))
    index = int(np.searchsorted(edges, rng.random(), side="right"))
    return list(ODD_SHARES)[index] if index < len(ODD_SHARES) else None


def _angle(rng: np.random.Generator) -> float:
    return float(rng.uniform(0.0, 2.0 * math.pi))


def _flux(rng: np.random.Generator) -> float:
    """Draw the total light: stretched, it gives about the median radial profile of 300 Kaggle images."""
    return float(rng.lognormal(math.log(3.3e5), 0.45))


def _size(rng: np.random.Generator) -> float:
    """Draw a factor for the size in the frame; a few galaxies were measured in pieces and fill it."""
    scatter = rng.lognormal(0.0, 0.14)
    return float(scatter * rng.uniform(1.3, 2.2) if rng.random() < 0.04 else scatter)


def _spheroid(rng: np.random.Generator) -> Galaxy:
    axis_ratio = float(np.clip(1.0 - abs(rng.normal(0.0, 0.33)), 0.32, 1.0))
    bulge = Bulge(
        fraction=1.0,
        radius_px=float(24.0 * _size(rng) / math.sqrt(axis_ratio)),
        sersic_index=float(rng.uniform(2.2, 4.2)),
        axis_ratio=axis_ratio,
        boxiness=0.0,
        blueness=float(np.clip(rng.normal(0.12, 0.2), 0.0, 1.0)),
    )
    disk = Disk(scale_px=14.0, axis_ratio=axis_ratio, edge_on=False, blueness=bulge.blueness, dust=0.0)
    x_px, y_px = rng.normal(0.0, 1.7, 2)
    return Galaxy(
        family=Family.SPHEROID,
        flux=_flux(rng) * 1.1,
        angle=_angle(rng),
        x_px=float(x_px),
        y_px=float(y_px),
        bulge=bulge,
        disk=disk,
        bar=NO_BAR,
        arms=NO_ARMS,
        ring=NO_RING,
        sky=draw_sky(rng),
    )


def _disk_galaxy(rng: np.random.Generator) -> Galaxy:
    disk = _disk(rng)
    bulge = _bulge(rng, disk)
    bar = _bar(rng, disk)
    x_px, y_px = rng.normal(0.0, 2.0, 2)
    return Galaxy(
        family=Family.DISK,
        flux=_flux(rng) * (0.75 + 0.4 * disk.axis_ratio),
        angle=_angle(rng),
        x_px=float(x_px),
        y_px=float(y_px),
        bulge=bulge,
        disk=disk,
        bar=bar,
        arms=_arms(rng, scale_px=disk.scale_px, bar=bar),
        ring=NO_RING,
        sky=draw_sky(rng),
    )


def _disk(rng: np.random.Generator) -> Disk:
    """Draw a disk of random inclination.

    The apparent axis ratio is sqrt(cos^2 i (1 - q0^2) + q0^2) with thickness q0, and cos i is uniform. The scale
    length grows with inclination because R90 is measured in a circle. Source: Hubble 1926, ApJ 64, 321.
    """
    thickness = rng.uniform(0.15, 0.29)
    cos_inclination = rng.random() ** 0.93
    axis_ratio = float(math.sqrt(cos_inclination**2 * (1.0 - thickness**2) + thickness**2))
    return Disk(
        scale_px=_size(rng) * (17.3 + 4.5 * (1.0 - axis_ratio)),
        axis_ratio=axis_ratio,
        edge_on=axis_ratio < EDGE_ON_AXIS_RATIO,
        blueness=float(np.clip(rng.normal(0.54, 0.28), 0.0, 1.0)),
        dust=float(rng.uniform(0.0, 0.35)),
    )


def _bulge(rng: np.random.Generator, disk: Disk) -> Bulge:
    fraction = float(np.clip(rng.beta(1.5, 4.2) + 0.15 * (0.5 - disk.blueness), 0.0, 0.85))
    return Bulge(
        fraction=fraction,
        radius_px=float(disk.scale_px * rng.uniform(0.28, 0.5) * (0.6 + fraction)),
        sersic_index=float(rng.uniform(1.5, 4.0)),
        axis_ratio=max(disk.axis_ratio, float(rng.uniform(0.6, 0.95))),
        boxiness=float(rng.beta(0.8, 3.0)),
        blueness=float(np.clip(rng.normal(0.12, 0.12), 0.0, 1.0)),
    )


def _bar(rng: np.random.Generator, disk: Disk) -> Bar:
    strength = rng.uniform(0.10, 0.32) if rng.random() < 0.36 else 0.0
    length_px = disk.scale_px * rng.uniform(0.8, 1.6)
    return Bar(strength=float(strength), length_px=float(length_px), angle=_angle(rng))


def _arms(rng: np.random.Generator, *, scale_px: float, bar: Bar) -> Arms:
    """Draw spiral arms: from the ends of a bar if there is one; many arms are tighter and more knotty."""
    count = int(rng.choice([1, 2, 3, 4, 5, 6], p=[0.03, 0.62, 0.14, 0.09, 0.08, 0.04]))
    barred = bar.strength > 0.0
    pitch = math.radians(float(np.clip(rng.lognormal(math.log(16.0), 0.42), 6.0, 45.0)))
    return Arms(
        strength=float(rng.beta(1.6, 0.9)) if rng.random() < 0.78 else 0.0,
        count=count,
        pitch=pitch,
        handedness=int(rng.choice([-1, 1])),
        phase=bar.angle if barred else _angle(rng),
        start_px=bar.length_px * 0.9 if barred else scale_px * float(rng.uniform(0.3, 0.8)),
        sharpness=float(rng.uniform(1.0, 2.5)),
        clumpiness=float(np.clip(rng.beta(1.5, 3.0) + 0.06 * (count - 2), 0.0, 1.0)),
    )


def _artifact(rng: np.random.Generator) -> Galaxy:
    """Draw a frame whose subject is a saturated star, or almost nothing under a trail."""
    galaxy = _spheroid(rng)
    return replace(
        galaxy,
        family=Family.ARTIFACT,
        flux=galaxy.flux * float(rng.uniform(0.02, 0.3)),
        sky=draw_artifact_sky(rng),
    )
