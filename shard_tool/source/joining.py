"""Which image becomes which sample of which split, with which votes, and why not."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from galaxy_zoo.errors import ImageError, InputError, SourceError
from shard_tool.source.contents import list_images, list_only_images, list_source, settle
from shard_tool.source.draft import SPLITS, Draft, FoundFile, Row
from shard_tool.source.galaxy10 import is_hdf5, read_galaxy10
from shard_tool.source.options import CatalogueOptions, PackOptions


def join(options: PackOptions) -> Draft:
    """Find the images and the votes, and bring them together by id.

    Raises:
        InputError: the source, the labels or the tree cannot be used at all; single bad images and rows are
            rejected instead.
    """
    draft = Draft(options.seed)
    if is_hdf5(options.source):
        _join_rows(draft, options, options.source)
    elif options.catalogue is not None:
        _join_catalogue(draft, options, options.catalogue)
    elif options.only_images:
        list_only_images(draft, options.source)
        _refuse_repeated(draft, "test")
        _reject(draft, [])
    else:
        _join_tables(draft, options)
    return draft


def _join_tables(draft: Draft, options: PackOptions) -> None:
    files = list_source(draft, options.source, options.labels)
    if files:
        from shard_tool.source.tables import TableRules, read_tables  # noqa: PLC0415 - pandas, which takes half a second

        read_tables(draft, files, TableRules(options.tree, options.missing_votes, options.counts))
    if options.labels:
        settle(draft)
    for split in SPLITS:
        _refuse_repeated(draft, split)
    _reject(draft, [file.name for file in files])


def _join_catalogue(draft: Draft, options: PackOptions, catalogue: CatalogueOptions) -> None:
    """All images that the catalogue names are training images."""
    from shard_tool.source.catalogue import read_catalogue  # noqa: PLC0415
    from shard_tool.source.tables import TableRules  # noqa: PLC0415

    read_catalogue(draft, catalogue, TableRules(options.tree, options.missing_votes, options.counts))
    list_images(draft, options.source, catalogue.path)
    first = draft.first_place_of_image()
    draft.name_by_catalogue(f"no row with this file in {catalogue.path.name}")
    if not draft.count(split="train"):
        raise SourceError(
            f"{options.source}: holds {first}, but none of the files of {catalogue.path.name}, as "
            f"{draft.first_place_of_row() or '(it has no row)'}; these are relative to SOURCE"
        )
    _refuse_repeated(draft, "train")
    _reject(draft, [catalogue.path.name])


def _join_rows(draft: Draft, options: PackOptions, source: Path) -> None:
    """All images of an HDF5 file are training images."""
    if options.labels or options.catalogue or options.counts:
        raise InputError(f"{source}: holds its own answers; leave --labels, --catalogue and --counts away")
    (height, width), rows, votes = read_galaxy10(source, options.tree)
    draft.add_files(FoundFile(row, split="train", id=row.name) for row in rows)
    draft.add_rows(0, (Row(sample_id, values.tobytes(), None, None, 0) for sample_id, values in votes))
    draft.repeated_row("id")
    try:
        options.encoding.encode(np.zeros((height, width, 3), np.uint8))
    except ImageError as error:  # all of them have this size
        raise SourceError(f"{source}: {error}") from error


def _refuse_repeated(draft: Draft, split: str) -> None:
    if repeated := draft.repeated_image(split):
        sample_id, one, other = repeated
        raise SourceError(f"two images have the id {sample_id}: {one} and {other}; remove or rename one")


def _reject(draft: Draft, tables: Sequence[str]) -> None:
    """Leave only images with good ids and, for training images where there are tables, votes that obey the tree."""
    if tables:
        draft.reject_rows(tables, "no image for this row of votes")
    draft.reject_ids()
    if tables:
        draft.reject_by_votes(
            absent=f"no row of votes in {' and '.join(tables)}", broken="the votes break the tree: "
        )
