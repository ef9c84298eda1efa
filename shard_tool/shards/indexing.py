"""Check WebDataset tars of other origin, and write an index for each and a manifest."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from shlex import quote

from galaxy_zoo.errors import ImageError, OutputError, ShardError
from galaxy_zoo.files import sha256_of, write_text
from galaxy_zoo.image_size import Size, common_size
from galaxy_zoo.index import Sample, format_index, index_path, key_of
from galaxy_zoo.manifest import MANIFEST_NAME, Manifest, Shard, Statistics, repeated_shard
from galaxy_zoo.strict import parse_json
from galaxy_zoo.tree import DecisionTree
from galaxy_zoo.version import __version__
from shard_tool.images.jpeg import jpeg_size
from shard_tool.shards.packer import ChannelSums
from shard_tool.shards.parallel import Tick, run_tasks
from shard_tool.shards.proof import Failure, SampleRules, find_votes, prove_samples
from shard_tool.shards.reader import decode_votes, image_of, read_component, votes_of
from shard_tool.shards.repeated_ids import SeenIds
from shard_tool.shards.statistics import add_all, add_up_votes, channel_moments, no_statistics, vote_means
from shard_tool.shards.tar_walk import walk_tar
from shard_tool.source.files import DECOMPRESSED_BY
from shard_tool.source.scratch import open_scratch, rows

SPLIT_PREFIXES = ("train", "test", "val")
TARS_LOOKED_AT = 100
MEMBERS_SHOWN = 3
COMPRESSED_TAR = re.compile(r"\.(tar\.\w+|tgz|txz|tbz2?|tzst)$")
NO_SAMPLE = "holds no sample: a sample is KEY.jpg with KEY.<anything>"


@dataclass(frozen=True, kw_only=True)
class IndexTask:
    """A tar to check, and whether its pixels count for the channel statistics."""

    tar: Path
    split: str
    rules: SampleRules
    is_measured: bool


@dataclass(frozen=True, kw_only=True)
class IndexedShard:
    """Contents of a tar, or the reasons why it cannot be used.

    besides: extension -> number of components that are neither image nor votes.
    others: members that belong to no sample.
    """

    split: str
    shard: Shard
    index: str
    ids: tuple[str, ...]
    statistics: Statistics
    besides: Counter[str]
    others: tuple[str, ...]
    failures: tuple[Failure, ...]


@dataclass(frozen=True, kw_only=True)
class Indexed:
    """Result for a folder: a manifest, or failures.

    besides, others: as in `IndexedShard`, the latter each with its tar. shared: number of ids that are in several
    splits, and the first of them.
    """

    manifest: Manifest | None
    besides: Counter[str]
    others: tuple[tuple[str, str], ...]
    shared: tuple[int, str]
    failures: tuple[Failure, ...]


def index_folder(
    folder: Path, tree: DecisionTree, *, split_by_name: bool, overwrite: bool, workers: int
) -> Indexed:
    """Check every sample of every tar; if all are good, write the indexes, then the manifest. Change no tar.

    Raises:
        ShardError: there are no tars, their names give no split, or none of them holds a JPEG.
        OutputError: an index or a manifest exists already, and `overwrite` is not given.
    """
    splits = _splits(folder, split_by_name=split_by_name)
    _refuse_what_is_there(folder, splits, overwrite=overwrite)
    main_split = next(iter(splits))
    rules = SampleRules(tree=tree, image_px=_image_px(splits), is_labelled=False, is_foreign=True)
    tasks = [
        IndexTask(tar=tar, split=split, rules=rules, is_measured=split == main_split)
        for split, tars in splits.items()
        for tar in tars
    ]
    seen, shards = SeenIds(), []
    indexes = open_scratch("text (shard TEXT PRIMARY KEY, text TEXT)")
    for each in run_tasks(index_tar, tasks, workers=workers, total=0, description="index"):
        seen.add(each.split, each.shard.name, each.ids)
        indexes.execute("INSERT INTO text VALUES (?, ?)", (each.shard.name, each.index))
        shards.append(replace(each, ids=(), index=""))
    shared = seen.in_several_splits()
    shards.sort(key=lambda each: (list(splits).index(each.split), each.shard.name))
    failures = [f for each in shards for f in each.failures]
    for split in splits:
        failures += [Failure(shard, i, f"the id is also in {first}") for shard, i, first in seen.again(split)]
    if again := repeated_shard(each.shard for each in shards):
        failures.append(Failure(again[1].name, "", f"holds the same bytes as {again[0].name}"))
    besides = sum((each.besides for each in shards), Counter[str]())
    others = tuple((each.shard.name, other) for each in shards for other in each.others)
    if failures:
        return Indexed(manifest=None, besides=besides, others=others, shared=shared, failures=tuple(failures))
    manifest = _manifest(shards, rules)
    (folder / MANIFEST_NAME).unlink(missing_ok=True)  # from here on the old manifest would not fit
    for name, text in rows(indexes, "SELECT * FROM text ORDER BY shard"):
        write_text(index_path(folder / name), text)
    manifest.write(folder)
    return Indexed(manifest=manifest, besides=besides, others=others, shared=shared, failures=())


def index_tar(task: IndexTask, tick: Tick) -> IndexedShard:
    """Find and check the samples of a tar."""
    walk = walk_tar(task.tar)
    failures = [Failure(task.tar.name, "", walk.why)] if walk.why else []
    if not walk.samples and not walk.why:
        failures.append(Failure(task.tar.name, "", NO_SAMPLE))
    samples = find_votes(task.tar, walk.samples, task.rules.tree)
    sums = ChannelSums(task.rules.image_px)
    measure = sums.add if task.is_measured else None
    failures += prove_samples(task.tar, samples, task.rules, tick, measure=measure)
    index = format_index(samples)
    shard = Shard(
        name=task.tar.name,
        samples=len(samples),
        bytes=task.tar.stat().st_size,
        sha256=sha256_of(task.tar),
        index_sha256=sha256(index.encode()).hexdigest(),
    )
    statistics = no_statistics(len(task.rules.tree.columns)) if failures else _statistics(task, samples, sums)
    known = {c for sample in samples for c in (image_of(sample), votes_of(sample))}
    besides = Counter(c.extension for sample in samples for c in sample if c not in known)
    ids = tuple(key_of(sample) for sample in samples)
    return IndexedShard(
        split=task.split,
        shard=shard,
        index=index,
        ids=ids,
        statistics=statistics,
        besides=besides,
        others=walk.others,
        failures=tuple(failures),
    )


def _splits(folder: Path, *, split_by_name: bool) -> dict[str, list[Path]]:
    """Return the tars of each split; the channel statistics are computed from the first split."""
    if not folder.is_dir():
        raise ShardError(f"{folder}: not a folder; give the one that holds the tars")
    tars = sorted(folder.glob("*.tar"))
    for path in sorted(folder.iterdir()):
        if COMPRESSED_TAR.search(path.name) and (command := DECOMPRESSED_BY.get(path.suffix)):
            raise ShardError(f"{path}: decompress it first: {command} {quote(path.name)}; or move it elsewhere")
    if not tars:
        raise ShardError(f"{folder}: no *.tar in it; give the folder that holds the tars")
    if odd := next((tar for tar in tars if not tar.is_file()), None):
        raise ShardError(f"{odd}: a folder, a pipe or a link that leads nowhere, not a tar; remove it")
    if not split_by_name:
        return {"train": tars}
    splits: dict[str, list[Path]] = {split: [] for split in SPLIT_PREFIXES}
    for tar in tars:
        split = next((each for each in SPLIT_PREFIXES if tar.name.startswith(each)), None)
        if split is None:
            raise ShardError(
                f"{tar}: --split-by-name needs names that begin with {', '.join(SPLIT_PREFIXES)}; rename it, "
                "or omit the option to take all tars as training shards"
            )
        splits[split].append(tar)
    return {split: found for split, found in splits.items() if found}


def _refuse_what_is_there(folder: Path, splits: dict[str, list[Path]], *, overwrite: bool) -> None:
    if (folder / MANIFEST_NAME).exists():
        try:
            is_foreign = parse_json((folder / MANIFEST_NAME).read_bytes()).get("is_foreign") is True
        except (ValueError, AttributeError):  # not a manifest
            is_foreign = True
        if not is_foreign:
            raise OutputError(f"{folder}: shard_tool pack wrote these shards, with their indexes; nothing to do")
    made = [folder / MANIFEST_NAME, *(index_path(tar) for tars in splits.values() for tar in tars)]
    if not overwrite and (there := [path for path in made if path.exists()]):
        raise OutputError(f"{there[0]}: exists already; pass --overwrite to make it anew")


def _image_px(splits: dict[str, list[Path]]) -> Size:
    """Return the most common size of the first JPEG of each tar.

    Raises:
        ShardError: no tar has such a size; the message says what the first tar holds instead.
    """
    tars, reasons = [tar for found in splits.values() for tar in found][:TARS_LOOKED_AT], list[str]()
    image_px = common_size(_sizes(tars, reasons))
    if image_px is None:
        raise ShardError(
            f"{tars[0]}: {reasons[0]}. No tar looked at gives the size of its images, and only colour JPEGs named "
            "KEY.jpg can be served as they are: write the tars again, or make new shards of other images with "
            "shard_tool pack"
        )
    return image_px


def _sizes(tars: Sequence[Path], reasons: list[str]) -> Iterator[Size]:
    """Yield the size of the first image of each tar; add to `reasons` why others have none."""
    for tar in tars:
        try:
            yield _size(tar)
        except ImageError as error:  # reported again for each sample if other tars have a size
            reasons.append(str(error))


def _size(tar: Path) -> Size:
    """Return the size of the first image of a tar; raise ImageError, without the tar's name, if it has none."""
    walk = walk_tar(tar)
    image = next((image for sample in walk.samples if (image := image_of(sample))), None)
    if image is None and walk.samples and not walk.why:
        names = ", ".join(component.name for component in walk.samples[0])
        raise ImageError(f"its first sample holds {names}; expected one JPEG, KEY.jpg")
    if image is None:
        others = f"; it holds {', '.join(walk.others[:MEMBERS_SHOWN])}" if walk.others else ""
        raise ImageError(walk.why or NO_SAMPLE + others)
    with tar.open("rb") as file:
        try:
            return jpeg_size(read_component(file, image))
        except ImageError as error:
            raise ImageError(f"{image.name}: {error}") from error


