"""Pack a source into shards: plan, write the shards in parallel, then the list of rejects and the manifest."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from galaxy_zoo.errors import OutputError, SourceError
from galaxy_zoo.files import write_text
from galaxy_zoo.manifest import Manifest, read_manifest
from galaxy_zoo.version import __version__
from shard_tool.joining import Rejected
from shard_tool.journal import REJECTED_NAME, Journal, PackedShard, check_out, is_finished, output_errors
from shard_tool.options import PackOptions
from shard_tool.parallel import run_tasks
from shard_tool.plan import Plan, make_plan
from shard_tool.shard_packer import ShardTask, pack_shard
from shard_tool.sources import SPLITS
from shard_tool.statistics import add_all, channel_moments, vote_means


@dataclass(frozen=True)
class OutOptions:
    """Where to write, and what to do with what is there."""

    folder: Path
    overwrite: bool = False
    resume: bool = False
    workers: int = 1


@dataclass(frozen=True)
class Packed:
    """A finished pack; `rejected` is sorted."""

    manifest: Manifest
    rejected: tuple[Rejected, ...]


def find_finished(options: PackOptions, out: OutOptions) -> Manifest | None:
    """On resuming, the manifest of a pack that is finished already; also checks whether OUT may be written to.

    Raises:
        OutputError: OUT may not be written to, or it was finished from another source or with other options.
    """
    if out.resume and is_finished(out.folder):
        manifest = read_manifest(out.folder)
        if (manifest.tree, manifest.seed) != (options.tree, options.seed):
            raise OutputError(
                f"{out.folder}: finished with tree {manifest.tree.name} and seed {manifest.seed}; "
                "pass --overwrite to pack again"
            )
        if not options.encoding.is_stated(manifest.encoding):
            raise OutputError(
                f"{out.folder}: finished with other --quality, --resize, --pad or --fits options; "
                "pass --overwrite to pack again"
            )
        if options.decode and not manifest.is_decoded:
            raise OutputError(
                f"{out.folder}: finished with --no-decode; pass --overwrite to pack again, decoding all"
            )
        _check_same_samples(make_plan(options), manifest, out.folder)
        return manifest
    check_out(out.folder, overwrite=out.overwrite, resume=out.resume)
    return None


def _check_same_samples(plan: Plan, manifest: Manifest, folder: Path) -> None:
    """Compare what would be packed with what was: shards by name, and the number of samples, kept or rejected."""
    planned = [shard.name for shard in plan.shards]
    packed = [shard.name for shards in manifest.splits.values() for shard in shards]
    num_planned = plan.num_samples + len(plan.rejected)
    num_packed = sum(map(manifest.samples, manifest.splits)) + manifest.rejected
    if planned != packed or num_planned != num_packed:
        raise OutputError(
            f"{folder}: finished with {num_packed:,} samples and rejects in {len(packed)} shards, but SOURCE and the "
            f"options now give {num_planned:,} in {len(planned)}; pass --overwrite to pack again, or name a new folder"
        )


def pack(options: PackOptions, out: OutOptions, plan: Plan | None = None) -> Packed:
    """Write all shards of a source.

    The output is the same, byte for byte, for any number of workers and after any interruption.

    Args:
        plan: of the same options, if the caller has made it already.

    Raises:
        InputError: the source, the labels or the tree cannot be used; nothing was written.
        OutputError: the folder is taken, read-only or full; finished shards are kept for --resume.
    """
    plan = plan or make_plan(options)
    journal = Journal(out.folder)
    with journal.locked(overwrite=out.overwrite, resume=out.resume):
        journal.begin(plan.identity, resume=out.resume)
        shards = write_shards(plan, out)
        rejected = tuple(sorted([*plan.rejected, *(r for shard in shards for r in shard.rejected)]))
        with output_errors(out.folder):
            write_text(out.folder / REJECTED_NAME, rejected_csv(rejected))
            if not any(packed.shard.samples for packed in _of_split(plan.main_split, plan, shards)):
                raise SourceError(
                    f"{options.source}: every {plan.main_split} image was rejected; "
                    f"the reasons are in {out.folder / REJECTED_NAME}"
                )
            manifest = _manifest(options, plan, shards, num_rejected=len(rejected))
            manifest.write(out.folder)
        journal.end()
    return Packed(manifest, rejected)


def write_shards(plan: Plan, out: OutOptions) -> list[PackedShard]:
    """The shards in the order of the plan. The largest begin first, so that the workers end together."""
    tasks = [
        ShardTask(
            out.folder,
            shard,
            plan.image_px,
            plan.num_answers,
            plan.num_measured(shard),
            out.resume,
            plan.encoding,
            plan.decode,
        )
        for shard in plan.shards
    ]
    tasks.sort(key=lambda task: len(task.plan.samples), reverse=True)
    results = run_tasks(pack_shard, tasks, workers=out.workers, total=plan.num_samples, description="pack")
    by_name = {packed.shard.name: packed for packed in results}
    return [by_name[shard.name] for shard in plan.shards]


def _manifest(options: PackOptions, plan: Plan, shards: Sequence[PackedShard], *, num_rejected: int) -> Manifest:
    by_split = {split: _of_split(split, plan, shards) for split in SPLITS}
    statistics = add_all((packed.statistics for packed in shards), plan.num_answers)
    mean, std = channel_moments(statistics, plan.image_px)
    return Manifest(
        tree=options.tree,
        seed=options.seed,
        tool_version=__version__,
        image_px=plan.image_px,
        channel_mean=mean,
        channel_std=std,
        vote_mean=vote_means(statistics),
        rejected=num_rejected,
        splits={split: tuple(p.shard for p in packed) for split, packed in by_split.items() if packed},
        statistics=statistics,
        encoding=plan.encodes,
        is_decoded=plan.decode,
    )


def _of_split(split: str, plan: Plan, shards: Sequence[PackedShard]) -> list[PackedShard]:
    return [packed for planned, packed in zip(plan.shards, shards, strict=True) if planned.split == split]


def rejected_csv(rejected: Sequence[Rejected]) -> str:
    """The text of the list of rejects."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("split", "id", "file", "reason"))
    writer.writerows((each.split, each.id, each.file, each.reason) for each in rejected)
    # a file name may hold bytes that are no UTF-8, which Python keeps as lone surrogates
    return text.getvalue().encode(errors="backslashreplace").decode()
