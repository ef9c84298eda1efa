"""The tables of votes that go with the images: read in parts, joined by id, made votes where they are counts."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from galaxy_zoo.errors import ImageError, LabelError
from galaxy_zoo.labels import check_none_missing, read_cells, stands_twice, to_fractions, votes_of_cells
from galaxy_zoo.remote import path_of
from galaxy_zoo.tree import DecisionTree
from galaxy_zoo.votes import check_votes
from shard_tool.source.draft import Draft, Row
from shard_tool.source.files import StoredFile

LINES_AT_ONCE = 8_192
"""Take about 20 MB as texts."""

Floats = NDArray[np.float64]
Update = tuple[int, bytes, int]


@dataclass(frozen=True)
class TableRules:
    """What the tables must be: of which tree, complete or not, votes or numbers of voters."""

    tree: DecisionTree
    allow_missing: bool
    are_counts: bool

    def complete(self, votes: pd.DataFrame, where: str) -> pd.DataFrame:
        """Make counts votes, and check that none is missing where none may be.

        Raises:
            LabelError: one is missing.
        """
        if self.are_counts:
            votes = to_fractions(votes, self.tree)
        if not self.allow_missing:
            check_none_missing(votes, where)
        return votes

    def broken(self, votes: Floats) -> dict[int, str]:
        """Why rows of votes break the tree, by their place."""
        return {violation.row: str(violation) for violation in reversed(check_votes(votes, self.tree))}


def read_tables(draft: Draft, files: Sequence[StoredFile], rules: TableRules) -> None:
    """Read tables of votes into a draft, joined by id. What one lacks another may have: only the whole is complete.

    Raises:
        LabelError: one is no table of votes, two contradict each other, or a vote is missing in all of them.
    """
    first, *others = files
    for line, votes in _parts(first, rules, is_alone=not others):
        if not others:
            votes = rules.complete(votes, first.shown)  # noqa: PLW2901
        add_votes(draft, votes, rules, line=line)
    index_ids(draft, first.shown)
    for number in range(1, len(files)):
        _merge(draft, files, number, rules)
    if others:
        _complete(draft, " and ".join(dict.fromkeys(file.shown for file in files)), rules)


def add_votes(
    draft: Draft, votes: pd.DataFrame, rules: TableRules, *, line: int, places: Sequence[str] | None = None
) -> None:
    """Write complete votes down, the first row of which stands in `line`; `places` are the files of a catalogue."""
    values = votes.to_numpy(np.float64)
    broken = rules.broken(values)
    draft.add_rows(
        0,
        (
            Row(sample_id, values[i].tobytes(), broken.get(i), places[i] if places else None, line + i)
            for i, sample_id in enumerate(votes.index)
        ),
    )


def index_ids(draft: Draft, where: str) -> None:
    """Check that no id stands twice in the first table.

    Raises:
        LabelError: one does.
    """
    if repeated := draft.repeated_row("id"):
        raise stands_twice(where, *repeated)


def _parts(file: StoredFile, rules: TableRules, *, is_alone: bool) -> Iterator[tuple[int, pd.DataFrame]]:
    """The votes of a table, some rows at a time, and the line of the first of them."""
    with _open(file) as opened:
        for line, cells in read_cells(opened, file.shown, lines_at_once=LINES_AT_ONCE):
            yield (
                line,
                votes_of_cells(
                    cells,
                    rules.tree,
                    file.shown,
                    first_line=line,
                    allow_missing=rules.allow_missing or not is_alone,
                    are_counts=rules.are_counts,
                ),
            )


def _merge(draft: Draft, files: Sequence[StoredFile], table: int, rules: TableRules) -> None:
    """Add what a further table says to the rows that are there."""
    where, conflicts = files[table].shown, _Conflicts()
    for line, votes in _parts(files[table], rules, is_alone=False):
        updates: list[Update] = []
        new: list[Row] = []
        for i, (sample_id, now) in enumerate(zip(votes.index, votes.to_numpy(np.float64), strict=True)):
            known = draft.row_of(sample_id)
            if known is None:
                new.append(Row(sample_id, now.tobytes(), None, None, line + i))
                continue
            number, stored, last, last_line = known
            if last == table:
                raise stands_twice(where, sample_id, line + i, last_line)
            before = np.frombuffer(stored)
            conflicts.compare(number, sample_id, before, now)
            updates.append((number, np.where(np.isnan(before), now, before).tobytes(), line + i))
        draft.update_rows(table, updates)
        draft.add_rows(table, new)
    if conflicts.count:
        raise conflicts.error(files[:table], where, rules)


class _Conflicts:
    """The votes in which two tables differ: how many, and the first one in the order of the rows."""

    def __init__(self) -> None:
        self.count = 0
        self._first: tuple[int, int, str, float, float] | None = None

    def compare(self, number: int, sample_id: str, before: Floats, now: Floats) -> None:
        """Note where the votes of one row differ, both being present."""
        different = np.flatnonzero((before != now) & ~np.isnan(before) & ~np.isnan(now))
        if len(different):
            column = int(different[0])
            found = (number, column, sample_id, float(before[column]), float(now[column]))
            self._first = min(found, self._first or found)
            self.count += len(different)

    def error(self, files: Sequence[StoredFile], where: str, rules: TableRules) -> LabelError:
        """What to say; `files` are the tables before the one that `where` names."""
        assert self._first is not None
        _, column, sample_id, before, now = self._first
        answer = rules.tree.columns[column]
        other = next(file.shown for file in files if _has(file, sample_id, answer, rules))
        return LabelError(
            f"id {sample_id}, column {answer}: {before:.9g} in {other}, but {now:.9g} in {where} "
            f"({self.count} such cells); mend one of the two"
        )


def _has(file: StoredFile, sample_id: str, answer: str, rules: TableRules) -> bool:
    return any(
        sample_id in votes.index and bool(votes[answer].notna()[sample_id])
        for _, votes in _parts(file, rules, is_alone=False)
    )


def _complete(draft: Draft, where: str, rules: TableRules) -> None:
    """Complete the rows of several tables, in the order of their ids."""
    last = ""
    while some := draft.rows_after(last, LINES_AT_ONCE):
        ids = [sample_id for sample_id, _ in some]
        values = np.frombuffer(b"".join(votes for _, votes in some)).reshape(len(some), -1)
        votes = rules.complete(pd.DataFrame(values, index=ids, columns=list(rules.tree.columns)), where)
        values = votes.to_numpy(np.float64)
        broken = rules.broken(values)
        draft.finish_rows((each, values[i].tobytes(), broken.get(i)) for i, each in enumerate(ids))
        last = ids[-1]


def _open(file: StoredFile) -> IO[bytes]:
    """A table as a file; one in an archive is in memory as a whole."""
    if file.member is None:
        path = path_of(file.path)
        try:
            return path.open("rb")
        except OSError as error:
            raise LabelError(f"{path}: cannot be read ({error.strerror}); mend that and pack again") from error
    try:
        return io.BytesIO(file.read())
    except ImageError as error:
        raise LabelError(f"{file.shown}: {error}; download it again") from error
