"""`shard_tool lint`: check a folder of shards against its manifest."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click

from galaxy_zoo.console import Command, ends_at_ctrl_c, path_or_url
from galaxy_zoo.cores import num_cores
from galaxy_zoo.errors import ShardError
from galaxy_zoo.files import TEMPORARY_SUFFIX, is_special, kind_of, sha256_of
from galaxy_zoo.index import Sample, index_path, key_of, read_index
from galaxy_zoo.manifest import MANIFEST_NAME, Manifest, Shard, is_as_written, read_manifest
from galaxy_zoo.remote import AnyPath
from galaxy_zoo.text import shown
from shard_tool.commands.info import is_labelled
from shard_tool.commands.options import (
    check_workers,
    echo,
    echo_failures,
    scheduler_option,
    warn_of_shared_ids,
    workers_option,
)
from shard_tool.shards.journal import JOURNAL_NAME, REJECTED_NAME
from shard_tool.shards.parallel import Executor, Tick, run_tasks
from shard_tool.shards.proof import Failure, SampleRules, find_votes, prove_samples
from shard_tool.shards.reader import image_of
from shard_tool.shards.repeated_ids import SeenIds
from shard_tool.shards.tar_walk import walk_tar


@dataclass(frozen=True, kw_only=True)
class LintTask:
    """A shard to check; with `deep` including every image and vote."""

    folder: AnyPath
    split: str
    shard: Shard
    rules: SampleRules
    deep: bool

    def __str__(self) -> str:
        """Return its name in messages."""
        return self.shard.name


@dataclass(frozen=True)
class LintedShard:
    """Ids of a shard, in its order, and its failures."""

    task: LintTask
    ids: tuple[str, ...]
    failures: tuple[Failure, ...]


@click.command(cls=Command)
@click.argument("shards", type=path_or_url)
@click.option(
    "--deep", is_flag=True, help="Also decode every image and check every vote.  [default: only the files]"
)
@workers_option
@scheduler_option
def lint(*, shards: AnyPath, deep: bool, workers: int | None, scheduler: str | None) -> None:
    """Check the folder SHARDS against its manifest.

    Every file must be present with its size and sha256, every index must fit its shard, and no id may occur twice. All
    failures are listed and make the exit code 1. Since `pack` checks every image before it writes a shard, this shows
    that nothing has changed; --deep checks the images and votes again.

    \b
    Examples:
      shard_tool lint shards
      shard_tool lint shards --deep
    """
    check_workers(workers, scheduler)
    with ends_at_ctrl_c():
        from shard_tool.shards.cluster import connected
    if scheduler:  # the workers run in other folders
        shards = shards.absolute()
    manifest = read_manifest(shards)
    with connected(scheduler, shards) as cluster:
        failures = lint_folder(shards, manifest, deep=deep, workers=workers or num_cores(), executor=cluster)
    echo_failures(failures)
    if failures:
        raise click.ClickException(f"failures in {shown(shards)}: {len(failures):,}; pack it again")
    num_shards = sum(len(shards) for shards in manifest.splits.values())
    num_samples = sum(manifest.samples(split) for split in manifest.splits)
    echo(f"{shards}: good: {num_samples:,} samples in {num_shards:,} shards")


def lint_folder(
    folder: AnyPath, manifest: Manifest, *, deep: bool, workers: int, executor: Executor | None = None
) -> list[Failure]:
    """Check everything in a folder of shards and return the failures in the order of files and samples.

    Raises:
        OSError: a file cannot be read.
    """
    tasks = [
        LintTask(folder=folder, split=split, shard=shard, rules=_rules(manifest, split), deep=deep)
        for split, shards in manifest.splits.items()
        for shard in shards
    ]
    total = sum(task.shard.samples for task in tasks)
    seen, linted = SeenIds(), []
    results = run_tasks(lint_shard, tasks, workers=workers, total=total, description="lint", executor=executor)
    for each in results:
        seen.add(each.task.split, each.task.shard.name, each.ids)
        linted.append(replace(each, ids=()))
    warn_of_shared_ids(*seen.in_several_splits())
    linted.sort(key=lambda each: each.task.shard.name)
    failures = [*_lint_files(folder, manifest), *(f for each in linted for f in each.failures)]
    again = (row for split in sorted(manifest.splits) for row in seen.again(split))
    failures += [Failure(shard, i, f"the id is also in {first}") for shard, i, first in again if shard != first]
    return failures


def lint_shard(task: LintTask, tick: Tick) -> LintedShard:
    """Check one shard: checksums and index, and with `deep` the tar, every image and every vote."""
    tar, index = task.folder / task.shard.name, index_path(task.folder / task.shard.name)
    failures = list(_check_sums(task, tar, index))
    indexed: list[Sample] | None = None
    if index.is_file():
        try:
            indexed = read_index(index)
        except ShardError as error:
            failures.append(Failure(index.name, "", str(error)))
    if task.deep and tar.is_file():
        samples, found = _lint_deeply(task, tar, indexed, tick)
    else:
        samples, found = indexed or [], _check_index(task, tar, indexed)
        for _ in samples:  # only as many as there are: the manifest may state any number
            tick()
    ids = tuple(key_of(sample) for sample in samples)
    return LintedShard(task, ids, (*failures, *found, *_repeated_ids(ids, task.shard)))


def _rules(manifest: Manifest, split: str) -> SampleRules:
    return SampleRules(
        tree=manifest.tree,
        image_px=manifest.image_px,
        is_labelled=is_labelled(manifest, split),
        is_foreign=manifest.is_foreign,
    )


def _lint_files(folder: AnyPath, manifest: Manifest) -> Iterator[Failure]:
    from shard_tool.shards.appending import STAGING_NAME

    tars = {shard.name for shards in manifest.splits.values() for shard in shards}
    known = tars | {index_path(Path(tar)).name for tar in tars}
    paths: list[AnyPath] = sorted(folder.iterdir(), key=lambda path: path.name)
    for path in paths:
        if path.name == JOURNAL_NAME:
            yield Failure(
                path.name, "", "the journal of an unfinished pack: finish it with shard_tool pack --resume"
            )
        elif path.name == STAGING_NAME:
            yield Failure(path.name, "", "an unfinished append: finish it with shard_tool append --resume")
        elif path.suffix in (".tar", ".idx", TEMPORARY_SUFFIX) and path.name not in known:
            yield Failure(path.name, "", "not in the manifest: remove it")
    if not is_as_written(folder):
        yield Failure(MANIFEST_NAME, "", "changed since it was written: its own_sha256 differs")
    if manifest.is_foreign:
        return
    try:
        if is_special(folder / REJECTED_NAME):
            raise ValueError("a pipe or a device")
        rejects = sum(1 for _ in csv.reader(io.StringIO((folder / REJECTED_NAME).read_text(), newline=""))) - 1
    except (OSError, ValueError, csv.Error) as error:
        yield Failure(REJECTED_NAME, "", f"missing or damaged: {error}")
        return
    if rejects != manifest.rejected:
        yield Failure(REJECTED_NAME, "", f"{rejects} rows, the manifest says {manifest.rejected}")


def _check_sums(task: LintTask, tar: AnyPath, index: AnyPath) -> Iterator[Failure]:
    for path, expected in ((tar, task.shard.sha256), (index, task.shard.index_sha256)):
        if not path.is_file():
            yield Failure(path.name, "", kind_of(path))
        elif path == tar and path.stat().st_size != task.shard.bytes:
            yield Failure(path.name, "", f"{path.stat().st_size:,} bytes, the manifest says {task.shard.bytes:,}")
        elif sha256_of(path) != expected:
            yield Failure(path.name, "", "changed since it was packed: its sha256 differs from the manifest's")


def _check_index(task: LintTask, tar: AnyPath, indexed: Sequence[Sample] | None) -> list[Failure]:
    """Return the failures that an index shows without reading the tar."""
    if indexed is None:
        return []
    failures = _check_count(task, index_path(tar).name, len(indexed))
    for sample in indexed:
        if image_of(sample) is None:
            failures.append(Failure(tar.name, key_of(sample), "does not hold one JPEG"))
        if max(c.offset + c.size for c in sample) > task.shard.bytes:
            failures.append(Failure(tar.name, key_of(sample), "ends after the shard"))
    return failures


def _lint_deeply(
    task: LintTask, tar: AnyPath, indexed: Sequence[Sample] | None, tick: Tick
) -> tuple[Sequence[Sample], list[Failure]]:
    """Return the samples that the tar really holds, and their failures."""
    walk = walk_tar(tar)
    samples, failures = walk.samples, [Failure(tar.name, "", walk.why)] if walk.why else []
    if task.rules.is_foreign:
        samples = find_votes(tar, samples, task.rules.tree)
    else:
        failures += [Failure(tar.name, "", f"member {other!r} is not a file of a sample") for other in walk.others]
    if indexed is not None:
        failures += _compare(index_path(tar).name, indexed, samples)
    failures += prove_samples(tar, samples, task.rules, tick)
    return samples, failures + _check_count(task, tar.name, len(samples))


def _check_count(task: LintTask, file: str, num_samples: int) -> list[Failure]:
    if num_samples == task.shard.samples:
        return []
    return [Failure(file, "", f"{num_samples} samples, the manifest says {task.shard.samples}")]


def _compare(index: str, indexed: Sequence[Sample], found: Sequence[Sample]) -> Iterator[Failure]:
    if len(indexed) != len(found):
        yield Failure(index, "", f"{len(indexed)} samples, the tar has {len(found)}")
    for written, real in zip(indexed, found, strict=False):
        if written != real:
            yield Failure(index, key_of(real), f"the index says {written}, the tar {real}")


def _repeated_ids(ids: Sequence[str], shard: Shard) -> list[Failure]:
    repeated = len(ids) - len(set(ids))
    return [Failure(shard.name, "", f"{repeated} ids occur more than once")] if repeated else []
