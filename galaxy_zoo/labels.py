"""Read a table of votes from CSV, and say exactly which cell is wrong."""

from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd

from galaxy_zoo.errors import LabelError
from galaxy_zoo.tree import DecisionTree

MISSING_VOTES_HINT = "pass --missing-votes to take what is absent as missing votes"


def read_votes(
    file: Path | IO[bytes], tree: DecisionTree, *, name: str | None = None, allow_missing: bool = False
) -> pd.DataFrame:
    """Read a CSV with a column of ids and the tree's columns.

    Args:
        name: what to call the file in errors; default: its path.
        allow_missing: columns and cells that are absent become missing votes (NaN) instead of an error.

    Returns:
        float64 in [0, 1] or NaN; index: ids as text, in the order of the file; columns: the tree's.

    Raises:
        LabelError: it is no CSV, the id column or a column of votes is missing, a column or an id stands twice,
            an id is empty, or a vote is missing, not a number or outside [0, 1].
    """
    where = name or str(file)
    table = _read_csv(file, where)
    _check_columns(table, tree, where, allow_missing=allow_missing)
    votes = pd.DataFrame(
        {c: _numbers(table[c], where) if c in table else np.nan for c in tree.columns},
        index=table.index,
        dtype=np.float64,
    )
    votes.index = _ids(table[tree.id_column], where)
    _check_values(votes, where, allow_missing=allow_missing)
    return votes


def _read_csv(file: Path | IO[bytes], where: str) -> pd.DataFrame:
    """All cells as text. Blank lines are kept and the header is a row, so that a row's number gives its line."""
    try:
        cells = pd.read_csv(file, header=None, dtype=str, skip_blank_lines=False, low_memory=False)
    except FileNotFoundError as error:
        raise LabelError(f"{where}: there is no such file") from error
    except ValueError as error:  # pandas' parser errors and UTF-8 errors are ValueErrors
        raise LabelError(f"{where}: not a CSV file: {str(error).strip()}") from error
    header = cells.iloc[0].fillna("")
    if header.duplicated().any():
        raise LabelError(f"{where}: column {header[header.duplicated()].iloc[0]!r} stands twice; keep one of them")
    return cells.iloc[1:].set_axis(header.tolist(), axis="columns")


def _check_columns(table: pd.DataFrame, tree: DecisionTree, where: str, *, allow_missing: bool) -> None:
    if tree.id_column not in table:
        raise LabelError(
            f"{where}: no column {tree.id_column!r} (the ids, by tree {tree.name!r}); "
            f"the header is {', '.join(map(str, table.columns[:6]))}, ..."
        )
    missing = [column for column in tree.columns if column not in table]
    none_left = len(missing) == len(tree.columns)
    if missing and (none_left or not allow_missing):
        raise LabelError(
            f"{where}: {len(missing)} of the {len(tree.columns)} columns of tree {tree.name!r} are missing: "
            f"{', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}; "
            f"mend the header, or {'choose another tree' if none_left else MISSING_VOTES_HINT}"
        )


def _ids(column: pd.Series, where: str) -> pd.Index:
    ids = column.str.strip()
    empty = np.flatnonzero(ids.isna() | (ids == ""))
    if len(empty):
        raise LabelError(f"{where}, line {empty[0] + 2}: the id is empty; give one, or remove the line")
    twice = np.flatnonzero(ids.duplicated())
    if len(twice):
        first = int(np.flatnonzero(ids == ids.iloc[twice[0]])[0])
        raise LabelError(
            f"{where}, line {twice[0] + 2}: id {ids.iloc[twice[0]]} stands twice (first in line {first + 2}); "
            "keep one row an id"
        )
    return pd.Index(ids)


def _numbers(column: pd.Series, where: str) -> pd.Series:
    present = column.notna()
    bad = np.flatnonzero(pd.to_numeric(column, errors="coerce").isna() & present)
    if len(bad):
        raise LabelError(
            f"{where}, line {bad[0] + 2}, column {column.name}: {column.iloc[bad[0]]!r} is not a number"
        )
    numbers = np.full(len(column), np.nan)
    # by Python's float, which rounds correctly; pandas 2 is off by a bit in the last place
    numbers[present] = column[present].to_numpy(object).astype(np.float64)
    return pd.Series(numbers, column.index)


def _check_values(votes: pd.DataFrame, where: str, *, allow_missing: bool) -> None:
    values = votes.to_numpy()
    outside = np.argwhere((values < 0) | (values > 1))
    if len(outside):
        row, column = outside[0]
        raise LabelError(
            f"{where}, line {row + 2}, column {votes.columns[column]}: {values[row, column]:.9g} is outside "
            f"[0, 1]; votes are fractions ({len(outside)} such cells)"
        )
    missing = np.argwhere(np.isnan(values))
    if len(missing) and not allow_missing:
        row, column = missing[0]
        raise LabelError(
            f"{where}, line {row + 2}, column {votes.columns[column]}: the vote is missing "
            f"({len(missing)} such cells); mend it, or {MISSING_VOTES_HINT}"
        )
