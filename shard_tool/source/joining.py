"""Join images and votes into the samples of each split, and reject the others with a reason."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from galaxy_zoo.errors import ImageError, InputError, SourceError
from shard_tool.source.contents import list_images, list_only_images, list_source, settle
from shard_tool.source.draft import IMAGE, Draft, FoundFile, Row
from shard_tool.source.galaxy10 import is_hdf5, read_galaxy10
from shard_tool.source.ids import HARMLESS, likely_cause
from shard_tool.source.options import CatalogueOptions, PackOptions
from shard_tool.source.samples import Rejected, Rejects
from shard_tool.source.scratch import to_text

LOST_IMAGES = f"kind = {IMAGE} AND ignored IS NULL AND split IS NOT 'test' AND id NOT IN (SELECT id FROM vote)"
"""Condition for images that may be training images but have no row."""
LOST_ROWS = f"id NOT IN (SELECT id FROM file WHERE kind = {IMAGE})"
IDS_COMPARED = 10_000
"""Most unmatched ids of images, and of rows, that are compared; they are held in memory."""


@dataclass(frozen=True, kw_only=True)
class Joined:
    """Files and rows, joined by id.

    The samples are the images of `draft` that have a split and are not rejected; `notes` report differences between
    ids of images and of tables.
    """

    draft: Draft
    rejected: Rejects
    notes: tuple[str, ...]


def join(options: PackOptions) -> Joined:
    """Find the images and the votes, and join them by id.

    Raises:
        InputError: the source, the labels or the tree cannot be used at all; single bad images and rows are only
            rejected.
    """
    draft, tables, notes = Draft(options.seed), list[str](), list[str]()
    if is_hdf5(options.source):
        _add_hdf5(draft, options, options.source)
    elif options.catalogue is not None:
        tables = _add_catalogue(draft, options, options.catalogue)
    elif options.only_images:
        list_only_images(draft, options.source)
    else:
        tables = _add_tables(draft, options, notes)
    _refuse_repeated(draft)
    _reject_images(draft, tables)
    return Joined(draft=draft, rejected=Rejects(_rejected(draft, tables)), notes=tuple(notes))


def _add_tables(draft: Draft, options: PackOptions, notes: list[str]) -> list[str]:
    """Add the images, the tables of votes, and `notes` on ids that differ; return the names of the tables."""
    files = list_source(draft, options.source, options.labels)
    if files:
        from shard_tool.source.tables import TableRules, read_tables  # noqa: PLC0415 - pandas, which takes half a second

        read_tables(draft, files, TableRules(options.tree, options.missing_votes, options.kind))
        notes += _bring_together(draft)
    if options.labels:
        settle(draft)
    return [file.name for file in files]


def _bring_together(draft: Draft) -> Iterator[str]:
    """Give rows the ids of images that differ only in form; yield notes on what was done and what still differs."""
    for what, rule in HARMLESS.items():
        if not _lost(draft):
            return
        draft.define("plain", rule)
        count = draft.change(
            f"UPDATE OR IGNORE vote SET id = plain(id) WHERE {LOST_ROWS} "
            f"AND plain(id) IN (SELECT id FROM file WHERE {LOST_IMAGES})"
        )
        if count:
            yield f"{count:,} ids of the table {what}; they are taken for those of images without that"
    if lost := _lost(draft):
        images, rows = lost
        if cause := likely_cause(images, rows):
            yield f"ids do not meet: {cause}"
        elif not draft.first("SELECT id FROM vote WHERE id IN (SELECT id FROM file) LIMIT 1"):
            yield (
                f"ids do not meet: an image is {images[0]}, a row {rows[0]}; if a column of the table names the image "
                "files, pass the table with --catalogue"
            )


def _lost(draft: Draft) -> tuple[list[str], list[str]] | None:
    """Return the first images without a row and the first rows without an image; None if there are none."""
    rows = draft.ids(f"SELECT id FROM vote WHERE {LOST_ROWS} ORDER BY number", most=IDS_COMPARED)
    images = (
        draft.ids(f"SELECT id FROM file WHERE {LOST_IMAGES} ORDER BY shown", most=IDS_COMPARED) if rows else []
    )
    return (images, rows) if images else None


def _add_catalogue(draft: Draft, options: PackOptions, catalogue: CatalogueOptions) -> list[str]:
    """Add the images, all for training, with their ids in the catalogue; return the name of the catalogue."""
    from shard_tool.source.catalogue import read_catalogue  # noqa: PLC0415
    from shard_tool.source.tables import TableRules  # noqa: PLC0415

    read_catalogue(draft, catalogue, TableRules(options.tree, options.missing_votes, options.kind))
    list_images(draft, options.source, catalogue.path)
    draft.change(
        "UPDATE file SET split = 'train', id = (SELECT id FROM vote WHERE vote.listed = file.listed) "
        "WHERE listed IN (SELECT listed FROM vote)"
    )
    draft.change(
        f"UPDATE file SET rejected = ? WHERE kind = {IMAGE} AND split IS NULL",
        f"no row with this file in {catalogue.path.name}",
    )
    if not draft.count("train"):
        image = draft.first(f"SELECT listed FROM file WHERE kind = {IMAGE} ORDER BY shown")
        row = draft.first("SELECT listed FROM vote ORDER BY number")
        raise SourceError(
            f"{options.source}: holds {to_text(image[0])}, but none of the files of {catalogue.path.name}, as "
            f"{to_text(row[0]) if row else '(it has no row)'}; these are relative to SOURCE"
        )
    return [catalogue.path.name]


def _add_hdf5(draft: Draft, options: PackOptions, source: Path) -> None:
    """Add the images of an HDF5 file with their votes as training images, or with `only_images` as test images."""
    if options.labels or options.catalogue or options.kind != "all":
        raise InputError(
            f"{source}: holds its own answers; omit --labels, --catalogue, --counts and --fractions-of"
        )
    (height, width), rows, votes = read_galaxy10(source, options.tree)
    split = "test" if options.only_images else "train"
    draft.add_files(FoundFile(row, split=split, id=row.name) for row in rows)
    draft.add_votes(0, (Row(sample_id, values.tobytes(), None, 0) for sample_id, values in votes))
    draft.change("CREATE UNIQUE INDEX vote_by_id ON vote (id)")
    try:
        options.encoding.encode(np.zeros((height, width, 3), np.uint8))
    except ImageError as error:  # all images have this size
        raise SourceError(f"{source}: {error}") from error


def _refuse_repeated(draft: Draft) -> None:
    draft.change("CREATE INDEX file_by_id ON file (split, id)")
    repeated = draft.first(
        "SELECT split, id FROM file WHERE split IS NOT NULL GROUP BY split, id HAVING count(*) > 1 "
        "ORDER BY split DESC LIMIT 1"
    )
    if repeated:
        places = draft.rows("SELECT shown FROM file WHERE split = ? AND id = ? ORDER BY shown LIMIT 2", *repeated)
        one, other = (to_text(shown) for (shown,) in places)
        raise SourceError(
            f"two images have the id {to_text(repeated[1])}: {one} and {other}; remove or rename one"
        )


def _reject_images(draft: Draft, tables: Sequence[str]) -> None:
    """Reject images with bad ids and, if there are tables, training images without votes that obey the tree."""
    draft.change(
        "UPDATE file SET rejected = what_is_wrong(id) WHERE split IS NOT NULL AND what_is_wrong(id) IS NOT NULL"
    )
    if tables:
        good = "split = 'train' AND rejected IS NULL"
        draft.change(
            f"UPDATE file SET rejected = ? WHERE {good} AND id NOT IN (SELECT id FROM vote)",
            f"no row of votes in {' and '.join(tables)}",
        )
        draft.change(
            "UPDATE file SET rejected = 'the votes break the tree: ' || (SELECT broken FROM vote WHERE id = file.id) "
            f"WHERE {good} AND id IN (SELECT id FROM vote WHERE broken IS NOT NULL)"
        )


def _rejected(draft: Draft, tables: Sequence[str]) -> Iterator[Rejected]:
    """Yield the rejected images, and the rows of tables without a training image."""
    for split, sample_id, shown, why in draft.rows(
        "SELECT coalesce(split, 'train'), id, shown, rejected FROM file WHERE rejected IS NOT NULL"
    ):
        name = to_text(shown).rpartition("/")[2]
        yield Rejected(split=split, id=to_text(sample_id), file=name, reason=why)
    if tables:
        for sample_id, source in draft.rows(
            "SELECT id, source FROM vote WHERE id NOT IN (SELECT id FROM file WHERE split = 'train')"
        ):
            why = "no image for this row of votes"
            yield Rejected(split="train", id=to_text(sample_id), file=tables[source], reason=why)
