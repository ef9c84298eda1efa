"""A part of `benchmarks.gpu`: train.py as users run it, and how busy it keeps the GPU."""

import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from signal import SIGINT
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.measuring import ROOT, CheckFailedError, Result, ask_nvidia_smi, last_line, measured
from benchmarks.throughput import Setup
from galaxy_zoo.console import INTERRUPTED

TRAINED = ("quick", "ng_cnn", "small_data x 4", "ng_resnet50", "dieleman", "fast", "best")
"""Recipes, each with the number of its members if it is not one."""

EPOCHS, LENGTH = 4, 40
"""Epochs after which a training may be stopped; those it is given at least, so that a fast one lasts some seconds."""

SETTLING_S, WATCHED_S, LOOK_EVERY_S, ENDING_S = 1.0, 5.0, 0.05, 60.0


def trainings(setup: Setup) -> Iterator[Result]:
    """Train each of `TRAINED` for some epochs: images per second, and the use of the GPU from the second epoch on.

    The use is what nvidia-smi says: the share of the last 1/6 to 1 s in which the GPU worked, scoring and checkpoints
    included.
    """
    problems = []
    for label in TRAINED[:1] if setup.quick else TRAINED:
        try:
            yield from training(setup, label)
        except CheckFailedError as error:
            problems.append(str(error))
    if problems:
        raise CheckFailedError("; ".join(problems))


def training(setup: Setup, label: str) -> Iterator[Result]:
    """Measure one training."""
    name, _, members = label.partition(" x ")
    epochs = max(LENGTH, setup.recipe(name).training.epochs)
    options = ["--recipe", name, "--epochs", str(epochs), "--members", members or "1", "--no-pretrained"]
    with TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        uses = train(setup, options, run, epochs=EPOCHS, watched_s=WATCHED_S if setup.on_gpu else 0.0)
        later = logged(run)[1:]
    yield measured(f"{label}: train.py", "images/s", [epoch["images_per_s"] for epoch in later])
    for wait in ("data_wait", "host_wait") if setup.on_gpu else ("data_wait",):
        shares = [100 * epoch[wait] for epoch in later]
        yield measured(f"{label}: train.py, {wait.replace('_', ' ')}", "%", shares)
    if uses:
        yield measured(f"{label}: device busy", "%", [statistics.mean(uses)])


def train(setup: Setup, options: list[str], run: Path, *, epochs: int, watched_s: float = 0.0) -> list[float]:
    """Run train.py on the shards of a setup, and press Ctrl-C after some epochs; return the uses that `watch` saw.

    Raises:
        CheckFailedError: it fails, ends before that, or does not end when asked to.
    """
    command = ["train.py", str(setup.shards), *options, "--device", setup.device, "--out", str(run)]
    with (run.parent / "errors").open("w+") as errors:
        process = subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=errors)
        try:
            uses = watch(process, run, epochs=epochs, watched_s=watched_s)
            process.send_signal(SIGINT)  # without effect on a process that has ended
            code = process.wait(ENDING_S)
        except subprocess.TimeoutExpired as error:
            raise CheckFailedError(f"{' '.join(command)}: runs on {ENDING_S:.0f} s after Ctrl-C") from error
        finally:
            process.kill()
            process.wait()
        if code not in (0, INTERRUPTED) or len(logged(run)) < epochs:
            errors.seek(0)
            raise CheckFailedError(f"{' '.join(command)}: exit code {code}: {last_line(errors.read())}")
    return uses


def watch(process: subprocess.Popen[bytes], run: Path, *, epochs: int, watched_s: float) -> list[float]:
    """Wait for a number of epochs, or for the process to end; return uses of the GPU in per cent.

    watched_s: seconds for which the GPU is watched after the first epoch; 0: not at all.
    """
    uses: list[float] = []
    start = math.inf  # of watching, known once the first epoch is logged
    while process.poll() is None:
        done, now = len(logged(run)), time.monotonic()
        if done:
            start = min(start, now + SETTLING_S)
        if done >= epochs and now >= start + watched_s:
            break
        if watched_s and now >= start and (use := ask_nvidia_smi("utilization.gpu")).isdecimal():
            uses.append(float(use))
        time.sleep(LOOK_EVERY_S)
    return uses


def logged(run: Path) -> list[dict[str, Any]]:
    """Return the log of the first member, one mapping for each epoch."""
    log = run / "member-00" / "metrics.jsonl"
    lines = log.read_text().splitlines(keepends=True) if log.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]
