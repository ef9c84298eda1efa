"""Packing on a Dask cluster: beside local processes, what a task costs, and the manifest of very many shards.

    python -m benchmarks.cluster --source S --folder /path/with/room --out benchmarks/results/cluster-cpu.json

The numbers that docs/clusters.md extrapolates from. `pack` runs in turn with local processes and with as many worker
processes of a `LocalCluster`, and what they wrote is compared. A task that does nothing, with the samples of a shard
of 64 MB in it, shows how many tasks a second one client can hand out. The manifest is made of synthetic entries.
"""

import json
import os
import pickle
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, replace
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from statistics import median

import click
import numpy as np
from distributed import Client, LocalCluster

from benchmarks.processes import timed
from galaxy_zoo.cores import num_cores
from galaxy_zoo.manifest import MANIFEST_NAME, Manifest, Shard, read_manifest
from galaxy_zoo.tree import load_tree
from shard_tool.shards.cluster import Cluster
from shard_tool.shards.packer import ShardTask
from shard_tool.shards.parallel import Tick
from shard_tool.source.files import StoredFile
from shard_tool.source.samples import PlannedSample, ShardPlan

SAMPLES_A_SHARD = 5_000


def do_nothing(task: ShardTask, tick: Tick) -> None:
    """A task of no work: what is left is what it costs to hand it out."""


def empty_task(number: int) -> ShardTask:
    """A task as large as that of a shard of 64 MB of labelled galaxies in a folder."""
    ids = [f"{number:06d}{i:06d}" for i in range(SAMPLES_A_SHARD)]
    files = [StoredFile(f"images_training_rev1/{i}.jpg", f"/data/{i}.jpg", 13_000, time.time_ns()) for i in ids]
    samples = tuple(PlannedSample(i, pickle.dumps(file)) for i, file in zip(ids, files, strict=True))
    votes = np.zeros((SAMPLES_A_SHARD, 37), np.float32)
    plan = ShardPlan(split="train", name=f"train-{number:06d}.tar", samples=samples, votes=votes)
    return ShardTask(
        out=Path("/data/out"),
        plan=plan,
        image_px=(424, 424),
        num_answers=37,
        num_measured=len(samples),
        resume=False,
        fence="",
    )


def time_tasks(address: str, count: int) -> dict[str, float]:
    """Milliseconds a task, those of processor time of client and scheduler together, and how many bytes one is."""
    tasks = [replace(empty_task(0), plan=replace(empty_task(0).plan, name=f"{i}")) for i in range(count)]
    with Client(address, set_as_default=False) as client:
        started, cpu_started = time.perf_counter(), time.process_time()
        done = list(Cluster(client, address).run(do_nothing, tasks, lambda _: None))
        seconds, cpu_s = time.perf_counter() - started, time.process_time() - cpu_started
    assert len(done) == count
    return {
        "tasks": count,
        "ms_a_task": 1000 * seconds / count,
        "cpu_ms_a_task": 1000 * cpu_s / count,
        "task_bytes": len(pickle.dumps(tasks[0])),
    }


def time_manifest(folder: Path, count: int) -> None:
    """Write and read a manifest of so many shards; prints seconds, bytes and the memory of this process as JSON."""
    start_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    digests = (sha256(str(i).encode()).hexdigest() for i in range(2 * count))
    shards = tuple(
        Shard(f"train-{i:06d}.tar", 4923, 64_000_000, next(digests), next(digests)) for i in range(count)
    )
    tree = load_tree("gz2-kaggle")
    zeros = (0.0, 0.0, 0.0)
    manifest = Manifest(tree, 0, "0", (424, 424), zeros, zeros, None, 0, {"train": shards})
    folder.mkdir(parents=True, exist_ok=True)
    made_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    started = time.perf_counter()
    manifest.write(folder)
    write_s = time.perf_counter() - started
    write_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    started = time.perf_counter()
    assert read_manifest(folder) == manifest
    read_s = time.perf_counter() - started
    read_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    memory = {"start_mb": start_mb, "made_mb": made_mb, "written_mb": write_mb, "read_mb": read_mb}
    size = (folder / MANIFEST_NAME).stat().st_size
    click.echo(json.dumps({"shards": count, "bytes": size, "write_s": write_s, "read_s": read_s, **memory}))


@click.group(invoke_without_command=True)
@click.option("--source", type=click.Path(path_type=Path), help="What to pack.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where to work; its pack-* are replaced.")
@click.option("--out", type=click.Path(path_type=Path), help="JSON file for the results.")
@click.option("--runs", default=3, show_default=True, help="Packs of each kind, in turn.")
@click.option("--tasks", default=200, show_default=True, help="Tasks that do nothing.")
@click.option("--shards", default=200_000, show_default=True, help="Entries of the manifest.")
@click.pass_context
def main(
    ctx: click.Context,
    source: Path | None,
    folder: Path | None,
    out: Path | None,
    runs: int,
    tasks: int,
    shards: int,
) -> None:
    """Measure what a cluster costs."""
    if ctx.invoked_subcommand:
        return
    if source is None or folder is None or out is None:
        raise click.UsageError("give --source, --folder and --out")
    this = [sys.executable, "-m", "benchmarks.cluster", "manifest", str(folder / "pack-manifest"), str(shards)]
    manifest = subprocess.run(this, capture_output=True, check=True, text=True).stdout
    # many threads, so that tasks are handed out all the time
    with LocalCluster(n_workers=num_cores(), threads_per_worker=16, dashboard_address=":0") as cluster:
        handed_out = time_tasks(cluster.scheduler_address, tasks)
    with LocalCluster(n_workers=num_cores(), threads_per_worker=1, dashboard_address=":0") as cluster:
        seconds = time_packs(source, folder, cluster.scheduler_address, runs)
    result = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": num_cores(),
        "load_at_end": os.getloadavg()[1],
        "versions": {name: version(name) for name in ("distributed", "simplejpeg", "numpy")},
        "runs": runs,
        "manifest": json.loads(manifest),
        "tasks": handed_out,
        "pack_s": seconds,
        "cluster_to_processes": median(seconds["cluster"]) / median(seconds["processes"]),
    }
    out.write_text(json.dumps(result, indent=1) + "\n")
    click.echo(json.dumps(result, indent=1))


def time_packs(source: Path, folder: Path, address: str, runs: int) -> dict[str, list[float]]:
    """Seconds of packing with local processes and on the cluster, after one run of each to warm up."""
    kinds = {"processes": ["--workers", str(num_cores())], "cluster": ["--scheduler", address]}
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(runs + 1):
        for kind, options in kinds.items():
            shards = folder / f"pack-{kind}"
            shutil.rmtree(shards, ignore_errors=True)
            command = [sys.executable, "-m", "shard_tool", "pack", str(source), str(shards), *options]
            seconds[kind].append(asdict(timed(command, 1))["seconds"])
        assert read_manifest(folder / "pack-processes") == read_manifest(folder / "pack-cluster")
    return {kind: times[1:] for kind, times in seconds.items()}


@main.command("manifest")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("shards", type=int)
def manifest_command(folder: Path, shards: int) -> None:
    """Write and read a manifest of SHARDS shards in FOLDER."""
    time_manifest(folder, shards)


if __name__ == "__main__":
    main()
