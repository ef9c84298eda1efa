"""The whole data path at full size: galaxies made, packed, linted and read once through the loader.

    python -m benchmarks.full_size --folder /path/with/5-GB-free --out benchmarks/results/full-size-cpu.json

Makes as many synthetic galaxies as Kaggle has images (61,578 + 79,975), unless they are there from an earlier run.
Each command runs in a process of its own. Its peak memory is the sum over it and its workers, read every 50 ms:
`benchmarks/processes.py` says which sums.
`decode` decodes the same JPEGs strictly on all cores and does nothing else: what `pack` is measured against,
before and after it, because the machine's speed may drift.
"""

import json
import os
import platform
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import click
import simplejpeg

from benchmarks.processes import timed


def decode(folder: Path) -> None:
    """Decode all JPEGs under a folder strictly, on all cores."""
    paths = sorted(folder.rglob("*.jpg"))
    cores = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(cores) as pool:
        for _ in pool.map(decode_files, [paths[start::64] for start in range(64)]):
            pass


def decode_files(paths: list[Path]) -> None:
    """Decode JPEG files strictly."""
    for path in paths:
        simplejpeg.decode_jpeg(path.read_bytes(), strict=True)


def read(shards: Path, split: str) -> None:
    """Read a split once through the loader, with the view of recipe `quick`."""
    from ensemble.recipe import load_recipe  # noqa: PLC0415 (decode must not load torch)
    from pipeline.augment import RandomViews  # noqa: PLC0415
    from pipeline.loader import Loader, Sampling  # noqa: PLC0415
    from pipeline.shards import open_split  # noqa: PLC0415

    samples, _ = open_split(shards, split)
    with Loader(samples, RandomViews(load_recipe("quick").view, (0,)), Sampling(batch_size=256)) as loader:
        seen = sum(len(batch.ids) for batch in loader.epoch(0))
    if seen != len(samples):
        raise SystemExit(f"{seen} of {len(samples)} samples were read")


@click.group(invoke_without_command=True)
@click.option("--folder", type=click.Path(path_type=Path), help="Where to work: 5 GB at full size.")
@click.option("--train", default=61_578, show_default=True, help="Training galaxies.")
@click.option("--test", default=79_975, show_default=True, help="Test galaxies.")
@click.option("--out", type=click.Path(path_type=Path), help="JSON file for the results.")
@click.pass_context
def main(ctx: click.Context, folder: Path | None, train: int, test: int, out: Path | None) -> None:
    """Measure the data path, by default at full size."""
    if ctx.invoked_subcommand:
        return
    if folder is None or out is None:
        raise click.UsageError("give --folder and --out")
    total, shards, source = train + test, str(folder / "shards"), str(folder / "source")
    tool, this = [sys.executable, "-m", "shard_tool"], [sys.executable, "-m", "benchmarks.full_size"]
    shutil.rmtree(folder / "shards", ignore_errors=True)
    steps = (
        []
        if (folder / "source").exists()
        else [timed([*tool, "synth", source, "--count", str(train), "--test", str(test), "--seed", "0"], total)]
    )
    steps += [
        timed([*this, "decode", source], total),
        timed([*tool, "pack", source, shards], total),
        timed([*this, "decode", source], total),
        timed([*tool, "pack", source, shards, "--no-decode", "--overwrite"], total),
        timed([*tool, "lint", shards, "--deep"], total),
        timed([*tool, "duplicates", shards], total),
        timed([*this, "read", shards, "train"], train),
        timed([*this, "read", shards, "test"], test),
    ]
    result = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "cpu": platform.processor() or platform.machine()},
        "versions": {name: version(name) for name in ("simplejpeg", "nvidia-dali-cuda120", "torch", "numpy")},
        "runs": 1,
        "steps": [asdict(step) for step in steps],
    }
    out.write_text(json.dumps(result, indent=1) + "\n")
    for step in steps:
        memory = f"{step.peak_resident_mb:6.0f} MB resident, {step.peak_proportional_mb:.0f} MB proportional"
        click.echo(f"{step.seconds:8.1f} s {step.images_per_s:8.0f} img/s {memory}  {step.command}")


@main.command("decode")
@click.argument("folder", type=click.Path(path_type=Path))
def decode_command(folder: Path) -> None:
    """Decode the JPEGs under FOLDER strictly on all cores."""
    decode(folder)


@main.command("read")
@click.argument("shards", type=click.Path(path_type=Path))
@click.argument("split")
def read_command(shards: Path, split: str) -> None:
    """Read SPLIT of SHARDS once through the loader."""
    read(shards, split)


if __name__ == "__main__":
    main()
