"""Measure where the time of a training goes: reader, decoder, loader, model, all together, and which is the limit.

    python -m benchmarks.throughput shards --recipe quick
    python -m benchmarks.throughput shards --recipe ng_cnn --device cuda --json

Images per second on the device at hand; medians of 3 epochs after one to warm up. `reader` copies the JPEG bytes of a
shuffled epoch; `decode` only decodes, on a CPU just the recipe's window; `loader` is what training gets, one view of
each image, streamed; `fill` is the first epoch with resident stamps (once, no median), `resident` the later ones;
`model` trains one member on a fixed batch of random numbers; `end to end` trains it from the streaming loader, `from
stamps` with resident stamps, as train.py does where memory allows. The limit is the slowest of reader, decode, loader
and model. On a CPU they share the cores, so end to end is slower than each of them.
"""

import itertools
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from nvidia.dali import Pipeline, fn, types

from benchmarks.measuring import Result, measured, provenance, table
from ensemble.recipe import Recipe, load_recipe, recipe_from_table
from galaxy_zoo.console import Command
from galaxy_zoo.cores import num_cores
from galaxy_zoo.manifest import read_manifest
from galaxy_zoo.tree import DecisionTree
from pipeline.augment import RandomViews
from pipeline.device import choose_device
from pipeline.graph import PREFETCHED_BATCHES, decode_window
from pipeline.loader import Batch, Decoding, Loader, Sampling
from pipeline.order import epoch_order
from pipeline.shards import Samples
from pipeline.stamps import StampPolicy
from training.loop import train_step
from training.member import Member
from training.meter import Meter
from training.ranks import ALONE
from training.step import COMPILED_GAIN_S, COMPILING_S, recorder_on
from training.streams import side_by_side

QUICK_PX, QUICK_BATCH = 64, 4
RESIDENT = StampPolicy("resident", share=0.9)
Graph = Callable[[Any], Any]
"""Takes JPEG bytes, returns the output of a DALI pipeline."""


@dataclass(frozen=True)
class Setup:
    """What to measure. device: "cuda" or "cpu"; quick: tiny sizes, which show that it runs, not how fast."""

    shards: Path
    device: str
    quick: bool

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device == "cuda"

    @property
    def runs(self) -> int:
        """Number of timed runs of each measurement, after one to warm up."""
        return 1 if self.quick else 3

    @property
    def batch_size(self) -> int:
        """Number of samples in a batch if no recipe says it."""
        return QUICK_BATCH if self.quick else 256

    @property
    def tree(self) -> DecisionTree:
        """Decision tree of the shards."""
        return read_manifest(self.shards).tree

    def samples(self) -> Samples:
        """Return the training samples; if quick, only those of the first shard."""
        manifest = read_manifest(self.shards)
        shards = manifest.splits["train"]
        return Samples(self.shards, manifest, shards[:1] if self.quick else shards)

    def recipe(self, name: str) -> Recipe:
        """Return a recipe; if quick, with small images, batches and network."""
        manifest = read_manifest(self.shards)
        recipe = load_recipe(name).with_statistics(manifest.channel_mean, manifest.channel_std)
        if not self.quick:
            return recipe
        changed = {key: dict(value) for key, value in recipe.table.items()}
        changed["view"]["size_px"], changed["training"]["batch_size"] = QUICK_PX, QUICK_BATCH
        network = changed["network"]
        if "model" in network:
            network["model"] = "test_resnet"
        elif "channels" in network:
            network["channels"] = [4] * len(network["channels"])
        else:  # made for one size
            changed["view"]["size_px"] = recipe.view.size_px
        return recipe_from_table(changed, name, where=name)

    def rates(self, work: Callable[[int], int]) -> list[float]:
        """Return the amount of work per second in each run, after one to warm up.

        Args:
            work: takes the number of the run, 0 for the warm-up, and returns the amount of work done.
        """
        return [self.rate(work, run) for run in range(self.runs + 1)][1:]

    def rate(self, work: Callable[[int], int], run: int) -> float:
        """Return the amount of work per second in one run."""
        self.synchronise()
        started = time.perf_counter()
        amount = work(run)
        self.synchronise()
        return amount / (time.perf_counter() - started)

    def synchronise(self) -> None:
        """Wait until the device has done all its work."""
        if self.on_gpu:
            torch.cuda.synchronize()


