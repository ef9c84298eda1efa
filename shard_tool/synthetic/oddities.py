"""Give a galaxy an odd feature: the answers of question 8."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from shard_tool.synthetic.galaxies import Arc, Blob, Family, Galaxy, Odd, Ring, Seam, Star
from shard_tool.synthetic.surroundings import draw_companion

Rng = np.random.Generator


def add_oddity(galaxy: Galaxy, odd: Odd | None, rng: Rng) -> Galaxy:
    """Give `galaxy` the feature `odd`, with random strength."""
    if odd is None:
        return galaxy
    oddness = float(rng.beta(2.0, 1.6))
    return _MAKERS[odd](replace(galaxy, odd=odd, oddness=oddness), rng)


def _ring(galaxy: Galaxy, rng: Rng) -> Galaxy:
    """Put a ring on a disk seen from above; a spheroid becomes a lenticular with a ring."""
    axis_ratio = max(galaxy.disk.axis_ratio, float(rng.uniform(0.45, 1.0)))
    disk = replace(galaxy.disk, axis_ratio=axis_ratio, edge_on=False, scale_px=13.0)
    bulge = replace(
        galaxy.bulge,
        fraction=float(rng.uniform(0.2, 0.5)),
        radius_px=float(rng.uniform(4.0, 8.0)),
        axis_ratio=max(axis_ratio, 0.7),
    )
    ring = Ring(strength=0.12 + 0.43 * galaxy.oddness, radius_px=float(rng.uniform(26.0, 44.0)))
    arms = replace(galaxy.arms, strength=galaxy.arms.strength * 0.3)
    return replace(galaxy, family=Family.DISK, disk=disk, bulge=bulge, ring=ring, arms=arms)


def _lens(galaxy: Galaxy, rng: Rng) -> Galaxy:
    """Put one or two thin blue arcs around the galaxy."""
    radius_px = float(rng.uniform(26.0, 50.0))
    angle = float(rng.uniform(0.0, 2.0 * math.pi))
    first = Arc(
        radius_px=radius_px,
        widening=0.0,
        angle=angle,
        extent=float(rng.uniform(0.35, 0.9)),
        width_px=float(rng.uniform(2.5, 5.0)),
        brightness=12.0 + 45.0 * galaxy.oddness,
        blueness=float(rng.uniform(0.3, 1.0)),
    )
    counter = replace(first, angle=angle + math.pi, extent=first.extent * 0.4, radius_px=radius_px * 0.8)
    return replace(galaxy, arcs=(first, counter) if rng.random() < 0.5 else (first,))


def _tail(galaxy: Galaxy, rng: Rng) -> Arc:
    return Arc(
        radius_px=float(rng.uniform(28.0, 45.0)),
        widening=float(rng.uniform(0.25, 0.7)),
        angle=float(rng.uniform(0.0, 2.0 * math.pi)),
        extent=float(rng.uniform(0.8, 1.6)),
        width_px=float(rng.uniform(5.0, 9.0)),
        brightness=5.0 + 30.0 * galaxy.oddness,
        blueness=galaxy.disk.blueness,
    )


def _disturbed(galaxy: Galaxy, rng: Rng) -> Galaxy:
    """Bend the galaxy and pull a tail out of it, or lay a seam of the mosaic over it.

    Volunteers called the seams "disturbed" (look at the Kaggle images with Class8.3 > 0.25).
    """
    if rng.random() < 0.3:
        return _seamed(galaxy, rng)
    tails = tuple(_tail(galaxy, rng) for _ in range(int(rng.integers(1, 3))))
    bend = galaxy.oddness * float(rng.uniform(0.5, 1.0)) * float(rng.choice([-1, 1]))
    return replace(galaxy, bend=bend, arcs=tails)


def _seamed(galaxy: Galaxy, rng: Rng) -> Galaxy:
    seam = Seam(
        offset_px=float(rng.normal(0.0, 6.0)),
        angle=float(rng.uniform(0.0, math.pi)),
        length_px=float(rng.uniform(60.0, 130.0)),
    )
    return replace(galaxy, sky=replace(galaxy.sky, seams=(seam,)))


def _knot(galaxy: Galaxy, rng: Rng) -> Blob:
    along, across = rng.normal(0.0, 20.0), rng.normal(0.0, 20.0) * max(galaxy.disk.axis_ratio, 0.4)
    cos, sin = math.cos(galaxy.angle), math.sin(galaxy.angle)
    return Blob(
        x_px=float(along * cos - across * sin),
        y_px=float(along * sin + across * cos),
        radius_px=float(rng.uniform(3.0, 11.0)),
        axis_ratio=float(rng.uniform(0.4, 1.0)),
        angle=float(rng.uniform(0.0, math.pi)),
        sersic_index=1.0,
        flux=float(galaxy.flux * galaxy.oddness * rng.uniform(0.02, 0.16)),
        blueness=float(rng.uniform(0.5, 1.3)),
    )


def _irregular(galaxy: Galaxy, rng: Rng) -> Galaxy:
    """Make a lopsided blue disk without a bulge, with knots anywhere."""
    disk = replace(
        galaxy.disk,
        axis_ratio=max(galaxy.disk.axis_ratio, 0.35),
        edge_on=False,
        blueness=float(rng.uniform(0.55, 1.0)),
        scale_px=float(rng.uniform(14.0, 19.0)),
    )
    return replace(
        galaxy,
        family=Family.DISK,
        flux=galaxy.flux * 0.6,
        disk=disk,
        bulge=replace(galaxy.bulge, fraction=0.02 * galaxy.bulge.fraction),
        arms=replace(galaxy.arms, strength=galaxy.arms.strength * 0.4, count=1, clumpiness=1.0),
        bend=galaxy.oddness * float(rng.uniform(-1.0, 1.0)),
        companions=tuple(_knot(galaxy, rng) for _ in range(int(rng.integers(4, 11)))),
    )


def _other(galaxy: Galaxy, rng: Rng) -> Galaxy:
    """Lay a bright star or a small galaxy over the galaxy."""
    distance_px = float(rng.uniform(10.0, 50.0))
    if rng.random() < 0.5:
        companions = tuple(
            draw_companion(rng, distance_px=distance_px * share, flux=galaxy.flux * (0.05 + 0.25 * galaxy.oddness))
            for share in rng.uniform(0.6, 1.6, int(rng.integers(1, 4)))
        )
        small = tuple(replace(blob, radius_px=blob.radius_px * 0.5) for blob in companions)
        return replace(galaxy, companions=small)
    angle = rng.uniform(0.0, 2.0 * math.pi)
    star = Star(
        x_px=float(distance_px * math.cos(angle)),
        y_px=float(distance_px * math.sin(angle)),
        flux=float(galaxy.flux * (0.1 + galaxy.oddness) * rng.uniform(0.3, 1.5)),
        blueness=float(rng.uniform(0.2, 1.2)),
    )
    return replace(galaxy, sky=replace(galaxy.sky, stars=(*galaxy.sky.stars, star)))


def _merger(galaxy: Galaxy, rng: Rng) -> Galaxy:
    """Put a galaxy of similar brightness beside this one, usually with a tidal tail."""
    flux = float(galaxy.flux * rng.uniform(0.25, 0.9))
    companion = draw_companion(rng, distance_px=float(rng.uniform(16.0, 52.0)), flux=flux)
    tails = (_tail(galaxy, rng),) if rng.random() < 0.6 else ()
    bend = float(rng.uniform(-0.6, 0.6)) * galaxy.oddness
    share = 0.5 - 0.5 * galaxy.oddness
    near = replace(companion, x_px=companion.x_px * (1 + share), y_px=companion.y_px * (1 + share))
    return replace(galaxy, bend=bend, arcs=tails, companions=(near,))


def _dust_lane(galaxy: Galaxy, rng: Rng) -> Galaxy:
    """Turn the galaxy edge-on, with a dark lane through its bulge."""
    axis_ratio = float(rng.uniform(0.17, 0.26))
    disk = replace(
        galaxy.disk,
        axis_ratio=axis_ratio,
        edge_on=True,
        scale_px=float(rng.uniform(19.0, 23.0)),
        blueness=0.25,
        dust=0.8 + 0.2 * galaxy.oddness,
    )
    bulge = replace(galaxy.bulge, fraction=float(rng.uniform(0.3, 0.55)), radius_px=11.0, axis_ratio=0.65)
    # A lane is thin: it can be seen only in a galaxy of some angular size.
    sky = replace(galaxy.sky, native_px=max(galaxy.sky.native_px, int(rng.integers(200, 320))))
    return replace(galaxy, family=Family.DISK, disk=disk, bulge=bulge, sky=sky)


_MAKERS: dict[Odd, Callable[[Galaxy, Rng], Galaxy]] = {
    Odd.RING: _ring,
    Odd.LENS: _lens,
    Odd.DISTURBED: _disturbed,
    Odd.IRREGULAR: _irregular,
    Odd.OTHER: _other,
    Odd.MERGER: _merger,
    Odd.DUST_LANE: _dust_lane,
}
