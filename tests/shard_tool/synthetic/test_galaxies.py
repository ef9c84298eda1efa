"""Properties of the population that synthetic galaxies are drawn from."""

import numpy as np
import pytest

from shard_tool.synthetic.galaxies import FRAME_PX, Family, Galaxy, Odd
from shard_tool.synthetic.population import draw_galaxy
from shard_tool.synthetic.surroundings import NATIVE_PX_RANGE


@pytest.fixture(scope="module")
def galaxies() -> list[Galaxy]:
    return [draw_galaxy(np.random.default_rng([7, index])) for index in range(2000)]


def test_axis_ratios_are_spread_like_those_of_the_kaggle_galaxies(galaxies: list[Galaxy]) -> None:
    measured = np.percentile([galaxy.axis_ratio for galaxy in galaxies], [5, 25, 50, 75, 95])
    np.testing.assert_allclose(measured, [0.31, 0.52, 0.68, 0.82, 0.94], atol=0.06)


def test_galaxies_stand_near_the_centre_of_the_frame(galaxies: list[Galaxy]) -> None:
    offsets = [float(np.hypot(galaxy.x_px, galaxy.y_px)) for galaxy in galaxies]
    assert 1.0 < np.median(offsets) < 4.0
    assert max(offsets) < 18.5


def test_every_odd_feature_and_every_family_occurs(galaxies: list[Galaxy]) -> None:
    assert {galaxy.odd for galaxy in galaxies} == {None, *Odd}
    assert {galaxy.family for galaxy in galaxies} >= {Family.SPHEROID, Family.DISK}


def test_spirals_wind_both_ways_and_have_from_one_to_six_arms(galaxies: list[Galaxy]) -> None:
    spirals = [galaxy.arms for galaxy in galaxies if galaxy.arms.strength > 0.0]
    assert {arms.handedness for arms in spirals} == {-1, 1}
    assert {arms.count for arms in spirals} == set(range(1, 7))


def test_a_galaxy_of_small_angular_size_is_more_blurred(galaxies: list[Galaxy]) -> None:
    ordered = sorted(galaxies, key=lambda galaxy: galaxy.sky.native_px)
    assert NATIVE_PX_RANGE[0] <= ordered[0].sky.native_px < ordered[-1].sky.native_px <= FRAME_PX
    assert ordered[0].visibility(20.0) < ordered[-1].visibility(20.0)


def test_visibility_is_a_share(galaxies: list[Galaxy]) -> None:
    shares = [galaxy.visibility(size_px) for galaxy in galaxies[:50] for size_px in (0.1, 5.0, 400.0)]
    assert 0.0 <= min(shares) <= max(shares) <= 1.0
