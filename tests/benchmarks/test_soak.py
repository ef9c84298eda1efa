"""What benchmarks/soak.py makes of what it has seen."""

import pytest

from benchmarks.soak import SETTLED, Footprint, slope, summarise


def held(count: int, *, mb_per_epoch: float, files: int = 9) -> list[Footprint]:
    return [
        Footprint(epoch=epoch, seconds=1.0, memory_mb=100 + mb_per_epoch * epoch, files=files, threads=4, maps=50)
        for epoch in range(count)
    ]


def test_a_leak_shows_as_its_size_an_epoch() -> None:
    summary = summarise(held(SETTLED + 40, mb_per_epoch=0.25, files=12))
    assert summary["memory_mb_per_epoch"] == pytest.approx(0.25)
    assert summary["files"] == [12, 12]


def test_what_grows_before_all_buffers_are_made_does_not_count() -> None:
    grown = [*held(SETTLED, mb_per_epoch=5), *held(30, mb_per_epoch=0)]
    assert summarise(grown)["memory_mb_per_epoch"] == pytest.approx(0)


def test_the_slope_of_noise_is_within_its_error() -> None:
    growth, error = slope([1.0, -1.0] * 20)
    assert abs(growth) < error
