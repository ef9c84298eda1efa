"""The number of threads and the share of the hardware JPEG engine, measured once on a machine and remembered.

`tune` is what the scripts call. What was measured lies in calibration.json in $XDG_CACHE_HOME/galaxy-zoo (by default
~/.cache/galaxy-zoo), an entry for each machine, device, set of versions and geometry of stamps. Without an entry a
loader takes all cores and DALI's own share.
"""

import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any

import click
import torch

from galaxy_zoo.files import cache_folder, write_text
from pipeline.augment import Views
from pipeline.loader import Batch, Loader
from pipeline.shards import Samples

MEASURE_S = 2.0
WARM_UP_BATCHES = 4
WORTH_IT = 1.03
"""How much faster another setting has to be than the one before; less is noise."""

HW_DECODER_LOADS = (0.0, 0.25, 0.5, 0.75, 1.0)
PACKAGES = ("nvidia-dali-cuda120", "torch", "opencv-python-headless")

Measure = Callable[["Tuning"], float]
"""Images a second with a setting."""


@dataclass(frozen=True)
class Tuning:
    """Settings of a `Loader` that change its speed and nothing else; None is the loader's own choice."""

    num_threads: int | None = None
    hw_decoder_load: float | None = None


def tune(
    samples: Samples,
    views: Views,
    *,
    batch_size: int,
    device: torch.device,
    threads: int | None = None,
    calibrate: bool = False,
) -> Tuning:
    """The settings for a loader of these views: as measured before, or now where `calibrate`.

    Args:
        threads: as the user wants it, whatever is fastest.
    """
    stamp = views.stamp(samples.image_px)
    key = f"{_machine(device)}, stamp {stamp.window_px} to {stamp.size_px}, view {views.view.size_px} px"
    if not calibrate:
        known = _read_entries().get(key, Tuning())
        return replace(known, num_threads=threads) if threads else known

    def measure(tuning: Tuning) -> float:
        with Loader(samples, views, batch_size=batch_size, device=device, **asdict(tuning)) as loader:
            return _images_per_s(loader, device)

    best = fastest(measure, threads=[threads] if threads else _thread_counts(), on_gpu=device.type == "cuda")
    _remember(key, best)
    return best


def fastest(measure: Measure, *, threads: list[int], on_gpu: bool) -> Tuning:
    """Measure the numbers of threads, then with the best one the shares of the JPEG engine; says what it finds."""
    best = _best([Tuning(each) for each in threads], measure)
    if on_gpu:
        best = _best([best, *(replace(best, hw_decoder_load=load) for load in HW_DECODER_LOADS)], measure)
    return best


def _best(tunings: list[Tuning], measure: Measure) -> Tuning:
    """The first one, unless a later one is clearly faster."""
    best, best_rate = tunings[0], 0.0
    for tuning in tunings:
        rate = measure(tuning)
        load = "" if tuning.hw_decoder_load is None else f", hw_decoder_load {tuning.hw_decoder_load:.2f}"
        click.echo(f"calibrate: {tuning.num_threads} threads{load}: {rate:.0f} images/s", err=True)
        if rate > best_rate * WORTH_IT:
            best, best_rate = tuning, rate
    return best


def _images_per_s(loader: Loader, device: torch.device) -> float:
    batches = _endless(loader)
    for _ in range(WARM_UP_BATCHES):
        next(batches)
    images, started = 0, time.perf_counter()
    while time.perf_counter() - started < MEASURE_S:
        images += len(next(batches).ids)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return images / (time.perf_counter() - started)


def _endless(loader: Loader) -> Iterator[Batch]:
    for epoch in count():
        yield from loader.epoch(epoch)


def _thread_counts() -> list[int]:
    """All cores, half of them and a quarter."""
    cores = len(os.sched_getaffinity(0))
    return sorted({max(1, cores // share) for share in (1, 2, 4)}, reverse=True)


def _machine(device: torch.device) -> str:
    """All that a measurement depends on but the images."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    versions = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    return f"{platform.node()}, {name}, {len(os.sched_getaffinity(0))} cores, {versions}"


def cache_path() -> Path:
    """The file with what was measured."""
    return cache_folder() / "calibration.json"


def _read_entries() -> dict[str, Tuning]:
    """What was measured, by key; nothing, with a warning, where the file is damaged."""
    path = cache_path()
    try:
        return {key: _tuning(entry) for key, entry in json.loads(path.read_text()).items()}
    except FileNotFoundError:
        return {}
    except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        click.echo(
            f"warning: {path}: ignored, it cannot be used ({error}); measure again with --calibrate", err=True
        )
        return {}


def _tuning(entry: dict[str, Any]) -> Tuning:
    threads, load = int(entry["num_threads"]), entry["hw_decoder_load"]
    if threads < 1 or not (load is None or 0 <= float(load) <= 1):
        raise ValueError(f"{threads} threads, hw_decoder_load {load}")
    return Tuning(threads, None if load is None else float(load))


def _remember(key: str, tuning: Tuning) -> None:
    path, entries = cache_path(), {**_read_entries(), key: tuning}
    text = json.dumps({key: asdict(each) for key, each in entries.items()}, indent=1) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    except OSError as error:
        click.echo(f"warning: {path}: cannot be written ({error.strerror}); used for this run only", err=True)
    else:
        click.echo(f"calibrate: {path} has it for the next runs", err=True)
