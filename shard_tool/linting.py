"""Check a folder of shards against its manifest, down to every pixel and every vote."""

import csv
import io
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from galaxy_zoo.errors import ImageError, ShardError
from galaxy_zoo.files import TEMPORARY_SUFFIX, sha256_of
from galaxy_zoo.index import Component, Sample, index_path, key_of, read_index
from galaxy_zoo.manifest import Manifest, Shard
from galaxy_zoo.tree import DecisionTree
from galaxy_zoo.votes import check_votes
from shard_tool.info import is_labelled
from shard_tool.journal import JOURNAL_NAME, REJECTED_NAME
from shard_tool.jpeg import check_strictly
from shard_tool.parallel import Tick, run_tasks
from shard_tool.shard_writer import IMAGE_EXTENSION, NPY_HEADER_BYTES, VOTES_EXTENSION


@dataclass(frozen=True)
class Failure:
    """What is wrong: in which file, with which sample ("" for the file as a whole), and what."""

    file: str
    sample: str
    reason: str


@dataclass(frozen=True)
class LintTask:
    """A shard to check."""

    folder: Path
    split: str
    shard: Shard
    tree: DecisionTree
    image_px: tuple[int, int]
    is_labelled: bool


@dataclass(frozen=True)
class LintedShard:
    """What came of checking a shard; `ids` in its order."""

    task: LintTask
    ids: tuple[str, ...]
    failures: tuple[Failure, ...]


def lint_folder(folder: Path, manifest: Manifest, *, workers: int) -> list[Failure]:
    """Check everything in a folder of shards; the failures in the order of files and samples.

    Raises:
        OSError: a file cannot be read.
    """
    tasks = [
        LintTask(folder, split, shard, manifest.tree, manifest.image_px, is_labelled(manifest, split))
        for split, shards in manifest.splits.items()
        for shard in shards
    ]
    total = sum(task.shard.samples for task in tasks)
    linted = list(run_tasks(lint_shard, tasks, workers=workers, total=total, description="lint"))
    linted.sort(key=lambda each: each.task.shard.name)
    failures = [*_lint_files(folder, manifest), *(f for each in linted for f in each.failures)]
    return [*failures, *_repeated_ids(linted)]


def lint_shard(task: LintTask, tick: Tick) -> LintedShard:
    """Check one shard: checksums, tar, index, images and votes."""
    tar, index = task.folder / task.shard.name, index_path(task.folder / task.shard.name)
    failures = list(_check_sums(task, tar, index))
    samples: list[Sample] = []
    if tar.is_file():
        samples, why = _walk(tar)
        failures += [Failure(tar.name, "", why)] if why else []
        failures += _check_index(index, samples)
        with tar.open("rb") as file:
            for sample in samples:
                failures += [Failure(tar.name, key_of(sample), r) for r in _check_sample(sample, file, task)]
                tick()
    if len(samples) != task.shard.samples and tar.is_file():
        reason = f"{len(samples)} samples, the manifest says {task.shard.samples}"
        failures.append(Failure(tar.name, "", reason))
    return LintedShard(task, tuple(key_of(sample) for sample in samples), tuple(failures))


def _lint_files(folder: Path, manifest: Manifest) -> Iterator[Failure]:
    tars = {shard.name for shards in manifest.splits.values() for shard in shards}
    known = tars | {index_path(Path(tar)).name for tar in tars}
    for path in sorted(folder.iterdir()):
        if path.name == JOURNAL_NAME:
            yield Failure(path.name, "", "the journal of an unfinished pack: finish it with pack --resume")
        elif path.suffix in (".tar", ".idx", TEMPORARY_SUFFIX) and path.name not in known:
            yield Failure(path.name, "", "not in the manifest: remove it")
    try:
        with (folder / REJECTED_NAME).open(newline="") as file:
            rejects = sum(1 for _ in csv.reader(file)) - 1
    except (OSError, ValueError, csv.Error) as error:
        yield Failure(REJECTED_NAME, "", f"missing or damaged: {error}")
        return
    if rejects != manifest.rejected:
        yield Failure(REJECTED_NAME, "", f"{rejects} rows, the manifest says {manifest.rejected}")


