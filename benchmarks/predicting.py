"""A whole prediction: how long it takes in how much memory, and what a kill in the middle costs.

    python -m benchmarks.predicting runs/quick shards --views 16 --out benchmarks/results/predicting-cpu.json

Runs predict.py to its end; then again, killed with SIGKILL when half the parts are there, and a third time to go on
from these. All in processes of their own. Fails if the two submissions differ in a byte, which is promised on a CPU
only. More than one of --ranks are started by torchrun.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import click
import psutil

from benchmarks.processes import timed
from galaxy_zoo.manifest import read_manifest
from prediction.parts import Parts
from prediction.passes import PART_STEPS
from training.run import load_run

SCRIPT = Path(__file__).parents[1] / "predict.py"


def kill_at(command: list[str], parts: Parts, num_parts: int) -> float:
    """Run a command and kill it and its children when so many parts are there; returns the seconds until then."""
    click.echo(f"{' '.join(command)}   (killed at {num_parts} parts)", err=True)
    started = time.perf_counter()
    with subprocess.Popen(command) as process:
        while process.poll() is None and len(list(parts.folder.glob("*.safetensors"))) < num_parts:
            time.sleep(0.05)
        for each in psutil.Process(process.pid).children(recursive=True):
            each.kill()
        process.kill()
    return time.perf_counter() - started


@click.command(context_settings={"show_default": True})
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("shards", type=click.Path(path_type=Path))
@click.option("--views", default=16, help="Test-time views.")
@click.option("--batch-size", default=128, help="Galaxies a batch.")
@click.option("--split", default="test", help="Which shards.")
@click.option("--ranks", default=1, type=click.IntRange(1), help="Processes.")
@click.option("--folder", type=click.Path(path_type=Path), default=Path("predicting"), help="Where to write.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="JSON file for the results.")
def main(
    run: Path, shards: Path, views: int, batch_size: int, split: str, ranks: int, folder: Path, out: Path
) -> None:
    """Measure predict.py with RUN on SHARDS."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    launcher = [] if ranks == 1 else ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    options = ["--views", str(views), "--batch-size", str(batch_size), "--split", split]
    whole, resumed = folder / "whole.csv", folder / "resumed.csv"

    def command(path: Path) -> list[str]:
        return [sys.executable, *launcher, str(SCRIPT), str(run), str(shards), *options, "--out", str(path)]

    galaxies = read_manifest(shards).samples(split)
    first = timed(command(whole), galaxies)
    before_s = kill_at(command(resumed), Parts(resumed), max(1, galaxies // (PART_STEPS * batch_size) // 2))
    rest = timed(command(resumed), galaxies)
    if whole.read_bytes() != resumed.read_bytes():
        raise SystemExit(f"{whole} and {resumed} differ")
    trained = load_run(run)
    result = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": len(os.sched_getaffinity(0)),
        "versions": {name: version(name) for name in ("nvidia-dali-cuda120", "torch", "numpy")},
        "recipe": trained.recipe.name,
        "members": trained.members,
        "views": views,
        "ranks": ranks,
        "runs": 1,
        "whole": asdict(first),
        "images_per_s": round(galaxies * views * trained.members / first.seconds, 1),
        "seconds_until_killed": round(before_s, 2),
        "resumed": asdict(rest),
        "lost_s": round(before_s + rest.seconds - first.seconds, 2),
    }
    out.write_text(json.dumps(result, indent=1) + "\n")
    click.echo(
        f"{first.seconds:.1f} s for {galaxies:,} galaxies x {views} views x {trained.members} members: "
        f"{result['images_per_s']} images/s, {first.peak_resident_mb:.0f} MB; killed after {before_s:.1f} s and "
        f"resumed in {rest.seconds:.1f} s: {result['lost_s']} s lost, the same bytes"
    )


if __name__ == "__main__":
    main()
