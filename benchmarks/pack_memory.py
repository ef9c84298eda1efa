"""Peak memory of `shard_tool pack`, `unpack` and `duplicates` over the number of images.

    python -m benchmarks.pack_memory FOLDER --out benchmarks/results/pack-memory-cpu.json

FOLDER is an unpacked Kaggle download. A quarter, a half and all of it are packed, each as a folder of hard links to its
images beside FOLDER, without decoding, which takes the same memory (`--decode` to see). `--tiny COUNT` adds that many
JPEGs of 16 x 16 pixels, links to a few files: sizes beyond Kaggle's in little time and on little disk.
Columns: peak memory of the command and all its workers: proportional (shared pages once), then resident.
"""

import csv
import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
import simplejpeg

from benchmarks.processes import Timing, timed

LINKS_A_FILE = 30_000
"""ext4 allows 65,000."""
TABLE = "training_solutions_rev1.csv"
IMAGES = ("images_training_rev1", "images_test_rev1")


def link_share(folder: Path, share: Path, step: int) -> int:
    """Link every `step`-th image of FOLDER into `share`, with its row of votes; returns how many."""
    kept = set()
    for name in IMAGES:
        (share / name).mkdir(parents=True)
        for path in sorted((folder / name).iterdir())[::step]:
            os.link(path, share / name / path.name)
            kept.add(path.stem)
    with (folder / TABLE).open(newline="") as source, (share / TABLE).open("w", newline="") as target:
        rows = csv.reader(source)
        csv.writer(target).writerows([next(rows), *(row for row in rows if row[0] in kept)])
    return len(kept)


def link_tiny(share: Path, count: int) -> int:
    """Make `count` links to tiny JPEGs, test images all."""
    (share / IMAGES[1]).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        if number % LINKS_A_FILE == 0:
            pixels = rng.integers(0, 256, (16, 16, 3), np.uint8)
            first = share / IMAGES[1] / f"{number}.jpg"
            first.write_bytes(simplejpeg.encode_jpeg(pixels))
        else:
            os.link(first, share / IMAGES[1] / f"{number}.jpg")
    return count


def measure(share: Path, images: int, work: Path, *, decode: bool) -> Iterator[Timing]:
    """Pack a folder, look for duplicates and unpack it again."""
    tool, shards, again = [sys.executable, "-m", "shard_tool"], work / "shards", work / "again"
    yield timed([*tool, "pack", str(share), str(shards), *([] if decode else ["--no-decode"])], images)
    yield timed(
        ["sh", "-c", f"{sys.executable} -m shard_tool duplicates {shards} > {work}/duplicates || true"], images
    )
    yield timed([*tool, "unpack", str(shards), str(again)], images)
    shutil.rmtree(shards)
    shutil.rmtree(again)


@click.command(context_settings={"show_default": True})
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--tiny", type=click.IntRange(0), default=0, help="Tiny images to pack in the end.")
@click.option("--decode", is_flag=True, help="Decode every image.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="JSON file for the results.")
def main(folder: Path, tiny: int, decode: bool, out: Path) -> None:
    """Measure memory over the number of images in FOLDER."""
    timings: list[Timing] = []
    for step in (4, 2, 1, 0) if tiny else (4, 2, 1):
        with TemporaryDirectory(dir=folder.parent) as work:
            share = Path(work) / "share"
            images = link_share(folder, share, step) if step else link_tiny(share, tiny)
            for each in measure(share, images, Path(work), decode=decode):
                timings.append(each)
                out.write_text(json.dumps([asdict(timing) for timing in timings], indent=1) + "\n")
                click.echo(
                    f"{images:>9,} images {each.peak_proportional_mb:5.0f} MB proportional "
                    f"{each.peak_resident_mb:5.0f} MB resident {each.seconds:6.1f} s  {each.command[:60]}"
                )


if __name__ == "__main__":
    main()