def _check_sums(task: LintTask, tar: Path, index: Path) -> Iterator[Failure]:
    for path, expected in ((tar, task.shard.sha256), (index, task.shard.index_sha256)):
        if not path.is_file():
            yield Failure(path.name, "", "missing")
        elif path == tar and path.stat().st_size != task.shard.bytes:
            yield Failure(path.name, "", f"{path.stat().st_size:,} bytes, the manifest says {task.shard.bytes:,}")
        elif sha256_of(path) != expected:
            yield Failure(path.name, "", "changed since it was packed: its sha256 differs from the manifest's")


def _walk(tar: Path) -> tuple[list[Sample], str]:
    """The samples of a tar as far as it can be read, and why it cannot be read further, if so."""
    components: list[Component] = []
    why = ""
    try:
        with tarfile.open(tar, "r:") as file:
            for member in file:
                key, _, extension = member.name.partition(".")
                if not member.isfile() or not key or not extension:
                    why = why or f"member {member.name!r} is not a file of a sample"
                    continue
                components.append(Component(extension, member.offset_data, member.size, member.name))
    except (tarfile.TarError, OSError) as error:
        why = f"not a whole tar: {error}"
    groups = groupby(components, key=lambda component: component.name.partition(".")[0])
    return [tuple(group) for _, group in groups], why


def _check_index(index: Path, samples: Sequence[Sample]) -> Iterator[Failure]:
    if not index.is_file():
        return
    try:
        indexed = read_index(index)
    except ShardError as error:
        yield Failure(index.name, "", str(error))
        return
    if len(indexed) != len(samples):
        yield Failure(index.name, "", f"{len(indexed)} samples, the tar has {len(samples)}")
    for written, found in zip(indexed, samples, strict=False):
        if written != found:
            yield Failure(index.name, key_of(found), f"the index says {written}, the tar {found}")


def _check_sample(sample: Sample, file: io.BufferedReader, task: LintTask) -> Iterator[str]:
    data = {}
    for component in sample:
        file.seek(component.offset)
        data[component.extension] = file.read(component.size)
    expected = {IMAGE_EXTENSION, VOTES_EXTENSION} if task.is_labelled else {IMAGE_EXTENSION}
    if len(data) != len(sample) or set(data) != expected:
        names = ", ".join(component.name for component in sample)
        yield f"holds {names}; expected {' and '.join(sorted(expected))}"
    if IMAGE_EXTENSION in data:
        try:
            check_strictly(data[IMAGE_EXTENSION], task.image_px)
        except ImageError as error:
            yield str(error)
    if VOTES_EXTENSION in data:
        yield from _check_votes(data[VOTES_EXTENSION], task.tree)


def _check_votes(data: bytes, tree: DecisionTree) -> Iterator[str]:
    try:
        votes: NDArray[np.float32] = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        yield f"its votes are not a .npy file: {error}"
        return
    if votes.dtype != np.dtype("<f4") or votes.shape != (len(tree.columns),):
        yield (
            f"votes of {votes.dtype} and shape {votes.shape}; tree {tree.name!r} needs float32 and "
            f"shape ({len(tree.columns)},)"
        )
        return
    if len(data) != NPY_HEADER_BYTES + votes.nbytes:
        yield f"its votes have {len(data)} bytes, the loader needs {NPY_HEADER_BYTES + votes.nbytes}"
    outside = np.flatnonzero((votes < 0) | (votes > 1))
    if len(outside):
        yield f"vote {tree.columns[outside[0]]} is {votes[outside[0]]:.6g}, outside [0, 1]"
    for violation in check_votes(votes[None].astype(np.float64), tree):
        yield f"the votes break the tree: {violation}"


def _repeated_ids(linted: Sequence[LintedShard]) -> Iterator[Failure]:
    first: dict[tuple[str, str], str] = {}
    for each in linted:
        for sample_id in each.ids:
            name = each.task.shard.name
            if (where := first.setdefault((each.task.split, sample_id), name)) != name:
                yield Failure(name, sample_id, f"the id also stands in {where}")
        repeated = len(each.ids) - len(set(each.ids))
        if repeated:
            yield Failure(each.task.shard.name, "", f"{repeated} ids stand more than once")
