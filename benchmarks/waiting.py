"""What the loader costs a training: steps on batches from it and on one fixed batch, in turns, recipe by recipe.

    python -m benchmarks.waiting
    python -m benchmarks.waiting quick ng_cnn --shards shards --seconds 10

Stamps are kept in memory, as train.py keeps them, and the epoch that fills the store is not counted. On a CPU the
loader and the network share the cores, so what the loader does is time that the network does not have. A batch is
the recipe's, but no more than is trained on in `--seconds`; weights are random. Every recipe is a process of its own.
"""

import json
import shlex
import statistics
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from benchmarks.accuracy import RESULTS, machine
from benchmarks.gpu_isolation import run_isolated
from benchmarks.gpu_setup import Setup, make_shards
from benchmarks.gpu_training import new_member
from ensemble.recipe import Recipe, known_recipes
from galaxy_zoo.console import Command
from galaxy_zoo.files import write_text
from galaxy_zoo.manifest import read_manifest
from pipeline.augment import RandomViews
from pipeline.device import choose_device
from pipeline.loader import Batch, Decoding, Loader, Sampling
from pipeline.stamps import StampPolicy
from training.member import Member
from training.run import current_versions

ROUNDS = 5
SYNTHETIC = 1000
"""Galaxies."""
LONGEST_S = 1200
FEWEST = 2
"""Batch norm wants more than one image."""


def measure(setup: Setup, recipe: Recipe, seconds: float) -> dict[str, Any]:
    """Images a second on a fixed batch and with the loader, medians; and the median of the ratios of neighbours."""
    member = new_member(recipe, read_manifest(setup.shards).tree, setup)
    size = affordable_batch(setup, recipe, member, seconds)
    with _loader(setup, recipe, size) as loader:
        for _ in loader.epoch(0):  # fills the store
            pass
        fixed = next(iter(loader.epoch(1)))
        with closing(endless(loader)) as stream:
            pairs = [
                (rate(member, repeat(fixed), seconds, setup), rate(member, stream, seconds, setup))
                for _ in range(ROUNDS)
            ]
    ratios = [with_loader / alone for alone, with_loader in pairs[1:]]  # the first is to warm up
    return {
        "batch": size,
        "fixed_batch_images_per_s": round(statistics.median(alone for alone, _ in pairs[1:]), 2),
        "with_loader_images_per_s": round(statistics.median(whole for _, whole in pairs[1:]), 2),
        "ratio": round(statistics.median(ratios), 4),
        "ratios": [round(min(ratios), 4), round(max(ratios), 4)],
    }


def affordable_batch(setup: Setup, recipe: Recipe, member: Member, seconds: float) -> int:
    """As many images as the recipe has in a batch, or as are trained on in `seconds`, judged by a step of two."""
    with _loader(setup, recipe, FEWEST) as loader:
        batch = next(iter(loader.epoch(0)))
    member.step(batch.views[0], batch.votes)
    started = time.perf_counter()
    member.step(batch.views[0], batch.votes).item()
    fits = int(FEWEST * seconds / (time.perf_counter() - started))
    return max(FEWEST, min(recipe.training.batch_size, fits, len(setup.samples())))


def rate(member: Member, batches: Iterator[Batch], seconds: float, setup: Setup) -> float:
    """Images a second of the steps that begin within `seconds`."""
    setup.synchronise()
    images, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        batch = next(batches)
        member.step(batch.views[0], batch.votes)
        images += len(batch.votes)
    setup.synchronise()
    return images / (time.perf_counter() - started)


def endless(loader: Loader) -> Generator[Batch, None, None]:
    """Full batches of epoch after epoch."""
    epoch = 1
    while True:
        full = len(loader) - 1 or 1
        for number, batch in enumerate(loader.epoch(epoch)):
            if number < full:
                yield batch
        epoch += 1


def repeat(batch: Batch) -> Iterator[Batch]:
    """The same batch again and again."""
    while True:
        yield batch


def _loader(setup: Setup, recipe: Recipe, size: int) -> Loader:
    decoding = Decoding(device=setup.device, stamps=StampPolicy("resident", share=0.9))
    return Loader(setup.samples(), RandomViews(recipe.view, (0,)), Sampling(batch_size=size), decoding)


@click.command(cls=Command, context_settings={"show_default": True})
@click.argument("names", metavar="[RECIPE]...", nargs=-1)
@click.option("--shards", type=click.Path(path_type=Path), help="To load from.  [default: of synthetic galaxies]")
@click.option("--seconds", default=3.0, type=click.FloatRange(0.01), help="Of each turn; there are ten.")
@click.option("--results", default=RESULTS, type=click.Path(path_type=Path), help="For the rates, as JSON.")
def main(names: tuple[str, ...], shards: Path | None, seconds: float, results: Path) -> None:
    """Measure the RECIPEs, or all there are, on the device at hand."""
    setup = Setup(shards or make_shards(SYNTHETIC), choose_device("auto").type, quick=False)
    path, found = results / f"waiting-{setup.device}.json", {}
    for name in names or known_recipes():
        ended = run_isolated(measure, setup, setup.recipe(name), seconds, timeout_s=LONGEST_S)
        found[name] = each = ended.value or {"problem": ended.problem}
        about = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(setup.device),
            "versions": dict(current_versions()),
            "command": shlex.join(["python", "-m", "benchmarks.waiting", *sys.argv[1:]]),
        }
        write_text(path, json.dumps({"recipes": found, **about}, indent=1) + "\n")
        click.echo(f"{name:28}{describe(each)}")


def describe(found: dict[str, Any]) -> str:
    """What was measured of a recipe, as a line."""
    if "problem" in found:
        return str(found["problem"])
    low, high = found["ratios"]
    return (
        f"batch {found['batch']:4}{found['fixed_batch_images_per_s']:10.1f} images/s, with the loader "
        f"{found['with_loader_images_per_s']:10.1f}: {found['ratio']:.3f} ({low:.3f} to {high:.3f})"
    )


if __name__ == "__main__":
    main()
