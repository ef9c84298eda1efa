"""Groups of training shards: a rank opens only its groups, so its machine reads nothing else in any epoch.

The training shards are dealt into groups once for a run, and the groups are dealt to the ranks at each start. So the
order of an epoch (`order.GroupedOrder`) does not depend on the number of ranks, and a run can go on with fewer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapreplace

from galaxy_zoo.errors import ShardError
from galaxy_zoo.fold import Fold
from galaxy_zoo.manifest import Shard, read_manifest
from pipeline.cache import ShardSet
from pipeline.order import Groups
from pipeline.shards import Samples, open_shards, shards_of


@dataclass(frozen=True, kw_only=True)
class Opened:
    """The training samples that a rank has open.

    held_out: samples of the fold held out; None without a fold, or on a rank that has none of them.
    groups, held_groups: groups of the samples of all ranks; None if every rank has all samples.
    """

    samples: Samples
    held_out: Samples | None
    groups: Groups | None = None
    held_groups: Groups | None = None


def open_all(source: ShardSet, *, fold: Fold | None) -> Opened:
    """Open all training samples."""
    source.need("train")
    return Opened(
        samples=open_shards(source.folder, "train", fold=fold),
        held_out=open_shards(source.folder, "train", fold=fold, held_out=True) if fold is not None else None,
    )


def open_groups(source: ShardSet, *, fold: Fold | None, num_groups: int, rank: int, world_size: int) -> Opened:
    """Open the rank's groups, of `num_groups` in all, and its part of the shards held out.

    Raises:
        ShardError: there are no training shards or too few of them, or a shard is not what the manifest says.
    """
    manifest = read_manifest(source.folder)
    shards = shards_of(source.path, manifest, "train")
    kept, held = fold.split(shards) if fold is not None else (shards, ())
    if len(kept) < num_groups:
        raise ShardError(
            f"{source.path}: {len(kept)} shards to train on for {num_groups} groups, of a shard at least; "
            f"start at most {len(kept)} ranks, or pack with --shards {2 * num_groups} or more"
        )
    groups = deal(kept, num_groups)
    mine = range(-(-rank * num_groups // world_size), -(-(rank + 1) * num_groups // world_size))
    held_groups = deal(held, world_size)
    ours, held_here = [shard for group in mine for shard in groups[group]], held_groups[rank]
    source.need_shards([*ours, *held_here])
    return Opened(
        samples=Samples(source.folder, manifest, ours),
        held_out=Samples(source.folder, manifest, held_here) if held_here else None,
        groups=Groups(_sizes(groups), mine),
        held_groups=Groups(_sizes(held_groups), range(rank, rank + 1)),
    )


def deal(shards: Sequence[Shard], num_groups: int) -> list[list[Shard]]:
    """Deal shards into groups of about equal size: each to the (first) group with the fewest samples so far.

    Two groups differ by at most the samples of one shard. Shards of equal size are dealt in turn, so each group, like
    a fold, gets its share of shards appended to the set.
    """
    groups: list[list[Shard]] = [[] for _ in range(num_groups)]
    fewest = [(0, group) for group in range(num_groups)]
    for shard in shards:
        samples, group = fewest[0]
        groups[group].append(shard)
        heapreplace(fewest, (samples + shard.samples, group))
    return groups


def _sizes(groups: Sequence[Sequence[Shard]]) -> tuple[int, ...]:
    return tuple(sum(shard.samples for shard in group) for group in groups)
