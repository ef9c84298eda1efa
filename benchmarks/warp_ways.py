"""Ways to make one view of a stamp in memory with OpenCV, in turn, on one thread.

    python -m benchmarks.warp_ways --runs 9

Microseconds of processor time an image (not of the clock, so that other work on the machine counts less), medians:
random uint8 stamps of 273 px, more than a cache holds, met in random order; warped by any angle to 128 px.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import click
import cv2
import numpy as np
from numpy.typing import NDArray

from galaxy_zoo.view import View
from pipeline.augment import RandomViews
from pipeline.warp import FLAGS

VIEW = View(crop_px=256, size_px=128, rotation_deg=180, flip=True)
STAMP = VIEW.stamp((424, 424))
SIZE = (VIEW.size_px, VIEW.size_px)


class Ways:
    """The ways; each is called with the number of a stamp, and leaves its view in memory of its own."""

    def __init__(self, count: int) -> None:
        rng = np.random.default_rng(0)
        self._stamps = rng.integers(0, 256, (count, *STAMP.size_px, 3), dtype=np.uint8)
        (parameters,) = RandomViews(VIEW, (0,)).parameters(STAMP, 0, range(count))
        self._warps = parameters.warps
        self._view, self._four = np.empty((*SIZE, 3), np.uint8), np.empty((*SIZE, 4), np.uint8)
        self._wide = np.empty((*STAMP.size_px, 4), np.uint8)
        self._normal = np.empty((*SIZE, 3), np.float32)
        self._gain, self._offset = np.full((2, 3 * SIZE[0]), [[1 / 127.5], [-1]], np.float32)
        self._table = np.tile(np.linspace(-1, 1, 256, dtype=np.float32)[None, :, None], (1, 1, 3))

    def in_place(self, i: int) -> None:
        """Warp the stamp where it lies."""
        self._warp(self._stamps[i], i, self._view)

    def copied(self, i: int) -> None:
        """Copy the stamp into the cache in one sweep, then warp it."""
        self._warp(self._stamps[i].copy(), i, self._view)

    def four_channels(self, i: int) -> None:
        """Copy it with a fourth channel, warp, and take the fourth away again: what the pipeline does."""
        cv2.cvtColor(self._stamps[i], cv2.COLOR_RGB2RGBA, dst=self._wide)
        self._warp(self._wide, i, self._four)
        cv2.cvtColor(self._four, cv2.COLOR_RGBA2RGB, dst=self._view)

    def four_then_table(self, i: int) -> None:
        """The same, and look up the normalised values: what the pipeline does."""
        self.four_channels(i)
        cv2.LUT(self._view, self._table, dst=self._normal)

    def four_then_multiplied(self, i: int) -> None:
        """The same, multiplied and added to, a row of pixels at a time."""
        self.four_channels(i)
        rows = self._normal.reshape(len(self._normal), -1)
        np.multiply(self._view.reshape(rows.shape), self._gain, out=rows)
        np.add(rows, self._offset, out=rows)

    def in_float(self, i: int) -> None:
        """Normalise the stamp, then warp floats."""
        self._warp(cv2.LUT(self._stamps[i], self._table), i, self._normal)

    def _warp(self, stamp: Any, i: int, out: NDArray[Any]) -> None:
        cv2.warpAffine(stamp, self._warps[i], SIZE, dst=out, flags=FLAGS)


@click.command(context_settings={"show_default": True})
@click.option("--count", default=1000, type=click.IntRange(1), help="Stamps, 0.22 MB each.")
@click.option("--runs", default=9, type=click.IntRange(1), help="Runs of each way, after one to warm up.")
def main(count: int, runs: int) -> None:
    """Time the ways from a stamp to a view."""
    cv2.setNumThreads(1)
    ways, order = Ways(count), np.random.default_rng(1).permutation(count).tolist()
    named: list[Callable[[int], None]] = [
        ways.in_place,
        ways.copied,
        ways.four_channels,
        ways.four_then_table,
        ways.four_then_multiplied,
        ways.in_float,
    ]
    taken: dict[str, list[float]] = {way.__name__: [] for way in named}
    for run in range(runs + 1):
        for way in named:
            started = time.process_time()
            for i in order:
                way(i)
            if run:
                taken[way.__name__].append((time.process_time() - started) / count * 1e6)
    for name, values in taken.items():
        click.echo(f"{name:24}{statistics.median(values):8.1f} us  ({min(values):.1f} to {max(values):.1f})")


if __name__ == "__main__":
    main()
