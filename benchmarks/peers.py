"""Compare the loader with others that do the same work on the same cores, in turn, in one run.

    python -m benchmarks.peers shards --peers PYTHON --out benchmarks/results/peers-cpu.json

`benchmarks/peer_loaders.py` describes the work and how each loader is set up. Every contender is a process on the same
cores, with as many threads or workers. One epoch warms it up, then all are timed epoch by epoch in turn; the results
are medians and their ratios. `error` is the root of the mean squared difference between views and an 8 x 8
supersampled reference, in grey levels (0-255): it shows which views are of equal quality.

PYTHON is an interpreter with the peers, in a separate environment that sees this project's packages:

    python -m venv peers
    python -c 'import site; print(site.getsitepackages()[0])' > $(echo peers/lib/python3*/site-packages)/project.pth
    peers/bin/pip install litdata spdl numba mosaicml-streaming
    apt-get install libopencv-dev libturbojpeg0-dev pkg-config libavfilter8 libavdevice59    # FFCV and SPDL, Debian 12
    peers/bin/pip install setuptools wheel pybind11
    peers/bin/pip install --no-build-isolation --no-deps ffcv
    peers/bin/pip install fastargs assertpy imgcat terminaltables

A contender that fails is listed with the last line it printed. Without --peers only those run that need no more than
this project's development packages.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import click
import numpy as np
import psutil
import simplejpeg
from numpy.typing import NDArray

from benchmarks.measuring import ROOT, provenance, write_json
from benchmarks.peer_loaders import CROP_PX, OURS, PEERS, SIZE_PX
from benchmarks.processes import memory_bytes
from benchmarks.warp_error import TurnedViews, references, rms
from galaxy_zoo.console import Command
from galaxy_zoo.view import View
from pipeline.shards import Samples, open_shards

NEED_NO_PEERS = ("torchvision", "torchvision_cut", "webdataset", *OURS)
BASE = "torchvision"
VIEW = View(crop_px=CROP_PX, size_px=SIZE_PX, rotation_deg=180)


class BrokenError(Exception):
    """A contender did not answer; the message says why."""


class Contender:
    """A process that loads an epoch when asked."""

    def __init__(self, name: str, python: str, arguments: Sequence[str], folder: Path) -> None:
        self._log, self._folder = folder / f"{name}.log", folder
        command = [python, "-m", "benchmarks.peer_loaders", name, *arguments]
        with self._log.open("w") as log:
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log}
            self._process = subprocess.Popen(command, cwd=ROOT, text=True, **pipes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """End the process and its workers."""
        with suppress(psutil.NoSuchProcess):
            workers = psutil.Process(self._process.pid).children(recursive=True)
            for each in workers:
                with suppress(psutil.NoSuchProcess):
                    each.kill()
        self._process.kill()
        self._process.communicate()

    def epoch(self) -> tuple[float, float]:
        """Load an epoch; return images per second, and milliseconds of processor time per image."""
        before = self._cpu_s()
        done = self._ask({})
        after = self._cpu_s()
        cpu_s = sum(seconds - before.get(pid, 0.0) for pid, seconds in after.items())
        return done["images"] / done["seconds"], 1000 * cpu_s / done["images"]

    def views(self, angles: list[float]) -> tuple[NDArray[np.float32], dict[str, str]]:
        """Return the views of the first images turned by `angles` in degrees, and the versions of its packages."""
        out = self._folder / "views.npy"
        versions = self._ask({"angles": angles, "out": str(out)})["versions"]
        return np.load(out), versions

    def _ask(self, question: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            print(json.dumps(question), file=self._process.stdin, flush=True)
        if not (line := self._process.stdout.readline()):
            raise BrokenError((self._log.read_text().strip().splitlines() or ["no answer"])[-1])
        return json.loads(line)

    def _cpu_s(self) -> dict[int, float]:
        seconds: dict[int, float] = {}
        memory_bytes(psutil.Process(self._process.pid), seconds)
        return seconds


@dataclass(kw_only=True)
class Row:
    """Measurements of one contender."""

    name: str
    error: float = 0.0
    rates: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    failed: str = ""

    @property
    def rate(self) -> float:
        """Median of images per second."""
        return statistics.median(self.rates) if self.rates else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the row as JSON values."""
        if self.failed:
            return {"name": self.name, "failed": self.failed}
        rates, cpu_ms = [round(rate, 1) for rate in self.rates], round(statistics.median(self.cpu_ms), 3)
        measured = {"images_per_s": round(self.rate, 1), "runs": rates, "cpu_ms_per_image": cpu_ms}
        return {"name": self.name, **measured, "error_levels": round(self.error, 3), "versions": self.versions}


