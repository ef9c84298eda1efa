"""The loader beside a torchvision DataLoader doing the same work, in turn, in one run.

    python -m benchmarks.loader shards --runs 5

The work: read a JPEG, rotate by any angle (bilinear), crop the central 256 px, reduce them to 128 px with
antialiasing, flip, normalise, batches of 128, on the CPU. torchvision reads the same JPEGs from files, with PIL,
on as many worker processes as the loader has threads: what the published systems did. Each is warmed up by an
epoch, in which the resident store is filled, then all are timed epoch by epoch in turn; the medians and their ratio
count. The resident loader makes the same views of stamps that it decoded in the first epoch.
"""

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
import torch
import torchvision
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from galaxy_zoo.view import View
from pipeline.augment import RandomViews
from pipeline.loader import Loader
from pipeline.shards import Samples, open_split
from pipeline.store import StorePolicy

VIEW = View(crop_px=256, size_px=128, rotation_deg=180, flip=True)
BATCH_SIZE = 128


class Files(Dataset[torch.Tensor]):
    """JPEG files with torchvision's transforms."""

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths
        self._transform = transforms.Compose(
            [
                transforms.RandomRotation(180, interpolation=InterpolationMode.BILINEAR),
                transforms.CenterCrop(256),
                transforms.Resize(128, antialias=True),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(VIEW.mean, VIEW.std),
            ]
        )

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        with Image.open(self._paths[index]) as image:
            transformed: torch.Tensor = self._transform(image.convert("RGB"))
            return transformed


def write_files(samples: Samples, folder: Path) -> list[Path]:
    """Write the JPEGs of samples to files."""
    paths = [folder / f"{key}.jpg" for key in samples.keys]
    for path, jpeg in zip(paths, samples.jpegs(np.arange(len(samples))), strict=True):
        path.write_bytes(jpeg.tobytes())
    return paths


def images_per_s(epoch: Callable[[], Iterable[torch.Tensor]]) -> float:
    """Images a second over one epoch."""
    started, count = time.perf_counter(), 0
    for images in epoch():
        count += len(images)
    return count / (time.perf_counter() - started)


@click.command(context_settings={"show_default": True})
@click.argument("shards", type=click.Path(path_type=Path))
@click.option("--runs", default=5, type=click.IntRange(1), help="Timed epochs of each.")
@click.option(
    "--threads", default=len(os.sched_getaffinity(0)), type=click.IntRange(1), help="Threads and workers."
)
def main(shards: Path, runs: int, threads: int) -> None:
    """Time the loader beside torchvision on the training images of the folder SHARDS."""
    samples, _ = open_split(shards, "train")
    views = RandomViews(VIEW, (0,))
    with TemporaryDirectory() as folder:
        files = DataLoader(
            Files(write_files(samples, Path(folder))),
            batch_size=BATCH_SIZE,
            shuffle=True,
            num_workers=threads,
            persistent_workers=True,
        )
        load = partial(Loader, samples, views, batch_size=BATCH_SIZE, num_threads=threads)
        loaders = {
            "resident": load(store=StorePolicy("resident", share=0.9)),
            "opencv": load(),
            "dali": load(backend="dali"),
        }
        sources: dict[str, Callable[[], Iterable[torch.Tensor]]] = {
            "torchvision DataLoader": lambda: files,
            "loader, resident store": lambda: _images(loaders["resident"]),
            "loader (DALI decodes, OpenCV warps: the default)": lambda: _images(loaders["opencv"]),
            "loader (DALI's graph on its CPU backend)": lambda: _images(loaders["dali"]),
        }
        rates: dict[str, list[float]] = {name: [] for name in sources}
        for run in range(runs + 1):  # the first one warms up
            for name, source in sources.items():
                rate = images_per_s(source)
                if run:
                    rates[name].append(rate)
    click.echo(
        f"{len(samples)} images, {threads} threads, {runs} runs; {platform.processor() or platform.machine()}, "
        f"torch {torch.__version__}, torchvision {torchvision.__version__}"
    )
    base = statistics.median(rates["torchvision DataLoader"])
    for name, seen in rates.items():
        median = statistics.median(seen)
        click.echo(
            f"{median:8.0f} img/s  x {median / base:4.2f}  (min {min(seen):.0f}, max {max(seen):.0f})  {name}"
        )


def _images(loader: Loader) -> Iterable[torch.Tensor]:
    return (batch.views[0] for batch in loader.epoch(0))


if __name__ == "__main__":
    main()
