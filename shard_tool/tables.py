"""The tables of votes that go with the images: read, joined by id, and made votes where they are counts."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from galaxy_zoo.errors import ImageError, LabelError
from galaxy_zoo.labels import check_none_missing, merge_votes, read_votes, to_fractions
from galaxy_zoo.tree import DecisionTree
from shard_tool.walking import StoredFile


@dataclass(frozen=True)
class Tables:
    """Votes by id, as from `galaxy_zoo.labels.read_votes`, and the ids that each file has a row for."""

    votes: pd.DataFrame
    ids: Mapping[str, pd.Index]

    @property
    def name(self) -> str:
        """What messages call them: the files' names without their folders."""
        return " and ".join(self.ids)

    def file_of(self, sample_id: str) -> str:
        """The name of the first file that has a row for this id."""
        return next(name for name, ids in self.ids.items() if sample_id in ids)


def read_tables(
    files: Sequence[StoredFile], tree: DecisionTree, *, allow_missing: bool, are_counts: bool
) -> Tables:
    """Read tables of votes and join them by id. What one lacks another may have, so only the whole is complete.

    Raises:
        LabelError: one is no table of votes, two contradict each other, or a vote is missing in all of them.
    """
    is_alone = len(files) == 1
    tables = {
        file.shown: read_votes(
            io.BytesIO(_read(file)),
            tree,
            name=file.shown,
            allow_missing=allow_missing or not is_alone,
            are_counts=are_counts,
        )
        for file in files
    }
    return Tables(
        complete(
            merge_votes(tables), tree, " and ".join(tables), allow_missing=allow_missing, are_counts=are_counts
        ),
        {file.name: tables[file.shown].index for file in files},
    )


def complete(
    votes: pd.DataFrame, tree: DecisionTree, where: str, *, allow_missing: bool, are_counts: bool
) -> pd.DataFrame:
    """Make counts votes, and check that none is missing where none may be.

    Raises:
        LabelError: one is missing.
    """
    if are_counts:
        votes = to_fractions(votes, tree)
    if not allow_missing:
        check_none_missing(votes, where)
    return votes


def _read(file: StoredFile) -> bytes:
    try:
        return file.read()
    except ImageError as error:
        raise LabelError(f"{file.shown}: {error}; download it again") from error
