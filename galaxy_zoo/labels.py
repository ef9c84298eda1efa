"""Read tables of votes, name the cell that is wrong, and convert all kinds to fractions of all voters."""

from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from galaxy_zoo.cells import read_cells
from galaxy_zoo.errors import LabelError
from galaxy_zoo.tree import DecisionTree
from galaxy_zoo.votes import VoteKind, fractions_of_all, fractions_of_counts

ROUNDING = 1e-6
"""Largest distance of a vote from [0, 1] that counts as a rounding error."""
MOST_VOTERS = 1e9
"""Largest count of a cell: beyond any survey, far from overflow."""
MISSING_WORDS = (
    *("NA", "N/A", "n/a", "<NA>", "#N/A", "#N/A N/A", "#NA", "NULL", "null", "None"),
    *("NaN", "nan", "-NaN", "-nan", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
)
"""What programs write in place of a missing number."""
MISSING_VOTES_HINT = ", or pass --missing-votes to take what is absent as missing votes"


def read_votes(
    file: Path | IO[bytes],
    tree: DecisionTree,
    *,
    name: str | None = None,
    allow_missing: bool = False,
) -> pd.DataFrame:
    """Read a CSV with a column of ids and the columns of the tree.

    Args:
        name: what to call the file in errors; default: its path.
        allow_missing: absent columns and empty cells become missing votes (NaN) instead of an error.

    Returns:
        float64 in [0, 1] or NaN; index: ids as text, in the order of the file; columns:
        those of the tree.

    Raises:
        LabelError: the file is not a CSV; the id column or a column of votes is missing; a column or an id appears
            twice; an id is empty; or a vote is missing, not a number or outside [0, 1].
    """
    where = name or str(file)
    [(line, cells)] = read_cells(file, where)
    return votes_of_cells(cells, tree, where, first_line=line, allow_missing=allow_missing, hints=False)


def votes_of_cells(
    cells: pd.DataFrame,
    tree: DecisionTree,
    where: str,
    *,
    first_line: int = 2,
    allow_missing: bool = False,
    kind: VoteKind = "all",
    hints: bool = True,
) -> pd.DataFrame:
    """Return the votes of some lines of a table of text, as `read_votes` does; `where` names the table in errors.

    Args:
        kind: what the cells hold; counts are returned as they are, float64, 0 to 1e9. `to_votes` turns all kinds
            into votes.
        hints: whether errors name options of `shard_tool pack`.

    Raises:
        LabelError: as `read_votes`.
    """
    missing_hint = MISSING_VOTES_HINT if hints else ""
    _check_columns(cells, tree, where, allow_missing=allow_missing, hint=missing_hint)
    votes = pd.DataFrame(
        {c: _numbers(cells[c], where, first_line) if c in cells else np.nan for c in tree.columns},
        index=cells.index,
        dtype=np.float64,
    )
    votes.index = _ids(cells[tree.id_column], where, first_line)
    votes = _in_range(votes, where, first_line, highest=MOST_VOTERS if kind == "counts" else 1.0, hints=hints)
    if not allow_missing:
        _refuse_missing(votes, lambda row: f"{where}, line {row + first_line}", missing_hint)
    return votes


def to_votes(table: pd.DataFrame, tree: DecisionTree, kind: VoteKind) -> pd.DataFrame:
    """Convert a table of any kind to votes: fractions of all voters."""
    if kind == "all":
        return table
    turn = fractions_of_counts if kind == "counts" else fractions_of_all
    return pd.DataFrame(turn(table.to_numpy(), tree), index=table.index, columns=table.columns)


def check_none_missing(votes: pd.DataFrame, where: str) -> None:
    """Check that no vote is missing in a table whose rows are not the lines of one file.

    Raises:
        LabelError: a vote is missing.
    """
    _refuse_missing(votes, lambda row: f"{where}: id {votes.index[row]}", MISSING_VOTES_HINT)


def stands_twice(where: str, sample_id: str, line: int, first: int) -> LabelError:
    """Return the error for an id that appears in two lines of a table."""
    return LabelError(
        f"{where}, line {line}: id {sample_id} appears twice (first in line {first}); keep one row for each id"
    )


def _check_columns(table: pd.DataFrame, tree: DecisionTree, where: str, *, allow_missing: bool, hint: str) -> None:
    if tree.id_column not in table:
        raise LabelError(
            f"{where}: no column {tree.id_column!r} (the ids, by tree {tree.name!r}); "
            f"the header is {', '.join(map(str, table.columns[:6]))[:100]}, ...; correct it, or take another tree"
        )
    missing = [column for column in tree.columns if column not in table]
    none_left = len(missing) == len(tree.columns)
    if missing and (none_left or not allow_missing):
        raise LabelError(
            f"{where}: {len(missing)} of the {len(tree.columns)} columns of tree {tree.name!r} are missing: "
            f"{', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}; "
            f"correct the header{', or take another tree' if none_left else hint}"
        )


def _ids(column: pd.Series, where: str, first_line: int) -> pd.Index:
    ids = column.str.strip()
    empty = np.flatnonzero(ids.isna() | (ids == ""))
    if len(empty):
        raise LabelError(f"{where}, line {empty[0] + first_line}: the id is empty; give one, or remove the line")
    twice = np.flatnonzero(ids.duplicated())
    if len(twice):
        first = int(np.flatnonzero(ids == ids.iloc[twice[0]])[0])
        raise stands_twice(where, ids.iloc[twice[0]], int(twice[0]) + first_line, first + first_line)
    return pd.Index(ids)


def _numbers(column: pd.Series, where: str, first_line: int) -> pd.Series:
    try:
        return pd.Series(_plain_numbers(column), column.index)
    except ValueError:  # slower: check each of them
        pass
    column = column.mask(column.isin(MISSING_WORDS))
    present = column.notna()
    bad = np.flatnonzero(pd.to_numeric(column, errors="coerce").isna() & present)
    if len(bad):
        raise LabelError(
            f"{where}, line {bad[0] + first_line}, column {column.name}: {column.iloc[bad[0]]!r} is not a number"
        )
    numbers = np.full(len(column), np.nan)
    # Python's float rounds correctly; pandas 2 is off by a bit in the last place
    numbers[present] = column[present].to_numpy(object).astype(np.float64)
    return pd.Series(numbers, column.index)


def _plain_numbers(column: pd.Series) -> NDArray[np.float64]:
    """Convert plain ASCII numbers, ten times as fast; raise ValueError if any text is something else.

    Python's float rounds correctly (pandas 2 is off by one bit), but also takes 1_000.
    """
    text = "".join(column[column.notna()].to_list())
    if "_" in text or not text.isascii():
        raise ValueError
    numbers: NDArray[np.float64] = column.to_numpy(object).astype(np.float64)
    return numbers


def _in_range(votes: pd.DataFrame, where: str, first_line: int, *, highest: float, hints: bool) -> pd.DataFrame:
    """Return votes between 0 and `highest`; values outside by a rounding error are clipped."""
    values = votes.to_numpy()
    if not ((values < 0) | (values > highest) | np.isinf(values)).any():
        return votes
    outside = np.argwhere((values < -ROUNDING) | (values > highest + ROUNDING) | np.isinf(values))
    if len(outside):
        row, column = outside[0]
        shown = str(values[row, column]).removesuffix(".0")  # show all digits: 1.00001 is not 1
        wanted = (
            "[0, 1]; votes are fractions"
            if highest == 1
            else f"[0, {MOST_VOTERS:g}]; counts are numbers of voters"
        )
        hint = "; --counts takes numbers of voters" if hints and values[row, column] > 1 == highest else ""
        raise LabelError(
            f"{where}, line {row + first_line}, column {votes.columns[column]}: {shown} is outside "
            f"{wanted} ({len(outside)} such cells){hint}"
        )
    return votes.clip(0, highest)


def _refuse_missing(votes: pd.DataFrame, place: Callable[[int], str], hint: str) -> None:
    """Raise LabelError for the first missing vote; `place` describes where a row is."""
    missing = np.argwhere(np.isnan(votes.to_numpy()))
    if len(missing):
        row, column = missing[0]
        raise LabelError(
            f"{place(int(row))}, column {votes.columns[column]}: the vote is missing "
            f"({len(missing)} such cells); fill it in{hint}"
        )
