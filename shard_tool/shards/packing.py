"""Pack a source into shards: write them in parallel, then the list of rejects and the manifest."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from galaxy_zoo.errors import OutputError, SourceError
from galaxy_zoo.files import atomic_write
from galaxy_zoo.manifest import MANIFEST_NAME, Manifest, read_manifest
from galaxy_zoo.remote import AnyPath
from galaxy_zoo.version import __version__
from shard_tool.shards.cluster import Cluster
from shard_tool.shards.journal import REJECTED_NAME, Journal, PackedShard, is_finished, output_errors
from shard_tool.shards.packer import ShardTask, pack_shard
from shard_tool.shards.parallel import run_tasks
from shard_tool.shards.repeated_images import Leak, PackedImages
from shard_tool.shards.statistics import add_all, channel_moments, vote_means
from shard_tool.source.files import check_unchanged
from shard_tool.source.ids import FORMULA
from shard_tool.source.options import PackOptions
from shard_tool.source.plan import NothingLeftError, PackPlan, make_plan
from shard_tool.source.samples import Rejected, Rejects


@dataclass(frozen=True, kw_only=True)
class OutOptions:
    """Where to write, what to do with existing files, and who writes: a cluster, or processes of this machine."""

    folder: AnyPath
    overwrite: bool = False
    resume: bool = False
    workers: int = 1
    cluster: Cluster | None = None


@dataclass(frozen=True)
class Packed:
    """A finished pack; `leak` is None if no test image has the bytes of a training image."""

    manifest: Manifest
    rejected: Rejects
    leak: Leak | None


def find_finished(options: PackOptions, out: OutOptions) -> Manifest | None:
    """Return the manifest of an already finished pack if resuming, else None.

    Raises:
        OutputError: the finished pack has another source or other options.
    """
    if not (out.resume and is_finished(out.folder)):
        return None
    manifest = read_manifest(out.folder)
    if difference := _difference(options, manifest):
        raise OutputError(f"{out.folder}: finished {difference}; pass --overwrite to pack again")
    _check_same_samples(make_plan(options), manifest, out.folder)
    Journal(out.folder).tidy()
    return manifest


def _difference(options: PackOptions, manifest: Manifest) -> str:
    """Return text about the options of a finished pack that differ from this one's; "" if none do."""
    if (manifest.tree, manifest.seed) != (options.tree, options.seed):
        return f"with tree {manifest.tree.name} and seed {manifest.seed}"
    if not options.encoding.is_stated(manifest.encoding):
        return "with other --quality, --resize, --pad, --fits-range or --fits-softening"
    return "with --no-decode" if options.decode and not manifest.is_decoded else ""


def _check_same_samples(plan: PackPlan, manifest: Manifest, folder: AnyPath) -> None:
    """Check that the same shards, samples and votes would be packed; raise OutputError if not."""
    planned = plan.names
    packed = [shard.name for shards in manifest.splits.values() for shard in shards]
    num_planned = plan.num_samples + len(plan.rejected)
    num_packed = sum(map(manifest.samples, manifest.splits)) + manifest.rejected
    if planned != packed or num_planned != num_packed:
        raise OutputError(
            f"{folder}: finished with {num_packed:,} samples and rejects in {len(packed)} shards, but SOURCE and the "
            f"options now give {num_planned:,} in {len(planned)}; pass --overwrite to pack again, or name a new folder"
        )
    if manifest.source_sha256 not in (plan.source_sha256, None):
        raise OutputError(
            f"{folder}: finished from other votes, or from files of other sizes, than SOURCE and the options give now; "
            "pass --overwrite to pack again, or name a new folder"
        )


@contextmanager
def locked_journal(out: OutOptions) -> Iterator[Journal]:
    """Keep every other pack out of OUT while this one plans and writes; yield its journal.

    Raises:
        OutputError: another pack is writing to OUT, or OUT holds something that is in the way.
    """
    journal = Journal(out.folder)
    with journal.locked(overwrite=out.overwrite, resume=out.resume):
        yield journal


def plan_or_list_rejects(options: PackOptions, out: OutOptions) -> PackPlan:
    """Make the plan; if it leaves nothing to pack, and OUT holds no set yet, list the rejects in OUT.

    Raises:
        InputError: `make_plan` raises it.
    """
    try:
        return make_plan(options)
    except NothingLeftError as error:
        if (out.folder / MANIFEST_NAME).exists():
            raise
        with output_errors(out.folder):
            write_rejects(out.folder / REJECTED_NAME, error.rejected)
        raise SourceError(f"{error}; all are in {out.folder / REJECTED_NAME}") from error


