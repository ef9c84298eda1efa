"""Which image becomes which sample of which split, with which votes, and why not."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from galaxy_zoo.errors import ImageError, InputError, SourceError
from galaxy_zoo.tree import DecisionTree
from galaxy_zoo.votes import check_votes
from shard_tool.catalogue import Catalogue, read_catalogue
from shard_tool.galaxy10 import is_hdf5, read_galaxy10
from shard_tool.options import CatalogueOptions, PackOptions
from shard_tool.sources import SPLITS, list_images, list_only_images, list_source
from shard_tool.tables import Tables, read_tables
from shard_tool.walking import StoredFile

LONGEST_ID_BYTES = 90
"""A name in a USTAR tar has 100 bytes, `.votes.npy` needs 10."""


@dataclass(frozen=True, order=True)
class Rejected:
    """An image, or a row of votes, that did not become a sample; `file` is the name without folder or zip."""

    split: str
    id: str
    file: str
    reason: str


@dataclass(frozen=True, slots=True)
class Sample:
    """An image and its id."""

    id: str
    file: StoredFile


@dataclass
class Split:
    """The samples of a split while they are being sorted out."""

    name: str
    samples: list[Sample]
    rejected: list[Rejected] = field(default_factory=list)

    def reject(self, sample: Sample, reason: str) -> None:
        """Write down why a sample is none."""
        self.rejected.append(Rejected(self.name, sample.id, sample.file.name, reason))


@dataclass(frozen=True)
class Joined:
    """The samples of each split, the votes of the training samples in their order, and what was ignored."""

    splits: tuple[Split, ...]
    votes: pd.DataFrame | None
    ignored: list[tuple[str, str]]

    def votes_of(self, split: Split) -> pd.DataFrame | None:
        """The votes of the samples of a split, None where they have none."""
        return self.votes if split.name == "train" else None


def join(options: PackOptions) -> Joined:
    """Find the images and the votes, and bring them together by id.

    Raises:
        InputError: the source, the labels or the tree cannot be used at all; single bad images and rows are
            rejected instead.
    """
    if is_hdf5(options.source):
        return _join_rows(options)
    if options.catalogue is not None:
        return _join_catalogue(options, options.catalogue)
    if options.only_images:
        split = Split("test", _samples(list_only_images(options.source)))
        _reject_bad_ids(split)
        return Joined((split,), None, [])
    listing = list_source(options.source, options.labels)
    tables = None
    if listing.labels:
        tables = read_tables(
            listing.labels, options.tree, allow_missing=options.missing_votes, are_counts=options.counts
        )
    if options.labels and tables:
        listing = listing.settle(tables.votes.index)
    splits = tuple(Split(name, _samples(listing.images[name])) for name in SPLITS)
    for split in splits:
        _reject_bad_ids(split)
    votes = _join(splits[0], tables, options.tree) if tables else None
    return Joined(splits, votes, listing.ignored)


def _join_catalogue(options: PackOptions, catalogue_options: CatalogueOptions) -> Joined:
    """All images that the catalogue names are training images."""
    catalogue = read_catalogue(
        catalogue_options, options.tree, allow_missing=options.missing_votes, are_counts=options.counts
    )
    images, ignored = list_images(options.source, catalogue_options.path)
    split = Split("train", _samples_by_file(images, catalogue, options.source))
    _reject_bad_ids(split)
    votes = _join(split, catalogue.tables, options.tree)
    files = set(catalogue.files.values())
    split.rejected += [
        Rejected(split.name, file.stem, file.name, f"no row with this file in {catalogue.tables.name}")
        for path, file in images.items()
        if path not in files
    ]
    return Joined((split,), votes, ignored)


def _join_rows(options: PackOptions) -> Joined:
    """All images of an HDF5 file are training images."""
    if options.labels or options.catalogue or options.counts:
        raise InputError(f"{options.source}: holds its own answers; leave --labels, --catalogue and --counts away")
    rows, votes = read_galaxy10(options.source, options.tree)
    height, width = next(iter(rows.values())).image_px
    try:
        options.encoding.encode(np.zeros((height, width, 3), np.uint8))
    except ImageError as error:  # all of them have this size
        raise SourceError(f"{options.source}: {error}") from error
    return Joined((Split("train", [Sample(each, row) for each, row in rows.items()]),), votes, [])


def _samples_by_file(images: dict[str, StoredFile], catalogue: Catalogue, source: Path) -> list[Sample]:
    """The images that the catalogue names, with its ids."""
    samples = [Sample(sample_id, images[file]) for sample_id, file in catalogue.files.items() if file in images]
    if not samples:
        raise SourceError(
            f"{source}: holds {next(iter(images))}, but none of the files of {catalogue.tables.name}, as "
            f"{next(iter(catalogue.files.values()), '(it has no row)')}; these are relative to SOURCE"
        )
    return sorted(samples, key=lambda sample: sample.id)


def _samples(files: Iterable[StoredFile]) -> list[Sample]:
    by_id: dict[str, StoredFile] = {}
    for file in files:
        sample_id = file.stem
        if (other := by_id.setdefault(sample_id, file)) is not file:
            raise SourceError(
                f"two images have the id {sample_id}: {other.shown} and {file.shown}; remove or rename one"
            )
    return [Sample(sample_id, by_id[sample_id]) for sample_id in sorted(by_id)]


def _reject_bad_ids(split: Split) -> None:
    good = []
    for sample in split.samples:
        if reason := _what_is_wrong(sample.id):
            split.reject(sample, reason)
        else:
            good.append(sample)
    split.samples = good


def _what_is_wrong(sample_id: str) -> str | None:
    if not sample_id or "." in sample_id or not sample_id.isprintable() or sample_id.split() != [sample_id]:
        return "an id may not be empty or have dots, spaces or control characters; rename it"
    if len(sample_id.encode(errors="replace")) > LONGEST_ID_BYTES:
        return f"an id may have {LONGEST_ID_BYTES} bytes at most; rename it"
    return None


def _join(split: Split, tables: Tables, tree: DecisionTree) -> pd.DataFrame:
    """Keep the samples that have a row which obeys the tree; return the votes of these, in their order."""
    votes, broken = tables.votes, {}
    for violation in reversed(check_votes(votes.to_numpy(), tree)):
        broken[votes.index[violation.row]] = str(violation)
    with_row, images = set(votes.index), {sample.id for sample in split.samples}
    rejected = {r.id for r in split.rejected}
    good = []
    for sample in split.samples:
        if sample.id not in with_row:
            split.reject(sample, f"no row of votes in {tables.name}")
        elif sample.id in broken:
            split.reject(sample, f"the votes break the tree: {broken[sample.id]}")
        else:
            good.append(sample)
    lonely = sorted(with_row - images - rejected)
    split.rejected += [
        Rejected(split.name, each, tables.file_of(each), "no image for this row of votes") for each in lonely
    ]
    split.samples = good
    return votes.loc[[sample.id for sample in good]]