def measure(setup: Setup, recipe: Recipe) -> list[Result]:
    """Return images per second of each stage, and the share of time that training waits for data."""
    size, samples = recipe.training.batch_size, setup.samples()
    rates = {"reader": reading_rates(setup), "decode": decoding_rates(setup, recipe)}
    sampling, views = Sampling(batch_size=size), RandomViews(recipe.view, (0,))
    member = new_member(recipe, setup)
    with Loader(samples, views, sampling, Decoding(device=setup.device)) as batches:
        rates["loader"] = setup.rates(partial(count_samples, batches))
        speeds = epoch_speeds(setup, batches, member)
    with Loader(samples, views, sampling, Decoding(device=setup.device, stamps=RESIDENT)) as batches:
        rates["fill"] = [setup.rate(partial(count_samples, batches), 0)]
        rates["resident"] = setup.rates(partial(count_samples, batches))
        from_stamps = epoch_speeds(setup, batches, member)
    rates["model"] = step_rates(setup, [member], fixed_batch(recipe, setup, size))
    rates["end to end"] = [speed["images_per_s"] for speed in speeds]
    rates["from stamps"] = [speed["images_per_s"] for speed in from_stamps]
    waits = [100 * speed["data_wait"] for speed in speeds]
    results = [measured(name, "images/s", values) for name, values in rates.items()]
    return [*results, measured("data wait, end to end", "%", waits)]


def limit(results: list[Result]) -> str:
    """Return text that names the stage that is the limit, and how much faster the next one is."""
    stages = {each.name: each.value for each in results if each.name in {"reader", "decode", "loader", "model"}}
    slowest, following = sorted(stages, key=lambda name: stages[name])[:2]
    return (
        f"The {slowest} is the limit: {stages[slowest]:.0f} images/s; the {following} would allow "
        f"{stages[following] / stages[slowest]:.1f} times as much."
    )


def count_samples(batches: Loader, epoch: int) -> int:
    """Run through an epoch and return the number of its samples."""
    return sum(len(batch.ids) for batch in batches.epoch(epoch))


def reading_rates(setup: Setup) -> list[float]:
    """Return samples per second whose JPEG bytes are copied from the shards, in shuffled order."""
    samples, size = setup.samples(), setup.batch_size

    def work(epoch: int) -> int:
        order = epoch_order(len(samples), seed=0, epoch=epoch)
        for start in range(0, len(order), size):
            np.concatenate(samples.jpegs(order[start : start + size]))
        return len(samples)

    return setup.rates(work)


def decoding_rates(setup: Setup, recipe: Recipe) -> list[float]:
    """Return images per second of decoding as the loader does it, with nothing after it."""
    stamp = recipe.view.stamp(setup.samples().image_px)
    graph = partial(decode_window, stamp=stamp, on_gpu=setup.on_gpu)
    batches = 2 if setup.quick else 16
    with running(setup, graph, on_gpu=setup.on_gpu) as pipeline:

        def work(run: int) -> int:  # noqa: ARG001
            for _ in range(batches):
                pipeline.run()
            return batches * setup.batch_size

        return setup.rates(work)


@contextmanager
def running(setup: Setup, graph: Graph, *, on_gpu: bool) -> Iterator[Any]:
    """Yield a DALI pipeline that puts batches of the samples through `graph` without end, in one shuffled order."""
    samples, size = setup.samples(), setup.batch_size
    order = epoch_order(len(samples), seed=0, epoch=0)
    starts = itertools.cycle(range(0, max(1, len(order) - size + 1), size))
    pipeline = Pipeline(
        batch_size=size,
        num_threads=num_cores(),
        device_id=0 if on_gpu else None,
        prefetch_queue_depth=PREFETCHED_BATCHES,
    )

    def feed() -> list[Any]:
        start = next(starts)
        return [samples.jpegs(order[start : start + size])]

    with pipeline:
        (jpegs,) = fn.external_source(feed, num_outputs=1, batch=True, dtype=types.UINT8, ndim=1, device="cpu")
        pipeline.set_outputs(graph(jpegs))
    pipeline.build()
    yield pipeline


