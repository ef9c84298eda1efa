"""The tables of votes that go with the images: read in parts, joined by id, made votes where they are counts."""

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
from galaxy_zoo.labels import check_none_missing, stands_twice, to_votes, votes_of_cells
from galaxy_zoo.remote import path_of
from galaxy_zoo.tree import DecisionTree
from galaxy_zoo.votes import TOLERANCE, Violation, VoteKind, check_votes
from shard_tool.source.draft import Draft, Row
from shard_tool.source.files import StoredFile
from shard_tool.source.scratch import to_bytes, to_text

LINES_AT_ONCE = 8_192
"""About 20 MB as texts."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TableRules:
    """What the tables must hold: votes of which kind, complete or not, for which tree."""

    tree: DecisionTree
    allow_missing: bool
    kind: VoteKind

    def complete(self, votes: pd.DataFrame, where: str) -> pd.DataFrame:
        """Turn the table into one of votes, and check that none is missing if none may be.

        Raises:
            LabelError: one is missing.
        """
        votes = to_votes(votes, self.tree, self.kind)
        if not self.allow_missing:
            check_none_missing(votes, where)
        return votes

    def broken(self, votes: pd.DataFrame) -> dict[int, str]:
        """Return why rows of votes break the tree, by their number."""
        violations = check_votes(votes.to_numpy(np.float64), self.tree)
        return {violation.row: self._describe(violation) for violation in reversed(violations)}

    def _describe(self, violation: Violation) -> str:
        """Return what is wrong, and how to read the table where its fractions look like those of the other kind."""
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
    """Read tables of votes into a draft, joined by id. What one lacks another may have: only the whole is complete.

    Raises:
        LabelError: one is no table of votes, two contradict each other, or a vote is missing in all of them.
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
    """Add rows of votes, the first of which stands in `line`; `listed` are the files of a catalogue."""
    values = votes.to_numpy(np.float64)
    draft.add_votes(
        source,
        (
            Row(sample_id, values[i].tobytes(), broken.get(i), line + i, listed[i] if listed else None)
            for i, sample_id in enumerate(votes.index)
        ),
    )


def refuse_repeated_ids(draft: Draft, tables: Sequence[str]) -> None:
    """Check that no id stands twice in a table; `tables` are their names.

    Raises:
        LabelError: one does.
    """
    if repeated := repeated_row(draft, "id"):
        sample_id, line, first, source = repeated
        raise stands_twice(tables[source], sample_id, line, first)


def repeated_row(draft: Draft, column: str) -> tuple[str, int, int, int] | None:
    """Return the first row whose "id" or "listed" an earlier one of its table has: value, line, earlier line, table."""
    found = draft.first(
        f"SELECT {column}, line, before, source FROM (SELECT {column}, line, source, "
        f"lag(line) OVER (PARTITION BY source, {column} ORDER BY line) AS before FROM vote) "
        "WHERE before IS NOT NULL ORDER BY source, line LIMIT 1"
    )
    return (to_text(found[0]), *found[1:]) if found else None


def _parts(file: StoredFile, rules: TableRules, *, is_alone: bool) -> Iterator[tuple[int, pd.DataFrame]]:
    """Yield the votes of a table, some rows at a time, with the line of the first."""
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
                    kind=rules.kind,
                ),
            )


def _merge(draft: Draft, files: Sequence[StoredFile], rules: TableRules) -> None:
    """Make one row of the rows that several tables have for an id."""
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
    """What one table says of an id: `votes` are float64 of shape (answers,)."""

    number: int
    source: int
    id: str
    votes: Floats


def _by_id(draft: Draft) -> Iterator[list[_TableRow]]:
    """Yield the rows of each id, one a table at most, in the order of the tables."""
    rows = draft.rows("SELECT id, number, source, votes FROM vote ORDER BY id, source")
    for sample_id, group in groupby(rows, key=itemgetter(0)):
        yield [
            _TableRow(number, source, to_text(sample_id), np.frombuffer(votes))
            for _, number, source, votes in group
        ]


def _together(rows: Sequence[_TableRow]) -> Floats:
    """Return what the rows of an id say together: of each vote what the first that has it says."""
    votes = rows[0].votes
    for row in rows[1:]:
        votes = np.where(np.isnan(votes), row.votes, votes)
    return votes


def _refuse_conflicts(draft: Draft, files: Sequence[StoredFile], rules: TableRules) -> None:
    """Check that no table contradicts the ones before it.

    Raises:
        LabelError: one does; it names the first such cell and counts all of that table.
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
        "mend one of the two"
    )


def _open(file: StoredFile) -> IO[bytes]:
    """Open a table; one in an archive is read into memory as a whole."""
    if file.member is None:
        path = path_of(file.path)
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
