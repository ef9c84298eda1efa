"""Add galaxies to a finished folder of shards, in new shards after the old ones, which stay unchanged.

The new shards are made in OUT/.append, by the same code and with the same journal as those of `pack`. Then they move
beside the old ones, and at last the new manifest replaces the old one in one step. Until then everyone reads the old
set, whatever happens.
"""

import csv
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

from galaxy_zoo.errors import OutputError, ShardError, SourceError
from galaxy_zoo.files import is_special
from galaxy_zoo.index import index_path, key_of
from galaxy_zoo.manifest import MANIFEST_NAME, Manifest, read_manifest
from galaxy_zoo.remote import AnyPath
from galaxy_zoo.strict import parse_json
from galaxy_zoo.version import __version__
from galaxy_zoo.votes import VoteKind
from shard_tool.images.encoding import AS_IT_IS, Encoding
from shard_tool.images.fits import Stretch
from shard_tool.shards.journal import JOURNAL_NAME, PLAN_NAME, REJECTED_NAME, Journal, PackedShard, output_errors
from shard_tool.shards.packing import OutOptions, by_split, stated_encoding, write_rejects, write_shards
from shard_tool.shards.reader import proven_index
from shard_tool.shards.repeated_images import Leak
from shard_tool.shards.statistics import add, add_all, channel_moments, of_manifest, vote_means, without_pixels
from shard_tool.source.options import CatalogueOptions, PackOptions
from shard_tool.source.plan import PackPlan, make_plan
from shard_tool.source.samples import SPLITS, Rejected, Rejects

STAGING_NAME = ".append"


@dataclass(frozen=True, kw_only=True)
class NewGalaxies:
    """What to add; all other settings are those in the manifest of the folder."""

    source: Path
    labels: tuple[AnyPath, ...] = ()
    missing_votes: bool = False
    kind: VoteKind = "all"
    shards: int | None = None
    catalogue: CatalogueOptions | None = None
    fits: Stretch | None = None
    decode: bool = True


@dataclass(frozen=True, kw_only=True)
class Appended:
    """A finished append: the plan of the new galaxies, those rejected, and a test image that is a training image too.

    leak: None if no new test image has the bytes of a new training image. New images are not compared with old ones,
        whose bytes would have to be read for that: `shard_tool duplicates` does it.
    """

    manifest: Manifest
    num_added: int
    plan: PackPlan
    rejected: Rejects
    leak: Leak | None


def append(new: NewGalaxies, out: OutOptions) -> Appended | None:
    """Append galaxies; return None if an interrupted append turns out to be finished.

    Raises:
        InputError: the source cannot be used, or an id is already in the folder; nothing was changed.
        OutputError: the folder cannot be written to; finished shards are kept for --resume.
    """
    folder = out.folder
    assert isinstance(folder, Path), "the command takes no URL"
    manifest = _appendable(folder)
    for _ in _known_rejects(folder, manifest.rejected):
        pass  # the galaxies are in the folder
    staging = folder / STAGING_NAME
    if staging.is_symlink():
        raise OutputError(f"{staging} is a symbolic link, not the folder of an append; remove it")
    journal = Journal(staging)
    if staging.exists():
        begun = _clear_committed(staging, manifest, out=out)
        if out.resume and begun and make_plan(_options(new, manifest)).identity["images"] == begun.get("images"):
            return None
    plan = _plan(new, folder, manifest)
    if _are_known(folder, manifest, plan, resume=out.resume):
        if _identity_begun(staging).get("images") in (None, plan.identity["images"]):
            shutil.rmtree(staging, ignore_errors=True)
        return None
    with output_errors(folder), ExitStack() as stack:
        stack.enter_context(journal.locked(overwrite=out.overwrite, resume=out.resume))
        if read_manifest(folder).set_sha256 != manifest.set_sha256:
            raise OutputError(f"{folder}: another append has ended there meanwhile; run the command again")
        _take_back(folder, plan, manifest)
        journal.begin({**plan.identity, "the shards in OUT": manifest.set_sha256}, resume=out.resume)
        shards, rejected, images = write_shards(plan, replace(out, folder=staging))
        if _is_empty(manifest, plan, shards):
            shutil.rmtree(staging)
            raise SourceError(f"{new.source}: every image was rejected; the first: {rejected.first(1)[0].reason}")
        merged = _merge(manifest, staging, plan, shards, num_rejected=len(rejected))
        _commit(folder, merged, plan, chain(_known_rejects(folder, manifest.rejected), rejected))
    return Appended(
        manifest=merged,
        num_added=sum(packed.shard.samples for packed in shards),
        plan=plan,
        rejected=rejected,
        leak=images.leak(),
    )