def epoch_speeds(setup: Setup, batches: Loader, member: Member) -> list[dict[str, float]]:
    """Train as train.py does; return the speed of each epoch, after one to warm up."""
    meter, speeds = Meter([0], torch.device(setup.device)), []
    for epoch in range(setup.runs + 1):
        meter.begin_epoch("")
        for batch in meter.timed(batches.epoch(epoch)):
            train_step([member], batch, meter, num_samples=len(batch.ids))
        meter.mean_losses()  # this waits for the device
        speeds.append(meter.speed())
    return speeds[1:]


def step_rates(setup: Setup, members: list[Member], batch: Batch) -> list[float]:
    """Return images per second, summed over the members, of training steps on one batch."""
    steps = 1 if setup.quick else 30

    def work(run: int) -> int:  # noqa: ARG001
        take_steps(members, batch, steps)
        return steps * len(members) * len(batch.votes)

    return setup.rates(work)


def take_steps(members: list[Member], batch: Batch, count: int) -> None:
    """Take `count` steps of each member as train.py does, all on the first view of a batch."""
    jobs = [partial(member.step, batch.views[0], batch.votes) for member in members]
    for _ in range(count):
        side_by_side(jobs, batch.votes.device)


def new_member(recipe: Recipe, setup: Setup, *, compiles: bool = True) -> Member:
    """Return a member with random weights. compiles: whether its training is long enough to compile the network."""
    device = torch.device(setup.device)
    recorder = recorder_on(device, ALONE, print)
    enough = COMPILING_S / COMPILED_GAIN_S / recipe.training.epochs  # steps of an epoch from which compiling pays
    steps = math.ceil(2 * enough if compiles else enough / 2)
    return Member(
        recipe, setup.tree, seed=0, steps_per_epoch=steps, device=device, pretrained=False, recorder=recorder
    )


def fixed_batch(recipe: Recipe, setup: Setup, size: int) -> Batch:
    """Return random images and votes on the device, with the shapes and dtypes of the loader."""
    dtype = torch.float16 if setup.on_gpu else torch.float32
    view = recipe.view
    turns = (len(view.turns_deg),) if len(view.turns_deg) > 1 else ()
    pixels = torch.randn(size, *turns, view.size_px, view.size_px, 3, device=setup.device).to(dtype)
    images = pixels.movedim(-1, -3)  # channels last in memory
    votes = torch.rand(size, len(setup.tree.columns), device=setup.device)
    return Batch(views=(images,), votes=votes, ids=np.array([], np.str_))


@click.command(cls=Command, context_settings={"show_default": True})
@click.argument("shards", type=click.Path(path_type=Path))
@click.option("--recipe", "recipe_name", default="quick", help="A recipe's name or TOML file.")
@click.option(
    "--device", default="auto", type=click.Choice(["auto", "cpu", "cuda"]), help="auto: cuda if there is one."
)
@click.option("--quick", is_flag=True, help="Tiny sizes, to show that it runs.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def main(shards: Path, recipe_name: str, device: str, quick: bool, as_json: bool) -> None:
    """Measure each stage of training a recipe on the folder SHARDS, and name the slowest, which is the limit.

    \b
    Example:
      python -m benchmarks.throughput shards --recipe ng_cnn
    """
    setup = Setup(shards, choose_device(device).type, quick)
    results = measure(setup, setup.recipe(recipe_name))
    if as_json:
        about = provenance(setup.device)
        stages = {each.name: asdict(each) for each in results}
        click.echo(
            json.dumps({**about, "recipe": recipe_name, "stages": stages, "limit": limit(results)}, indent=1)
        )
        return
    click.echo(table(results))
    click.echo(limit(results))


if __name__ == "__main__":
    main()
