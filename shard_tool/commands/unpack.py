"""`shard_tool unpack`: write the images and votes that shards were packed from, in Kaggle's layout."""

import csv
import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from galaxy_zoo.console import Command, local_path
from galaxy_zoo.cores import num_cores
from galaxy_zoo.errors import OutputError, ShardError
from galaxy_zoo.files import TEMPORARY_SUFFIX, atomic_write, exclusive
from galaxy_zoo.manifest import Manifest, Shard, read_manifest
from galaxy_zoo.tree import DecisionTree
from shard_tool.commands.options import echo, resumable, workers_option
from shard_tool.shards.parallel import Tick, run_tasks
from shard_tool.shards.reader import read_shard
from shard_tool.source.scratch import open_scratch, rows, to_bytes, to_text

MARKER_NAME = ".unpack"
KAGGLES_NAMES = {"train": "training"}
"""Kaggle's name of a split if it differs from ours, as in `images_training_rev1`."""


@click.command(cls=Command)
@click.argument("shards", type=local_path)
@click.argument("out", type=local_path)
@workers_option
def unpack(*, shards: Path, out: Path, workers: int | None) -> None:
    """Turn the folder SHARDS back into JPEGs and votes in the new folder OUT.

    OUT gets Kaggle's layout. The JPEGs have the bytes that were packed; votes are written so that they read back as the
    same float32, missing ones as empty cells. Packing OUT again with the same --seed and --shards gives the same
    shards. The checksum of each shard is verified before anything of it is written.

    \b
    Example:
      shard_tool unpack shards kaggle-again
    """
    manifest = read_manifest(shards)
    with resumable("run the same command again"):
        tables = unpack_folder(shards, manifest, out, workers=workers or num_cores())
    for split in manifest.splits:
        echo(f"{out / images_folder(split)}: {manifest.samples(split):,} images")
    for table in tables:
        echo(f"{table}: votes")


@dataclass(frozen=True, kw_only=True)
class UnpackTask:
    """A shard, and the folder `images` to write its images to."""

    folder: Path
    shard: Shard
    split: str
    images: Path
    num_answers: int


@dataclass(frozen=True, kw_only=True)
class UnpackedShard:
    """Ids of a shard, and for each its votes as text; None without votes."""

    split: str
    shard: Shard
    ids: tuple[str, ...]
    votes: tuple[str | None, ...]


def images_folder(split: str) -> str:
    """Return the folder of a split's images in Kaggle's layout."""
    return f"images_{KAGGLES_NAMES.get(split, split)}_rev1"


def labels_file(split: str) -> str:
    """Return the name of the table of a split's votes in Kaggle's layout."""
    return f"{KAGGLES_NAMES.get(split, split)}_solutions_rev1.csv"


def unpack_folder(folder: Path, manifest: Manifest, out: Path, *, workers: int) -> list[Path]:
    """Write all images and tables, and return the tables. After an error the same call goes on where it stopped.

    Raises:
        OutputError: `out` holds anything but an interrupted unpack of the same shards.
        ShardError: a shard is not what the manifest says, or an id is not a file name or occurs twice.
    """
    tasks = [
        UnpackTask(
            folder=folder,
            shard=shard,
            split=split,
            images=out / images_folder(split),
            num_answers=len(manifest.tree.columns),
        )
        for split, shards in manifest.splits.items()
        for shard in shards
    ]
    total = sum(task.shard.samples for task in tasks)
    with _begun(out, manifest.set_sha256):
        for task in tasks:
            task.images.mkdir(exist_ok=True)
        unpacked = UnpackedRows()
        for each in run_tasks(unpack_shard, tasks, workers=workers, total=total, description="unpack"):
            unpacked.add(each)
        for split in manifest.splits:
            unpacked.refuse_repeated(split, folder)
        os.sync()  # once, not after each of 100,000 files: the tables follow when the images are on the disk
        return list(_write_tables(unpacked, manifest, out))


def unpack_shard(task: UnpackTask, tick: Tick) -> UnpackedShard:
    """Write the images of one shard.

    Raises:
        ShardError: it is not what the manifest says.
    """
    ids, votes = [], []
    for sample in read_shard(task.folder, task.shard, task.num_answers):
        _refuse_as_file_name(sample.id, task)
        _write_image(task.images / f"{sample.id}.jpg", sample.jpeg)
        ids.append(sample.id)
        votes.append(sample.votes)
        tick()
    labelled = [each for each in votes if each is not None]
    texts = iter(format_votes(np.array(labelled, np.float32).reshape(len(labelled), task.num_answers)))
    lines = (None if each is None else ",".join(next(texts)) for each in votes)
    return UnpackedShard(split=task.split, shard=task.shard, ids=tuple(ids), votes=tuple(lines))


def format_votes(votes: NDArray[np.float32]) -> list[list[str]]:
    """Return votes as the shortest text that reads back, through float64, as the same float32; NaN as empty text.

    Args:
        votes: shape (samples, answers).
    """
    texts = votes.astype(np.str_).astype(object)
    missing = np.isnan(votes)
    # rounding twice may go wrong by a bit; the digits of the float64 never do
    is_off = (texts.astype(np.float64).astype(np.float32) != votes) & ~missing
    texts[is_off] = [repr(value) for value in votes[is_off].tolist()]
    texts[missing] = ""
    rows: list[list[str]] = texts.tolist()
    return rows


