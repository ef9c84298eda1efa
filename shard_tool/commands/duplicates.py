"""`shard_tool duplicates`: find images that occur, byte for byte, under several ids."""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import groupby
from pathlib import Path

import click

from galaxy_zoo.console import Command, local_path
from galaxy_zoo.cores import num_cores
from galaxy_zoo.index import key_of
from galaxy_zoo.manifest import Manifest, Shard, read_manifest
from shard_tool.commands.options import echo, workers_option
from shard_tool.shards.parallel import Tick, run_tasks
from shard_tool.shards.reader import image_of, proven_index, read_component
from shard_tool.source.scratch import open_scratch, rows, to_bytes, to_text

DIGEST_BYTES = 16


@dataclass(frozen=True)
class DigestTask:
    """A shard whose images are to be hashed."""

    folder: Path
    split: str
    shard: Shard


@dataclass(frozen=True)
class DigestedShard:
    """Ids of a shard, in its order, and the hash of each image."""

    task: DigestTask
    ids: tuple[str, ...]
    digests: tuple[bytes, ...]


@click.command(cls=Command)
@click.argument("shards", type=local_path)
@workers_option
def duplicates(*, shards: Path, workers: int | None) -> None:
    """List images in the folder SHARDS that occur under several ids.

    Images count as equal if they are the same byte for byte; any such image makes the exit code 1. Each line is an
    image, with split and id of all its copies. An image in both train and test leaks its votes into the test.

    \b
    Example:
      shard_tool duplicates shards
    """
    manifest = read_manifest(shards)
    groups = find_duplicates(shards, manifest, workers=workers or num_cores())
    count = across = 0
    for group in groups:
        echo(" ".join(f"{split}/{sample_id}" for split, sample_id in group))
        count += 1
        across += len({split for split, _ in group}) > 1
    if count:
        raise click.ClickException(f"images under several ids: {count:,}, {across:,} of them across splits")
    num_samples = sum(manifest.samples(split) for split in manifest.splits)
    echo(f"{shards}: no two of {num_samples:,} images are the same")


def find_duplicates(folder: Path, manifest: Manifest, *, workers: int) -> Iterator[list[tuple[str, str]]]:
    """Yield (split, id) of the images in each group of equal ones, in the order of splits and shards.

    Raises:
        ShardError: a shard or index is not what the manifest says.
    """
    tasks = [DigestTask(folder, split, shard) for split, shards in manifest.splits.items() for shard in shards]
    total = sum(task.shard.samples for task in tasks)
    order = {task.shard.name: number for number, task in enumerate(tasks)}
    database = open_scratch("image (digest BLOB, shard INTEGER, place INTEGER, id BLOB)")
    for each in run_tasks(digest_shard, tasks, workers=workers, total=total, description="duplicates"):
        number = order[each.task.shard.name]
        images = enumerate(zip(each.digests, each.ids, strict=True))
        values = ((digest, number, place, to_bytes(sample_id)) for place, (digest, sample_id) in images)
        database.executemany("INSERT INTO image VALUES (?, ?, ?, ?)", values)
    equal = rows(
        database,
        "SELECT digest, shard, id FROM (SELECT *, count(*) OVER same AS count, "
        "first_value(shard) OVER (same ORDER BY shard, place) AS first_shard, "
        "first_value(place) OVER (same ORDER BY shard, place) AS first_place "
        "FROM image WINDOW same AS (PARTITION BY digest)) "
        "WHERE count > 1 ORDER BY first_shard, first_place, shard, place",
    )
    for _, group in groupby(equal, key=lambda row: row[0]):
        yield [(tasks[shard].split, to_text(sample_id)) for _, shard, sample_id in group]


def digest_shard(task: DigestTask, tick: Tick) -> DigestedShard:
    """Hash every image of a shard.

    Raises:
        ShardError: the shard or its index is not what the manifest says.
    """
    samples = proven_index(task.folder, task.shard)
    digests = []
    with (task.folder / task.shard.name).open("rb") as file:
        for sample in samples:
            image = image_of(sample)
            data = read_component(file, image) if image else b""
            digests.append(blake2b(data, digest_size=DIGEST_BYTES).digest())
            tick()
    return DigestedShard(task, tuple(key_of(sample) for sample in samples), tuple(digests))
