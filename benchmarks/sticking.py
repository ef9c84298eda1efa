"""What the first of several ranks holds with and without `--stick-to-shard`: shards, tables of samples, an order.

    python -m benchmarks.sticking SHARDS --ranks 1 --ranks 2 --ranks 8 --samples 100000000

Each line is a process of its own, which reads "all" shards or its "own", of as many groups as ranks. First it opens the
training shards (without a fold); then, for each `--samples`, it makes the order of an epoch of so many.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import psutil

from benchmarks.gpu_isolation import run_isolated
from pipeline.cache import ShardSet
from pipeline.groups import open_all, open_groups
from pipeline.order import GroupedOrder, Groups, Order, SharedOrder

BATCH_SIZE = 256
TIMEOUT_S = 600


def opened(shards: Path, ranks: int, sticks: bool) -> tuple[int, float, float, float]:
    """Samples; 1e6 bytes of shards that are mapped, and of tables (ids, votes, places); seconds to open them."""
    source, started = ShardSet(shards, shards), time.perf_counter()
    if sticks:
        part = open_groups(source, "train", fold=None, num_groups=ranks, rank=0, world_size=ranks)
    else:
        part = open_all(source, "train", fold=None)
    seconds = time.perf_counter() - started
    mapped = sum(each.size for each in psutil.Process().memory_maps() if each.path.endswith(".tar"))
    tables = sum(each.nbytes for each in vars(part.samples).values() if isinstance(each, np.ndarray))
    return len(part.samples), mapped / 1e6, tables / 1e6, seconds


def ordered(samples: int, ranks: int, sticks: bool) -> tuple[float, float, float]:
    """1e6 bytes of memory that an order takes, seconds to begin the first epoch and the second."""
    before, started = _own_bytes(), time.perf_counter()
    each, rest = divmod(samples, ranks)
    sizes = (each + 1,) * rest + (each,) * (ranks - rest)
    order: Order = SharedOrder(num_samples=samples, seed=0, world_size=ranks)
    if sticks:
        order = GroupedOrder(Groups(sizes, range(1)), seed=0)
    take, most = order.epoch(0), order.most(BATCH_SIZE)
    assert len(take(range(BATCH_SIZE))[1]) <= most
    first, memory = time.perf_counter(), _own_bytes() - before
    del take
    order.epoch(1)
    return memory / 1e6, first - started, time.perf_counter() - first


def _own_bytes() -> int:
    """Resident memory without pages of files."""
    memory = psutil.Process().memory_info()
    return int(memory.rss - memory.shared)


@click.command(context_settings={"show_default": True})
@click.argument("shards", type=click.Path(path_type=Path))
@click.option("--ranks", multiple=True, default=[1, 2, 8], type=click.IntRange(1), help="Numbers of ranks.")
@click.option("--samples", multiple=True, type=click.IntRange(1), help="Make also the order of so many.")
def main(shards: Path, ranks: tuple[int, ...], samples: tuple[int, ...]) -> None:
    """Print what a rank holds of the training shards in SHARDS."""
    ways = [(count, sticks) for count in ranks for sticks in (False, True)]
    click.echo("ranks reads      samples  shards, MB  tables, MB  seconds")
    for count, sticks in ways:
        number, mapped, tables, seconds = _isolated(opened, shards, count, sticks)
        click.echo(f"{_name(count, sticks)} {number:12,} {mapped:11.1f} {tables:11.2f} {seconds:8.2f}")
    for total in samples:
        click.echo("ranks reads      samples  memory, MB  first epoch, s  second, s")
        for count, sticks in ways:
            memory, first, second = _isolated(ordered, total, count, sticks)
            click.echo(f"{_name(count, sticks)} {total:12,} {memory:11.1f} {first:15.2f} {second:10.2f}")


def _name(ranks: int, sticks: bool) -> str:
    return f"{ranks:5}   {'own' if sticks else 'all'}"


def _isolated(function: Callable[..., Any], *arguments: object) -> Any:
    ended = run_isolated(function, *arguments, timeout_s=TIMEOUT_S)
    if ended.value is None:
        raise click.ClickException(ended.problem)
    return ended.value


if __name__ == "__main__":
    main()
