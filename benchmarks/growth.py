"""What the loader costs as work grows: images a second by samples, cores, batch and size of the views; and a plot.

    python -m benchmarks.growth shards --out benchmarks/results/growth-cpu.json --plot docs/growth.svg

One thing changes at a time, from 10,200 samples, all cores, batches of 128 and views of 128 px (crop 256 px,
turned by any angle, mirrored). The points of a series are timed epoch by epoch in turn; the medians count, after an
epoch to warm up. Fewer samples than a shard holds are synthetic ones, made in the temporary folder once. On a CPU;
the plot needs matplotlib (the extra `report`).
"""

import json
import os
import platform
import statistics
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click

from benchmarks.gpu_setup import make_shards
from galaxy_zoo.manifest import read_manifest
from galaxy_zoo.view import View
from pipeline.augment import RandomViews
from pipeline.loader import Decoding, Loader, Sampling
from pipeline.shards import Samples, open_split

CORES = sorted(os.sched_getaffinity(0))
SAMPLES = (1_000, 4_000, 10_200, 30_000, 150_000)
BATCHES = (16, 64, 128, 512)
SIZES = (64, 96, 128, 224)
CROP_PX = 256


@dataclass(frozen=True)
class Point:
    """What is measured: an epoch of at most `samples` samples."""

    samples: int = 10_200
    cores: int = len(CORES)
    batch_size: int = 128
    size_px: int = 128


@dataclass
class Measured:
    """A point with the number of samples it really had, and images a second of each run."""

    point: Point
    samples: int
    rates: list[float]

    @property
    def rate(self) -> float:
        """The median."""
        return statistics.median(self.rates)


def series_of(base: Point, most: int) -> dict[str, list[Point]]:
    """The points of each series, by the field that changes."""
    return {
        "samples": [replace(base, samples=count) for count in SAMPLES if count <= most],
        "cores": [replace(base, cores=count) for count in range(1, base.cores + 1)],
        "batch_size": [replace(base, batch_size=size) for size in BATCHES],
        "size_px": [replace(base, size_px=size) for size in SIZES],
    }


def open_samples(shards: Path, most: int) -> Samples:
    """The samples of as many of the first shards, training and test, as hold no more than `most`."""
    manifest = read_manifest(shards)
    chosen, count = [], 0
    for shard in (each for split in manifest.splits.values() for each in split):
        if count + shard.samples <= most:
            chosen.append(shard)
            count += shard.samples
    if chosen:
        return Samples(shards, manifest, chosen)
    return open_split(make_shards(most), "train")[0]


class Epochs:
    """The epochs of a point, one at a time."""

    def __init__(self, shards: Path, point: Point) -> None:
        self.point, self._next = point, 0
        view = View(crop_px=CROP_PX, size_px=point.size_px, rotation_deg=180, flip=True)
        samples = open_samples(shards, point.samples)
        self.samples = len(samples)
        self._loader = Loader(
            samples,
            RandomViews(view, (0,)),
            Sampling(batch_size=point.batch_size),
            Decoding(num_threads=point.cores),
        )

    def images_per_s(self) -> float:
        """Load the next epoch, on the first cores."""
        os.sched_setaffinity(0, CORES[: self.point.cores])  # threads that start here keep to them
        started = time.perf_counter()
        images = sum(len(batch.ids) for batch in self._loader.epoch(self._next))
        self._next += 1
        return images / (time.perf_counter() - started)


def measure(shards: Path, points: list[Point], runs: int) -> list[Measured]:
    """Time the epochs of some points in turn."""
    epochs = [Epochs(shards, point) for point in points]
    measured = [Measured(each.point, each.samples, []) for each in epochs]
    for run in range(runs + 1):
        for each, result in zip(epochs, measured, strict=True):
            rate = each.images_per_s()
            click.echo(f"run {run} of {runs}: {each.point}: {rate:.0f} images/s", err=True)
            if run:
                result.rates.append(rate)
    return measured


def plot(results: dict[str, list[Measured]], path: Path) -> None:
    """Draw a panel a series: images a second, from 0."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    names = {
        "samples": "samples",
        "cores": "cores",
        "batch_size": "batch size",
        "size_px": "size of the views, px",
    }
    figure = Figure(figsize=(10, 2.6), layout="constrained")
    for axes, (field, series) in zip(figure.subplots(1, len(results), sharey=True), results.items(), strict=True):
        values = [each.samples if field == "samples" else getattr(each.point, field) for each in series]
        low = [each.rate - min(each.rates) for each in series]
        high = [max(each.rates) - each.rate for each in series]
        axes.errorbar(values, [each.rate for each in series], yerr=[low, high], marker="o", capsize=3)
        if field != "cores":
            axes.set_xscale("log")
        axes.set_xticks(values, [f"{value:,}" for value in values], rotation=45, minor=False)
        axes.minorticks_off()
        axes.set_xlabel(names[field])
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("images/s")
    figure.axes[0].set_ylim(bottom=0)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


@click.command(context_settings={"show_default": True})
@click.argument("shards", type=click.Path(path_type=Path))
@click.option("--runs", default=3, type=click.IntRange(1), help="Timed epochs of each point.")
@click.option("--most", default=150_000, type=click.IntRange(1000), help="Samples of the largest point.")
@click.option("--base", default=10_200, type=click.IntRange(1), help="Samples of all other series.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="JSON file to write.")
@click.option("--plot", "figure", type=click.Path(path_type=Path), default=None, help="SVG or PNG to draw.")
def main(shards: Path, runs: int, most: int, base: int, out: Path, figure: Path | None) -> None:
    """Time the loader on the folder SHARDS."""
    results = {}
    for field, points in series_of(Point(samples=base), most).items():
        results[field] = measure(shards, points, runs)
        os.sched_setaffinity(0, CORES)
    machine = f"{len(CORES)} cores, {platform.processor() or platform.machine()}"
    series = {field: [asdict(each) for each in some] for field, some in results.items()}
    out.write_text(json.dumps({"machine": machine, "runs": runs, "series": series}, indent=1) + "\n")
    for field, some in results.items():
        for each in some:
            value = each.samples if field == "samples" else getattr(each.point, field)
            click.echo(f"{field:10} {value:>9,} {each.rate:9.0f} images/s")
    if figure is not None:
        plot(results, figure)


if __name__ == "__main__":
    main()
