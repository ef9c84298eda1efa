"""A part of `benchmarks.gpu`: train.py as users run it, and how busy it keeps the GPU."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from signal import SIGINT
from tempfile import TemporaryDirectory

from benchmarks.measuring import ROOT, CheckFailedError, Result, ask_nvidia_smi, last_line, measured
from benchmarks.throughput import Setup
from galaxy_zoo.console import INTERRUPTED

TRAINED = ("quick", "ng_cnn", "small_data x 4", "ng_resnet50", "dieleman", "fast", "best")
"""Recipes, each with the number of its members if it is not one."""

EPOCHS, LOOK_EVERY_S = 4, 0.05


def trainings(setup: Setup) -> Iterator[Result]:
    """Train each of `TRAINED` for `EPOCHS` epochs: images per second, and the use of the GPU from the second on.

    The use is what nvidia-smi says: the share of the last 1/6 to 1 s in which the GPU worked, scoring and checkpoints
    included.
    """
    for label in TRAINED[:1] if setup.quick else TRAINED:
        name, _, members = label.partition(" x ")
        with TemporaryDirectory() as folder:
            run = Path(folder) / "run"
            options = ["--members", members or "1", "--no-pretrained", "--device", setup.device, "--out", str(run)]
            uses = train(["train.py", str(setup.shards), "--recipe", name, *options], run)
            epochs = [json.loads(line) for line in log_lines(run)]
        later = epochs[1:EPOCHS]
        yield measured(f"{label}: train.py", "images/s", [epoch["images_per_s"] for epoch in later])
        for wait in ("data_wait", "host_wait") if setup.on_gpu else ("data_wait",):
            what = f"{label}: train.py, {wait.replace('_', ' ')}"
            yield measured(what, "%", [100 * epoch[wait] for epoch in later])
        if uses:
            yield measured(f"{label}: device busy", "%", [statistics.mean(uses)])


def train(command: list[str], run: Path) -> list[float]:
    """Run train.py until `EPOCHS` epochs are logged, then press Ctrl-C; return the uses of the GPU since the first.

    Raises:
        CheckFailedError: it ends otherwise.
    """
    uses: list[float] = []
    with (
        (run.parent / "errors").open("w+") as errors,
        subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=errors, text=True
        ) as process,
    ):
        while process.poll() is None and (done := len(log_lines(run))) < EPOCHS:
            if done and (use := ask_nvidia_smi("utilization.gpu")).isdecimal():
                uses.append(float(use))
            time.sleep(LOOK_EVERY_S)
        process.send_signal(SIGINT)  # nothing to a process that has ended
        if process.wait() not in (0, INTERRUPTED):
            errors.seek(0)
            raise CheckFailedError(
                f"{' '.join(command)}: exit code {process.returncode}: {last_line(errors.read())}"
            )
    return uses


def log_lines(run: Path) -> list[str]:
    """Return the lines of the log of the first member, one for each epoch."""
    log = run / "member-00" / "metrics.jsonl"
    return log.read_text().splitlines() if log.exists() else []