def _statistics(task: IndexTask, samples: Sequence[Sample], sums: ChannelSums) -> Statistics:
    """Return the statistics of samples that passed all checks."""
    num_answers = len(task.rules.tree.columns)
    sizes = [image.size for sample in samples if (image := image_of(sample))]
    with task.tar.open("rb") as file:
        votes = [
            decode_votes(read_component(file, component), num_answers, task.tar, component)[None]
            for sample in samples
            if (component := votes_of(sample))
        ]
    labelled, counts, totals = add_up_votes(votes, num_answers)
    return Statistics(
        image_bytes=(min(sizes), sum(sizes), max(sizes)),
        labelled=labelled,
        vote_counts=counts,
        vote_sums=totals,
        channel_sums=sums.sums,
        channel_squares=sums.squares,
        measured=sums.num_images,
    )


def _manifest(shards: Sequence[IndexedShard], rules: SampleRules) -> Manifest:
    statistics = add_all((each.statistics for each in shards), len(rules.tree.columns))
    mean, std = channel_moments(statistics, rules.image_px)
    splits = dict.fromkeys(each.split for each in shards)
    return Manifest(
        tree=rules.tree,
        seed=0,
        tool_version=__version__,
        image_px=rules.image_px,
        channel_mean=mean,
        channel_std=std,
        vote_mean=vote_means(statistics),
        rejected=0,
        splits={split: tuple(each.shard for each in shards if each.split == split) for split in splits},
        statistics=statistics,
        is_foreign=True,
    )