def _clear_committed(staging: Path, manifest: Manifest, *, out: OutOptions) -> dict[str, str]:
    """Clean up after an append killed after its last step; return its identity, {} if there was none.

    Raises:
        OutputError: another append is running, or was interrupted and neither option says what to do with it.
    """
    with Journal(staging).alone():
        begun, made = _identity_begun(staging), _made(staging)
        if made and made <= _names(manifest):
            shutil.rmtree(staging)
            return begun
        if begun and not (out.resume or out.overwrite):
            raise OutputError(
                f"{out.folder}: an append was interrupted; pass --resume to finish it or --overwrite to begin anew"
            )
    return {}


def _names(manifest: Manifest) -> set[str]:
    return {shard.name for shards in manifest.splits.values() for shard in shards}


def _appendable(folder: Path) -> Manifest:
    """Return the manifest of a finished folder that `pack` made."""
    manifest = read_manifest(folder)
    of_manifest(manifest, folder)
    if manifest.is_foreign:
        raise ShardError(f"{folder}: others wrote these tars; add tars to them and run shard_tool index again")
    if (folder / JOURNAL_NAME / PLAN_NAME).exists():
        raise OutputError(f"{folder}: a pack is writing to it, or was interrupted; finish it with pack --resume")
    return manifest


def _options(new: NewGalaxies, manifest: Manifest) -> PackOptions:
    """Return options that pack the new galaxies as the old ones were packed."""
    return PackOptions(
        source=new.source,
        tree=manifest.tree,
        labels=new.labels,
        missing_votes=new.missing_votes,
        kind=new.kind,
        shards=new.shards,
        seed=manifest.seed,
        encoding=_encoding(manifest, new),
        catalogue=new.catalogue,
        decode=new.decode,
        stretch_is_asked=new.fits is not None,
    )


def _identity_begun(staging: Path) -> dict[str, str]:
    """Return the identity of the append in `staging`; {} if its plan is missing or damaged."""
    try:
        return dict(parse_json((staging / JOURNAL_NAME / PLAN_NAME).read_bytes()))
    except (OSError, ValueError, TypeError):
        return {}


def _is_empty(manifest: Manifest, plan: PackPlan, shards: Sequence[PackedShard]) -> bool:
    """Return whether nothing was packed, or nothing of the main split of the set."""
    samples = {split: sum(p.shard.samples for p in packed) for split, packed in by_split(plan, shards).items()}
    return not any(samples.values()) or (plan.main_split not in manifest.splits and not samples[plan.main_split])


def _plan(new: NewGalaxies, folder: Path, manifest: Manifest) -> PackPlan:
    """Plan the new shards, numbered after the old ones.

    Raises:
        InputError: the source or its labels cannot be used, or its images have another size.
    """
    plan = make_plan(_options(new, manifest))
    if plan.image_px != manifest.image_px:
        raise SourceError(
            f"{new.source}: images of {plan.image_px[1]} x {plan.image_px[0]} pixels, those in {folder} have "
            f"{manifest.image_px[1]} x {manifest.image_px[0]}; bring them to that size first"
        )
    return _renumbered(plan, manifest)


def _encoding(manifest: Manifest, new: NewGalaxies) -> Encoding:
    """Return the encoding of the old images, with the stretch that is asked for if they had none."""
    if manifest.encoding is None:
        return replace(AS_IT_IS, fits=new.fits)
    try:
        encoding = Encoding.of_stated(manifest.encoding)
    except (KeyError, TypeError) as error:
        raise ShardError(f"the encoding in the manifest is damaged: {error}; pack again") from error
    if encoding.fits is None:
        return replace(encoding, fits=new.fits)
    if new.fits is not None and new.fits != encoding.fits:
        raise SourceError(
            f"{new.source}: the FITS images of OUT have another stretch, {encoding.fits}; omit --fits-range"
        )
    return encoding


def _are_known(folder: Path, manifest: Manifest, plan: PackPlan, *, resume: bool) -> bool:
    """Return whether all new ids are in the folder; if resumed, the append was killed while it cleaned up.

    Raises:
        SourceError: only some of them are, or the append is not resumed.
    """
    first, count = "", 0
    for shard in (shard for shards in manifest.splits.values() for shard in shards):
        known = plan.known(map(key_of, proven_index(folder, shard)))
        if known and not count:
            first = f"id {known[0][0]} ({known[0][1]}) is in {shard.name} already"
        count += len(known)
    if count and not (resume and count == plan.num_samples):
        more = f", and {count - 1:,} more are" if count > 1 else ""
        raise SourceError(f"{folder}: {first}{more}; append only new galaxies")
    return bool(count)