def write_files(samples: Samples, folder: Path) -> None:
    """Write the JPEGs of samples to files, named by their position."""
    folder.mkdir()
    for place, jpeg in enumerate(samples.jpegs(np.arange(len(samples)))):
        (folder / f"{place:07d}.jpg").write_bytes(jpeg.tobytes())


def check(contenders: dict[str, Contender], samples: Samples, count: int) -> list[Row]:
    """Return a row for each contender, with the error of its first `count` views."""
    angles = [(37.3 * place) % 360 for place in range(count)]
    images = [simplejpeg.decode_jpeg(jpeg) for jpeg in samples.jpegs(np.arange(count))]
    either_way = [references(images, TurnedViews(VIEW, tuple(way * angle for angle in angles))) for way in (1, -1)]
    rows = []
    for name, contender in contenders.items():
        try:
            views, versions = contender.views(angles)
        except BrokenError as error:
            rows.append(Row(name=name, failed=str(error)))
        else:  # libraries differ in the sign of an angle
            error_levels = min(rms(views - truth) for truth in either_way)
            rows.append(Row(name=name, error=error_levels, versions=versions))
    return rows


def measure(contenders: dict[str, Contender], rows: list[Row], runs: int) -> None:
    """Time the contenders that work, epoch by epoch in turn, and write the results into their rows."""
    for run in range(runs + 1):  # the first run warms up
        for row in [row for row in rows if not row.failed]:
            try:
                rate, cpu_ms = contenders[row.name].epoch()
            except BrokenError as error:
                row.failed = str(error)
                continue
            click.echo(
                f"run {run} of {runs}: {row.name}: {rate:.0f} images/s, {cpu_ms:.2f} ms of CPU each", err=True
            )
            if run:
                row.rates.append(rate)
                row.cpu_ms.append(cpu_ms)


def table(rows: list[Row]) -> str:
    """Return the results as a table in Markdown."""
    base = next((row.rate for row in rows if row.name == BASE), 0.0)
    lines = ["| loader | images/s | ratio | min to max | CPU ms/image | error |", "|---|---|---|---|---|---|"]
    for row in sorted(rows, key=lambda row: row.rate):
        if row.failed:
            lines.append(f"| {row.name} | failed: {row.failed} | | | | |")
            continue
        ratio = f"{row.rate / base:.2f}" if base else ""
        spread = f"{min(row.rates):.0f} to {max(row.rates):.0f}"
        cpu_ms = statistics.median(row.cpu_ms)
        lines.append(f"| {row.name} | {row.rate:.0f} | {ratio} | {spread} | {cpu_ms:.2f} | {row.error:.2f} |")
    return "\n".join(lines)


@click.command(cls=Command, context_settings={"show_default": True})
@click.argument("shards", type=click.Path(path_type=Path))
@click.option("--peers", "python", default="", help="Interpreter that has the peers; see `benchmarks/peers.py`.")
@click.option("--only", default="", help="Names of contenders, separated by commas.  [default: all that can run]")
@click.option("--runs", default=5, type=click.IntRange(1), help="Number of timed epochs of each.")
@click.option(
    "--cores",
    default=len(os.sched_getaffinity(0)),
    type=click.IntRange(1),
    help="Number of cores, and of threads of each.",
)
@click.option(
    "--checked", default=100, type=click.IntRange(1), help="Number of images to compare with the reference."
)
@click.option("--out", type=click.Path(path_type=Path), default=None, help="JSON file to write.")
def main(shards: Path, python: str, only: str, runs: int, cores: int, checked: int, out: Path | None) -> None:
    """Time the loaders on the training images of the folder SHARDS.

    \b
    Example:
      python -m benchmarks.peers shards --only torchvision,ours
    """
    known = {**PEERS, **OURS}
    names = only.split(",") if only else [name for name in known if python or name in NEED_NO_PEERS]
    if wrong := set(names) - set(known):
        raise click.BadParameter(f"{', '.join(wrong)}; known: {', '.join(known)}", param_hint="--only")
    samples = open_shards(shards, "train")
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])  # all contenders inherit this
    with TemporaryDirectory() as text, ExitStack() as stack:
        folder = Path(text)
        write_files(samples, folder / "files")
        arguments = [str(shards.resolve()), text, "--threads", str(cores)]
        interpreters = {name: python if python and name not in OURS else sys.executable for name in names}
        contenders = {
            name: stack.enter_context(Contender(name, interpreter, arguments, folder))
            for name, interpreter in interpreters.items()
        }
        rows = check(contenders, samples, min(checked, len(samples)))
        measure(contenders, rows, runs)
    click.echo(table(rows))
    if out is not None:
        about = provenance() | {"images": len(samples), "runs": runs}
        write_json(out, about | {"results": [row.to_dict() for row in rows]})


if __name__ == "__main__":
    main()
