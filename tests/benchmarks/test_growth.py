import os
from pathlib import Path

import pytest
from making import NUM_TRAIN

from benchmarks.growth import Measured, Point, measure, open_samples, plot, series_of


def test_points_are_timed_on_their_cores_and_the_first_shards(shards: Path) -> None:
    allowed = os.sched_getaffinity(0)
    try:
        [measured] = measure(shards, [Point(samples=20, cores=1, batch_size=8, size_px=16)], runs=2)
    finally:
        os.sched_setaffinity(0, allowed)
    assert 8 <= measured.samples <= 20
    assert len(measured.rates) == 2
    assert min(measured.rates) > 0
    assert len(open_samples(shards, 10_000)) > NUM_TRAIN  # test shards too


def test_a_series_changes_one_thing() -> None:
    base = Point(cores=2)
    for field, points in series_of(base, 5_000).items():
        assert len(points) > 1
        assert {key for point in points for key in vars(base) if vars(point)[key] != vars(base)[key]} == {field}


def test_the_plot_has_every_series(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    results = {
        field: [Measured(point, point.samples, [90.0, 100.0, 120.0]) for point in points]
        for field, points in series_of(Point(cores=2), 5_000).items()
    }
    plot(results, tmp_path / "growth.svg")
    svg = (tmp_path / "growth.svg").read_text()
    assert svg.startswith("<?xml")
    assert "4,000" in svg
