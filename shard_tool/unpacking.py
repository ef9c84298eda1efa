"""Give back what was packed: the JPEGs in Kaggle's layout, and a table of votes."""

import csv
import io
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from galaxy_zoo.errors import OutputError, ShardError
from galaxy_zoo.files import TEMPORARY_SUFFIX, write_text
from galaxy_zoo.manifest import Manifest, Shard
from galaxy_zoo.tree import DecisionTree
from shard_tool.parallel import Tick, run_tasks
from shard_tool.shard_reader import read_shard

KAGGLES_NAMES = {"train": "training"}
"""Kaggle's name of a split where it is not our own: `images_training_rev1`."""


@dataclass(frozen=True)
class UnpackTask:
    """A shard whose images go to `images`."""

    folder: Path
    shard: Shard
    split: str
    images: Path
    num_answers: int


@dataclass(frozen=True)
class UnpackedShard:
    """What came of a shard: its `ids`, and of those with votes `labelled` and votes, shape (labelled, answers)."""

    split: str
    shard: Shard
    ids: tuple[str, ...]
    labelled: tuple[str, ...]
    votes: NDArray[np.float32]


def images_folder(split: str) -> str:
    """The folder of a split's images in Kaggle's layout."""
    return f"images_{KAGGLES_NAMES.get(split, split)}_rev1"


def labels_file(split: str) -> str:
    """The table of a split's votes in Kaggle's layout."""
    return f"{KAGGLES_NAMES.get(split, split)}_solutions_rev1.csv"


def unpack_folder(folder: Path, manifest: Manifest, out: Path, *, workers: int) -> list[Path]:
    """Write all images and tables; returns the tables. On an error everything written is removed again.

    Raises:
        OutputError: `out` is not empty.
        ShardError: a shard is not what the manifest says, or an id is no file name or stands twice.
    """
    tasks = [
        UnpackTask(folder, shard, split, out / images_folder(split), len(manifest.tree.columns))
        for split, shards in manifest.splits.items()
        for shard in shards
    ]
    total = sum(task.shard.samples for task in tasks)
    with _new_folder(out):
        for task in tasks:
            task.images.mkdir(exist_ok=True)
        done = list(run_tasks(unpack_shard, tasks, workers=workers, total=total, description="unpack"))
        done.sort(key=lambda each: each.shard.name)
        for split in manifest.splits:
            _refuse_repeated([each for each in done if each.split == split], folder)
        os.sync()  # once, instead of after each of 100,000 files: the tables come when the images are on the disk
        return list(_write_tables(done, manifest, out))


def unpack_shard(task: UnpackTask, tick: Tick) -> UnpackedShard:
    """Write the images of one shard.

    Raises:
        ShardError: it is not what the manifest says.
    """
    ids, labelled, votes = [], [], []
    for sample in read_shard(task.folder, task.shard, task.num_answers):
        _refuse_as_file_name(sample.id, task)
        _write_image(task.images / f"{sample.id}.jpg", sample.jpeg)
        ids.append(sample.id)
        if sample.votes is not None:
            labelled.append(sample.id)
            votes.append(sample.votes)
        tick()
    table = np.array(votes, np.float32).reshape(len(votes), task.num_answers)
    return UnpackedShard(task.split, task.shard, tuple(ids), tuple(labelled), table)


def format_votes(votes: NDArray[np.float32]) -> list[list[str]]:
    """Votes as the shortest texts that read back as the same float32, through float64; NaN as an empty text.

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


def in_order(ids: Iterable[str]) -> list[str]:
    """Ids ascending: as numbers where all of them are, otherwise as text."""
    ids = list(ids)
    if all(each.isascii() and each.isdecimal() for each in ids):
        return sorted(ids, key=lambda each: (int(each), each))
    return sorted(ids)


@contextmanager
def _new_folder(out: Path) -> Iterator[None]:
    """Make `out`, or take an empty folder; when the block fails leave it as empty as it was.

    Raises:
        OutputError: there is something in it, or it is no folder.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out}: not an empty folder; name a new one, or take out what is in it")
    out.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for entry in out.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        raise


def _write_image(path: Path, jpeg: bytes) -> None:
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    temporary.write_bytes(jpeg)
    temporary.replace(path)


def _refuse_as_file_name(sample_id: str, task: UnpackTask) -> None:
    if "/" in sample_id or "\0" in sample_id or not sample_id:
        raise ShardError(
            f"{task.folder / task.shard.name}: the id {sample_id!r} is not the name of a file; "
            "read these shards with webdataset instead"
        )


def _refuse_repeated(shards: Sequence[UnpackedShard], folder: Path) -> None:
    counts = Counter(each for shard in shards for each in shard.ids)
    for each in shards:
        twice = [sample_id for sample_id in each.ids if counts[sample_id] > 1]
        if twice:
            raise ShardError(
                f"{folder / each.shard.name}: id {twice[0]} stands twice in the split {each.split}; pack again"
            )


def _write_tables(done: Sequence[UnpackedShard], manifest: Manifest, out: Path) -> Iterator[Path]:
    for split in manifest.splits:
        rows: dict[str, list[str]] = {}
        for each in done:
            if each.split == split:
                rows.update(zip(each.labelled, format_votes(each.votes), strict=True))
        if rows:
            yield _write_table(out / labels_file(split), rows, manifest.tree)


def _write_table(path: Path, rows: dict[str, list[str]], tree: DecisionTree) -> Path:
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow((tree.id_column, *tree.columns))
    lines.writerows((each, *rows[each]) for each in in_order(rows))
    write_text(path, text.getvalue())
    return path
