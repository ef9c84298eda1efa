"""Read the tables of votes of the images in parts, join them by id, and convert counts to votes."""

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from operator import itemgetter
from typing import IO, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from galaxy_zoo.cells import read_cells
from galaxy_zoo.errors import ImageError, LabelError
from galaxy_zoo.files import is_special
from galaxy_zoo.labels import check_none_missing, stands_twice, to_votes, votes_of_cells
from galaxy_zoo.remote import path_of
from galaxy_zoo.tree import DecisionTree
from galaxy_zoo.votes import TOLERANCE, Violation, VoteKind, check_votes
from shard_tool.source.draft import Draft, Row
from shard_tool.source.files import StoredFile
from shard_tool.source.scratch import to_bytes, to_text

LINES_AT_ONCE = 8_192
"""Lines read at once, about 20 MB as text."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TableRules:
    """What the tables must hold: the kind of votes, whether all must be present, and the tree."""

    tree: DecisionTree
    allow_missing: bool
    kind: VoteKind

    def complete(self, votes: pd.DataFrame, where: str) -> pd.DataFrame:
        """Convert the table to votes; check that none is missing if none may be.

        Raises:
            LabelError: a vote is missing.
        """
        votes = to_votes(votes, self.tree, self.kind)
        if not self.allow_missing:
            check_none_missing(votes, where)
        return votes

    def broken(self, votes: pd.DataFrame) -> dict[int, str]:
        """Return, by row number, how rows of votes break the tree."""
        violations = check_votes(votes.to_numpy(np.float64), self.tree)
        return {violation.row: self._describe(violation) for violation in reversed(violations)}

    def _describe(self, violation: Violation) -> str:
        """Describe a violation; add the option to use if the fractions look like those of the other kind."""
        total, expected = violation.total, violation.expected
        if self.kind == "question" and expected:
            return (
                f"question {violation.question!r}: answers sum to {total / expected:.3g}, expected 1 with "
                "--fractions-of question; pass --fractions-of all if they are fractions of all voters"
            )
        if self.kind == "all" and abs(total - 1) <= TOLERANCE:
            return (
                f"{violation} with --fractions-of all; pass --fractions-of question if they are fractions of the "
                "question's own voters"
            )
        return str(violation)


def read_tables(draft: Draft, files: Sequence[StoredFile], rules: TableRules) -> None:
    """Read tables of votes into a draft, joined by id; a vote that one table lacks may be in another.

    Raises:
        LabelError: a file is not a table of votes, two contradict each other, or a vote is missing in all of them.
    """
    is_alone = len(files) == 1
    for source, file in enumerate(files):
        for line, votes in _parts(file, rules, is_alone=is_alone):
            if is_alone:
                votes = rules.complete(votes, file.shown)  # noqa: PLW2901
            add_votes(draft, votes, rules.broken(votes) if is_alone else {}, line=line, source=source)
    refuse_repeated_ids(draft, [file.shown for file in files])
    if not is_alone:
        _merge(draft, files, rules)
    draft.change("CREATE UNIQUE INDEX vote_by_id ON vote (id)")


def add_votes(
    draft: Draft,
    votes: pd.DataFrame,
    broken: dict[int, str],
    *,
    line: int,
    source: int = 0,
    listed: Sequence[str] | None = None,
) -> None:
    """Add rows of votes, the first from line `line`; `listed` are the files of a catalogue."""
    values = votes.to_numpy(np.float64)
    draft.add_votes(
        source,
        (
            Row(sample_id, values[i].tobytes(), broken.get(i), line + i, listed[i] if listed else None)
            for i, sample_id in enumerate(votes.index)
        ),
    )


def refuse_repeated_ids(draft: Draft, tables: Sequence[str]) -> None:
    """Check that no id occurs twice in a table; `tables` are the names of the tables.

    Raises:
        LabelError: an id does.
    """
    if repeated := repeated_row(draft, "id"):
        sample_id, line, first, source = repeated
        raise stands_twice(tables[source], sample_id, line, first)


def repeated_row(draft: Draft, column: str) -> tuple[str, int, int, int] | None:
    """Return the first row that repeats an "id" or "listed" of its table: value, line, earlier line, table."""
    found = draft.first(
        f"SELECT {column}, line, before, source FROM (SELECT {column}, line, source, "
        f"lag(line) OVER (PARTITION BY source, {column} ORDER BY line) AS before FROM vote) "
        "WHERE before IS NOT NULL ORDER BY source, line LIMIT 1"
    )
    return (to_text(found[0]), *found[1:]) if found else None


def _parts(file: StoredFile, rules: TableRules, *, is_alone: bool) -> Iterator[tuple[int, pd.DataFrame]]:
    """Yield the votes of a table, some rows at a time, with the line of the first row."""
    with _open(file) as opened:
        for line, cells in read_cells(opened, file.shown, lines_at_once=LINES_AT_ONCE):
            votes = votes_of_cells(
                cells,
                rules.tree,
                file.shown,
                first_line=line,
                allow_missing=rules.allow_missing or not is_alone,
                kind=rules.kind,
            )
            yield line, votes


def _merge(draft: Draft, files: Sequence[StoredFile], rules: TableRules) -> None:
    """Merge the rows that several tables have for an id into one."""
    _refuse_conflicts(draft, files, rules)
    draft.change("CREATE TABLE merged AS SELECT * FROM vote WHERE 0")
    where, by_id = " and ".join(dict.fromkeys(file.shown for file in files)), _by_id(draft)
    while some := list(islice(by_id, LINES_AT_ONCE)):
        table = pd.DataFrame(
            np.stack([_together(rows) for rows in some]),
            index=[rows[0].id for rows in some],
            columns=list(rules.tree.columns),
        )
        votes = rules.complete(table, where)
        broken = rules.broken(votes)
        for i, (rows, values) in enumerate(zip(some, votes.to_numpy(np.float64), strict=True)):
            draft.change(
                "INSERT INTO merged (source, id, votes, broken) VALUES (?, ?, ?, ?)",
                *(rows[0].source, to_bytes(rows[0].id), values.tobytes(), broken.get(i)),
            )
    draft.change("DROP TABLE vote")
    draft.change("ALTER TABLE merged RENAME TO vote")


class _TableRow(NamedTuple):
    """The row of a table for an id; votes: float64, shape (answers,)."""

    number: int
    source: int
    id: str
    votes: Floats


def _by_id(draft: Draft) -> Iterator[list[_TableRow]]:
    """Yield the rows of each id, at most one from each table, in the order of the tables."""
    rows = draft.rows("SELECT id, number, source, votes FROM vote ORDER BY id, source")
    for sample_id, group in groupby(rows, key=itemgetter(0)):
        yield [
            _TableRow(number, source, to_text(sample_id), np.frombuffer(votes))
            for _, number, source, votes in group
        ]


def _together(rows: Sequence[_TableRow]) -> Floats:
    """Return the rows of an id as one: each vote from the first row that has it."""
    votes = rows[0].votes
    for row in rows[1:]:
        votes = np.where(np.isnan(votes), row.votes, votes)
    return votes


def _refuse_conflicts(draft: Draft, files: Sequence[StoredFile], rules: TableRules) -> None:
    """Check that no table contradicts an earlier one.

    Raises:
        LabelError: a table does; the message names the first such cell and counts those of that table.
    """
    counts, first = Counter[int](), dict[int, tuple[tuple[int, int], _TableRow, list[_TableRow]]]()
    for rows in _by_id(draft):
        for i, row in enumerate(rows[1:], 1):
            before = _together(rows[:i])
            different = np.flatnonzero((before != row.votes) & ~np.isnan(before) & ~np.isnan(row.votes))
            if len(different):
                counts[row.source] += len(different)
                found = ((rows[0].number, int(different[0])), row, rows[:i])
                first[row.source] = min(found, first.get(row.source, found), key=itemgetter(0))
    if not first:
        return
    (_, column), row, earlier = first[min(first)]
    other = next(each for each in earlier if not np.isnan(each.votes[column]))
    raise LabelError(
        f"id {row.id}, column {rules.tree.columns[column]}: {other.votes[column]:.9g} in {files[other.source].shown}, "
        f"but {row.votes[column]:.9g} in {files[row.source].shown} ({counts[row.source]} such cells); "
        "correct one of the two"
    )


def _open(file: StoredFile) -> IO[bytes]:
    """Open a table; read a table in an archive into memory as a whole."""
    if file.member is None:
        path = path_of(file.path)
        if is_special(path):
            raise LabelError(f"{path}: a pipe or a device, not a file; write the table to a file first")
        try:
            return path.open("rb")
        except OSError as error:
            raise LabelError(
                f"{path}: cannot be read ({error.strerror}); make it readable and pack again"
            ) from error
    try:
        return io.BytesIO(file.read())
    except ImageError as error:
        raise LabelError(f"{file.shown}: {error}; download it again") from error
