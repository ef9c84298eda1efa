"""How fast JPEG bytes reach DALI: through its own WebDataset reader, and as views of memory-mapped shards.

    python -m benchmarks.feeding shards --runs 5

The second is how `pipeline` does it. Nothing is decoded. Both deliver every sample of the training shards once a
run, shuffled globally, in batches of 128, in turn; one run of each warms up.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
from nvidia.dali import fn, pipeline_def, types

from galaxy_zoo.index import index_path
from pipeline.order import epoch_order
from pipeline.shards import Bytes, Samples, open_split

BATCH_SIZE = 128


@pipeline_def(batch_size=BATCH_SIZE, num_threads=1, device_id=None)  # type: ignore[untyped-decorator]
def reader(folder: Path, names: list[str], num_samples: int) -> Any:
    """DALI's reader with a global shuffle, as it is fastest."""
    paths = [folder / name for name in names]
    return fn.readers.webdataset(
        paths=[str(path) for path in paths],
        index_paths=[str(index_path(path)) for path in paths],
        ext=["jpg"],
        random_shuffle=True,
        initial_fill=num_samples,
        pad_last_batch=True,
        tensor_init_bytes=16_384,
        name="reader",
    )


@pipeline_def(batch_size=BATCH_SIZE, num_threads=1, device_id=None)  # type: ignore[untyped-decorator]
def feed(batches: Iterator[list[Bytes]]) -> Any:
    """Batches of views of mapped shards."""
    return fn.external_source(lambda: next(batches), batch=True, dtype=types.UINT8, ndim=1)


def mapped_batches(samples: Samples) -> Iterator[list[Bytes]]:
    """All samples once, in the order of an epoch."""
    order = epoch_order(len(samples), seed=0, epoch=0)
    for start in range(0, len(samples), BATCH_SIZE):
        yield samples.jpegs(order[start : start + BATCH_SIZE])


def samples_per_s(pipe: Any, num_samples: int) -> float:
    """Run one epoch of a fresh pipeline."""
    pipe.build()
    started = time.perf_counter()
    for _ in range(-(-num_samples // BATCH_SIZE)):
        pipe.run()
    return num_samples / (time.perf_counter() - started)


@click.command(context_settings={"show_default": True})
@click.argument("shards", type=click.Path(path_type=Path))
@click.option("--runs", default=5, type=click.IntRange(1), help="Timed runs of each.")
def main(shards: Path, runs: int) -> None:
    """Time both on the training shards of the folder SHARDS."""
    samples, _ = open_split(shards, "train")
    count = len(samples)
    make: dict[str, Callable[[], Any]] = {
        "DALI's reader": lambda: reader(shards, [shard.name for shard in samples.shards], count),
        "mapped shards": lambda: feed(mapped_batches(samples)),
    }
    rates: dict[str, list[float]] = {name: [] for name in make}
    for run in range(runs + 1):
        for name, build in make.items():
            rate = samples_per_s(build(), count)
            if run:
                rates[name].append(rate)
    click.echo(
        f"{count} samples, {np.mean([len(j) for j in samples.jpegs(np.arange(100))]):.0f} bytes, {runs} runs"
    )
    for name, seen in rates.items():
        click.echo(f"{statistics.median(seen):9.0f} samples/s  (min {min(seen):.0f}, max {max(seen):.0f})  {name}")


if __name__ == "__main__":
    main()