class UnpackedRows:
    """Unpacked ids with their shards and votes, kept on the disk."""

    def __init__(self) -> None:
        self._database = open_scratch(
            "row (split TEXT, shard TEXT, place INTEGER, id BLOB, number BLOB, votes TEXT)"
        )

    def add(self, unpacked: UnpackedShard) -> None:
        """Add a shard."""
        split, shard = unpacked.split, unpacked.shard.name
        self._database.executemany(
            "INSERT INTO row VALUES (?, ?, ?, ?, ?, ?)",
            (
                (split, shard, place, to_bytes(each), _number(each), votes)
                for place, (each, votes) in enumerate(zip(unpacked.ids, unpacked.votes, strict=True))
            ),
        )

    def refuse_repeated(self, split: str, folder: Path) -> None:
        """Check that no id occurs twice in a split.

        Raises:
            ShardError: an id does.
        """
        found = self._database.execute(
            "SELECT shard, id FROM row WHERE split = :split AND id IN "
            "(SELECT id FROM row WHERE split = :split GROUP BY id HAVING count(*) > 1) ORDER BY shard, place LIMIT 1",
            {"split": split},
        ).fetchone()
        if found:
            raise ShardError(
                f"{folder / found[0]}: id {to_text(found[1])} occurs twice in the split {split}; pack again"
            )

    def labelled(self, split: str) -> Iterator[tuple[str, str]]:
        """Yield ids and votes of a split, ids ascending: as numbers if all are numbers, otherwise as text."""
        query = "SELECT count(*) FROM row WHERE split = ? AND votes IS NOT NULL AND number IS NULL"
        [(num_texts,)] = self._database.execute(query, (split,))
        order = "id" if num_texts else "length(number), number, id"
        query = f"SELECT id, votes FROM row WHERE split = ? AND votes IS NOT NULL ORDER BY {order}"
        return ((to_text(each), votes) for each, votes in rows(self._database, query, (split,)))


def _number(sample_id: str) -> bytes | None:
    """Return the digits of an id that is a number, without leading zeros; None for any other id."""
    return sample_id.lstrip("0").encode() if sample_id.isascii() and sample_id.isdecimal() else None


@contextmanager
def _begun(out: Path, set_sha256: str) -> Iterator[None]:
    """Create the folder `out`, or go on in one where unpacking the same set was interrupted; keep others out.

    The file `MARKER_NAME` in it names the set, from before the first image until after the last table.

    Raises:
        OutputError: `out` holds something else, is not a folder, or another unpack is writing to it.
    """
    marker = out / MARKER_NAME
    _check_folder(out)
    out.mkdir(parents=True, exist_ok=True)
    with exclusive(marker, busy=f"{out}: another unpack is writing to it; wait for its end"):
        _check_folder(out)
        if len(list(out.iterdir())) == 1:
            marker.write_text(set_sha256)  # in place, since the lock is on this file
        elif marker.read_text() != set_sha256:
            raise OutputError(
                f"{out}: unpacking other shards was interrupted there; name a new folder, or empty it"
            )
        yield
        marker.unlink()


def _check_folder(out: Path) -> None:
    """Check that `out` is new, empty, or holds an interrupted unpack."""
    if out.exists() and not (out.is_dir() and (not any(out.iterdir()) or (out / MARKER_NAME).exists())):
        raise OutputError(f"{out}: not an empty folder; name a new one, or take out what is in it")
    if links := [path for path in out.glob("*") if path.is_symlink()]:
        raise OutputError(f"{links[0]}: a symbolic link, which unpack does not follow; remove it")


def _write_image(path: Path, jpeg: bytes) -> None:
    """Write an image, whole or not at all, unless it is there already."""
    if path.is_file() and path.read_bytes() == jpeg:
        return
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    temporary.unlink(missing_ok=True)
    with temporary.open("xb") as file:
        file.write(jpeg)
    temporary.replace(path)


def _refuse_as_file_name(sample_id: str, task: UnpackTask) -> None:
    if "/" in sample_id or "\0" in sample_id or not sample_id:
        raise ShardError(
            f"{task.folder / task.shard.name}: the id {sample_id!r} is not the name of a file; "
            "read these shards with webdataset instead"
        )


def _write_tables(unpacked: UnpackedRows, manifest: Manifest, out: Path) -> Iterator[Path]:
    for split in manifest.splits:
        labelled = unpacked.labelled(split)
        if first := next(labelled, None):
            yield _write_table(out / labels_file(split), chain((first,), labelled), manifest.tree)


def _write_table(path: Path, labelled: Iterable[tuple[str, str]], tree: DecisionTree) -> Path:
    with atomic_write(path) as file:
        text = io.TextIOWrapper(file, "utf-8", newline="")
        lines = csv.writer(text, lineterminator="\n")
        lines.writerow((tree.id_column, *tree.columns))
        lines.writerows((each, *votes.split(",")) for each, votes in labelled)
        text.detach()
    return path