def _renumbered(plan: PackPlan, manifest: Manifest) -> PackPlan:
    cuts = []
    for cut in plan.cuts:
        numbers = [
            int(match[1])
            for shard in manifest.splits.get(cut.split, ())
            if (match := re.fullmatch(rf"{cut.split}-(\d{{6}})\.tar", shard.name))
        ]
        cuts.append(replace(cut, first=max(numbers, default=-1) + 1))
    return replace(plan, cuts=tuple(cuts))


def _files(plan: PackPlan) -> Iterator[str]:
    """Yield the names of the files that an append moves beside the old ones."""
    for name in plan.names:
        yield from (name, index_path(Path(name)).name)


def _made(staging: Path) -> set[str]:
    """Return the names of the shards that the journal of an append says are finished."""
    return {f"{entry.stem}.tar" for entry in (staging / JOURNAL_NAME).glob("t*-*.json")}


def _take_back(folder: Path, plan: PackPlan, manifest: Manifest) -> None:
    """Undo the moves of an append that was killed before its last step.

    Raises:
        OutputError: a file in the way was not made by an append.
    """
    staging = folder / STAGING_NAME
    made = _made(staging)
    stale = [name for tar in sorted(made - _names(manifest)) for name in (tar, index_path(Path(tar)).name)]
    for name in dict.fromkeys([*_files(plan), *stale]):
        if not (folder / name).exists():
            continue
        if Path(name).with_suffix(".tar").name not in made:
            raise OutputError(f"{folder / name}: in the way and not in the manifest; remove it")
        (folder / name).replace(staging / name)


def _merge(
    manifest: Manifest, staging: Path, plan: PackPlan, shards: list[PackedShard], *, num_rejected: int
) -> Manifest:
    """Return the manifest of the old and the new shards together."""
    added = by_split(plan, shards)
    splits = {
        split: (*manifest.splits.get(split, ()), *(packed.shard for packed in added.get(split, ())))
        for split in SPLITS
    }
    splits = {split: found for split, found in splits.items() if found}
    main_split = next(iter(splits))
    old = of_manifest(manifest, staging)
    new = add_all((packed.statistics for packed in shards), plan.num_answers)
    statistics = add(
        old if main_split in manifest.splits else without_pixels(old),
        new if main_split == plan.main_split else without_pixels(new),
    )
    mean, std = channel_moments(statistics, manifest.image_px)
    return replace(
        manifest,
        tool_version=__version__,
        channel_mean=mean,
        channel_std=std,
        vote_mean=vote_means(statistics),
        rejected=manifest.rejected + num_rejected,
        splits=splits,
        statistics=statistics,
        encoding=stated_encoding(plan, shards) or manifest.encoding,
        is_decoded=manifest.is_decoded and plan.decode,
        source_sha256=None,
    )


def _known_rejects(folder: Path, count: int) -> Iterator[Rejected]:
    """Yield the first `count` rejects listed in the folder; those of a killed append come after them.

    Raises:
        ShardError: some are missing.
    """
    if not count:
        return
    path, number = folder / REJECTED_NAME, 0
    try:
        if is_special(path):
            raise ValueError("a pipe or a device")
        with path.open(newline="") as file:
            for number, row in enumerate(islice(csv.reader(file), count + 1)):
                split, sample_id, name, reason = row
                if number:
                    yield Rejected(split=split, id=sample_id, file=name, reason=reason)
        if number != count:
            raise ValueError(f"{number} rows, the manifest says {count}")
    except (OSError, ValueError, csv.Error) as error:
        raise ShardError(
            f"{path}: missing or damaged ({error}); copy it again from where the shards came"
        ) from error


def _commit(folder: Path, manifest: Manifest, plan: PackPlan, rejected: Iterable[Rejected]) -> None:
    """Move the new shards beside the old ones, and last the manifest, which makes them count."""
    staging = folder / STAGING_NAME
    manifest.write(staging)
    for name in _files(plan):
        (staging / name).replace(folder / name)
    write_rejects(folder / REJECTED_NAME, rejected)
    (staging / MANIFEST_NAME).replace(folder / MANIFEST_NAME)
    shutil.rmtree(staging, ignore_errors=True)