def pack(options: PackOptions, out: OutOptions, plan: PackPlan, journal: Journal) -> Packed:
    """Write all shards of a source.

    The output is the same, byte for byte, for any number of workers and after any interruption.

    Args:
        plan: plan made with the same options.
        journal: journal of OUT, from `begun`.

    Raises:
        InputError: the source, the labels or the tree cannot be used; nothing was written.
        OutputError: the folder is in use, read-only or full; finished shards are kept for --resume.
    """
    journal.begin(plan.identity, resume=out.resume)
    shards, rejected, images = write_shards(plan, out)
    check_unchanged(options.source, plan.files())
    with output_errors(out.folder):
        write_rejects(out.folder / REJECTED_NAME, rejected)
        if not any(packed.shard.samples for packed in by_split(plan, shards)[plan.main_split]):
            raise SourceError(
                f"{options.source}: every {plan.main_split} image was rejected. {rejected.summary()}; "
                f"all are in {out.folder / REJECTED_NAME}"
            )
        manifest = _manifest(options, plan, shards, num_rejected=len(rejected))
        journal.check_held()
        manifest.write(out.folder)
    journal.end()
    return Packed(manifest, rejected, images.leak())


def write_shards(plan: PackPlan, out: OutOptions) -> tuple[list[PackedShard], Rejects, PackedImages]:
    """Write the shards of a plan; return them in its order, all rejects, including those of the plan, and the images.

    Raises:
        InputError: a worker of the cluster does not see the folder.
        OutputError: a shard cannot be written.
    """
    if out.cluster is not None:
        out.cluster.check_sees(out.folder)
    fence = Journal(out.folder).fence()
    tasks = (
        ShardTask(
            out=out.folder,
            plan=shard,
            image_px=plan.image_px,
            num_answers=plan.num_answers,
            num_measured=plan.num_measured(shard),
            resume=out.resume,
            fence=fence,
            encoding=plan.encoding,
            decode=plan.decode,
        )
        for shard in plan.shards()
    )
    results = run_tasks(
        pack_shard,
        tasks,
        workers=out.workers,
        total=plan.num_samples,
        description="pack",
        executor=out.cluster,
    )
    splits = {name: cut.split for cut in plan.cuts for name in cut.names}
    by_name, rejected, images = {}, Rejects(plan.rejected), PackedImages()
    for packed in results:
        rejected.add(packed.rejected)
        images.add(splits[packed.shard.name], packed.fingerprints)
        by_name[packed.shard.name] = replace(packed, rejected=(), fingerprints={})
    return [by_name[name] for name in plan.names], rejected, images


def _manifest(
    options: PackOptions, plan: PackPlan, shards: Sequence[PackedShard], *, num_rejected: int
) -> Manifest:
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
        splits={s: tuple(p.shard for p in packed) for s, packed in by_split(plan, shards).items()},
        statistics=statistics,
        encoding=stated_encoding(plan, shards),
        is_decoded=plan.decode,
        source_sha256=plan.source_sha256,
    )


def stated_encoding(plan: PackPlan, shards: Iterable[PackedShard]) -> dict[str, Any] | None:
    """Return what the manifest states about encoding, None if every image keeps its bytes.

    The plan does not know everything: a worker may find a PNG that is named like a JPEG.
    """
    return plan.encodes or (plan.encoding.to_dict() if any(packed.is_encoded for packed in shards) else None)


def by_split(plan: PackPlan, shards: Sequence[PackedShard]) -> dict[str, list[PackedShard]]:
    """Return the shards by split; they are in the order of the plan."""
    remaining = iter(shards)
    return {cut.split: list(islice(remaining, cut.num_shards)) for cut in plan.cuts}


def _inert(name: str) -> str:
    """Return a name in a form that a spreadsheet shows instead of running."""
    return f"'{name}" if FORMULA.match(name) else name


def write_rejects(path: AnyPath, rejected: Iterable[Rejected]) -> None:
    """Write the list of rejects, whole or not at all."""
    with atomic_write(path) as file:
        # a file name may hold bytes that are not UTF-8, which Python keeps as lone surrogates
        text = io.TextIOWrapper(file, "utf-8", "backslashreplace", newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("split", "id", "file", "reason"))
        writer.writerows((each.split, _inert(each.id), _inert(each.file), each.reason) for each in rejected)
        text.detach()
