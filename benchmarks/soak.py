"""Check for leaks of memory, files or threads: train for many epochs with predictions in between, in one process.

    python -m benchmarks.soak shards --epochs 100

It runs `train.py` and `predict.py` as they are: two members, a checkpoint after every step, no resident stamps, so that
every epoch reads and decodes the shards. After each epoch it measures what the process holds. Growth counts from epoch
SETTLED on, when every buffer is allocated and every thread started.
"""

import gc
import json
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
import psutil

from benchmarks.measuring import RESULTS, provenance, write_json
from galaxy_zoo.console import Command
from prediction.command import predict
from training.command import train
from training.loop import Trainer

SETTLED = 20


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """What the process holds after an epoch. memory_mb: resident, in 1e6 bytes; files: open file descriptors."""

    epoch: int
    seconds: float
    memory_mb: float
    files: int
    threads: int
    maps: int


def footprint(epoch: int, began: float) -> Footprint:
    """Return what this process holds now, after collecting garbage."""
    gc.collect()
    process = psutil.Process()
    maps = len(Path("/proc/self/maps").read_text().splitlines())
    memory = process.memory_info().rss / 1e6
    return Footprint(
        epoch=epoch,
        seconds=time.monotonic() - began,
        memory_mb=memory,
        files=process.num_fds(),
        threads=process.num_threads(),
        maps=maps,
    )


def soak(run: Callable[[], None], after_epoch: Callable[[int], None], *, limit_s: float) -> list[Footprint]:
    """Run a training and return the footprint after each epoch; stop it at the limit, as Ctrl-C does."""
    finish, began, held = Trainer.finish_epoch, time.monotonic(), list[Footprint]()

    def finish_and_look(trainer: Trainer, epoch: int) -> None:
        finish(trainer, epoch)
        after_epoch(len(held) + 1)
        held.append(footprint(len(held) + 1, began))
        if time.monotonic() - began > limit_s:
            signal.raise_signal(signal.SIGINT)

    Trainer.finish_epoch = finish_and_look  # type: ignore[method-assign, assignment]
    try:
        run()
    except SystemExit:  # training stopped and saved
        pass
    finally:
        Trainer.finish_epoch = finish  # type: ignore[method-assign]
    return held


def slope(values: list[float]) -> tuple[float, float]:
    """Return the growth of a value per epoch, by least squares, and its standard error."""
    epochs = np.arange(len(values))
    coefficients, covariance = np.polyfit(epochs, values, 1, cov=True)
    return float(coefficients[0]), float(np.sqrt(covariance[0, 0]))


def summarise(held: list[Footprint]) -> dict[str, object]:
    """Return the growth since epoch SETTLED, and the least and the most held since then."""
    settled = held[SETTLED:]
    memory = [each.memory_mb for each in settled]
    growth, error = slope(memory)
    fifth = max(1, len(memory) // 5)
    ranges = {
        name: [min(getattr(each, name) for each in settled), max(getattr(each, name) for each in settled)]
        for name in ("memory_mb", "files", "threads", "maps")
    }
    medians = [float(np.median(some)) for some in (memory[:fifth], memory[-fifth:])]
    slopes = {"memory_mb_per_epoch": growth, "standard_error": error, "memory_mb_first_and_last_fifth": medians}
    return {"epochs": len(held), **slopes, **ranges}


@click.command(cls=Command, context_settings={"show_default": True})
@click.argument("shards", type=click.Path(path_type=Path))
@click.option("--epochs", default=100, type=click.IntRange(SETTLED + 3), help="Number of epochs.")
@click.option("--predict-every", default=5, type=click.IntRange(1), help="Number of epochs between predictions.")
@click.option(
    "--minutes", default=20.0, type=click.FloatRange(min=0), help="Stop the training after this many minutes."
)
@click.option("--crop-px", default=64, type=click.IntRange(1), help="Side of the crop in pixels.")
@click.option("--out", default=RESULTS / "soak.json", type=click.Path(path_type=Path), help="JSON file to write.")
def main(shards: Path, epochs: int, predict_every: int, minutes: float, crop_px: int, out: Path) -> None:
    """Train on the folder SHARDS, predict its test galaxies now and then, and print what the process holds.

    \b
    Example:
      python -m benchmarks.soak shards --epochs 100
    """
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        recipe = ["--recipe", "quick", "--set", f"view.crop_px={crop_px}", "--set", "view.size_px=48"]
        options = ["--members", "2", "--fold", "0/4", "--save-steps", "1", "--stamps", "stream", "--workers", "1"]
        training = [str(shards), *recipe, "--epochs", str(epochs), "--out", str(run), *options]

        def predict_now_and_then(epoch: int) -> None:
            if epoch % predict_every == 0:
                arguments = [str(run), str(shards), "--views", "4", "--out", f"{folder}/s.csv", "--workers", "1"]
                predict(arguments, standalone_mode=False)

        held = soak(lambda: train(training, standalone_mode=False), predict_now_and_then, limit_s=60 * minutes)
    summary = summarise(held)
    write_json(out, provenance() | {"summary": summary, "held": [asdict(each) for each in held]})
    click.echo(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
