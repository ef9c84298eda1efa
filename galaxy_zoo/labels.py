"""Read tables of votes, name the cell that is wrong, and turn counts into fractions."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from galaxy_zoo.errors import LabelError
from galaxy_zoo.tree import DecisionTree
from galaxy_zoo.votes import fractions_of_counts

MISSING_VOTES_HINT = "pass --missing-votes to take what is absent as missing votes"


def read_votes(
    file: Path | IO[bytes],
    tree: DecisionTree,
    *,
    name: str | None = None,
    allow_missing: bool = False,
    are_counts: bool = False,
) -> pd.DataFrame:
    """Read a CSV with a column of ids and the tree's columns.

    Args:
        name: name of the file in errors; default: its path.
        allow_missing: take absent columns and cells as missing votes (NaN) instead of raising.
        are_counts: the cells are voter counts, which `to_fractions` turns into votes.

    Returns:
        float64 in [0, 1], of counts from 0 on, or NaN; index: ids as text, in the order of the file; columns: the
        tree's.

    Raises:
        LabelError: it is no CSV, the id column or a column of votes is missing, a column or an id stands twice,
            an id is empty, or a vote is missing, not a number or outside [0, 1].
    """
    where = name or str(file)
    [(_, cells)] = read_cells(file, where)
    return votes_of_cells(cells, tree, where, allow_missing=allow_missing, are_counts=are_counts)


def votes_of_cells(
    cells: pd.DataFrame,
    tree: DecisionTree,
    where: str,
    *,
    first_line: int = 2,
    allow_missing: bool = False,
    are_counts: bool = False,
) -> pd.DataFrame:
    """Return the votes in some lines of a table of texts, as `read_votes` does; `where` names the table in errors.

    Raises:
        LabelError: as `read_votes`.
    """
    _check_columns(cells, tree, where, allow_missing=allow_missing)
    votes = pd.DataFrame(
        {c: _numbers(cells[c], where, first_line) if c in cells else np.nan for c in tree.columns},
        index=cells.index,
        dtype=np.float64,
    )
    votes.index = _ids(cells[tree.id_column], where, first_line)
    _check_range(votes, where, first_line, highest=np.inf if are_counts else 1.0)
    if not allow_missing:
        _refuse_missing(votes, lambda row: f"{where}, line {row + first_line}")
    return votes


def to_fractions(counts: pd.DataFrame, tree: DecisionTree) -> pd.DataFrame:
    """Turn a table of voter counts into one of votes; see `fractions_of_counts`."""
    votes = fractions_of_counts(counts.to_numpy(), tree)
    return pd.DataFrame(votes, index=counts.index, columns=counts.columns)


def check_none_missing(votes: pd.DataFrame, where: str) -> None:
    """Check that no vote is missing in a table whose rows are not the lines of one file.

    Raises:
        LabelError: a vote is missing.
    """
    _refuse_missing(votes, lambda row: f"{where}: id {votes.index[row]}")


def stands_twice(where: str, sample_id: str, line: int, first: int) -> LabelError:
    """Return the error for an id that stands in two lines of a table."""
    return LabelError(
        f"{where}, line {line}: id {sample_id} stands twice (first in line {first}); keep one row an id"
    )


def read_cells(
    file: Path | IO[bytes], where: str, *, lines_at_once: int | None = None
) -> Iterator[tuple[int, pd.DataFrame]]:
    """Yield the cells of a CSV as text, some lines at a time, with the number of the first of them.

    Blank lines are kept except at the end; a table without lines gives one empty part. Without `lines_at_once` all
    lines come at once.

    Raises:
        LabelError: it is no CSV, or a column stands twice.
    """
    header: list[str] | None = None
    line, waiting = 2, None
    for cells in _parts(file, where, lines_at_once):
        rows = cells
        if header is None:
            header, rows = _header(cells.iloc[0].fillna(""), where), cells.iloc[1:]
        if waiting is not None:
            rows = pd.concat([waiting, rows])
        filled = np.flatnonzero(rows.notna().any(axis=1))
        end = filled[-1] + 1 if len(filled) else 0
        waiting = rows.iloc[end:]  # blank lines, perhaps those at the end
        if end:
            yield line, rows.iloc[:end].set_axis(header, axis="columns")
            line += int(end)
    if line == 2 and waiting is not None and header is not None:
        if not any(header):
            raise LabelError(f"{where}: not a CSV file: every cell is empty")
        yield line, waiting.iloc[:0].set_axis(header, axis="columns")


def _parts(file: Path | IO[bytes], where: str, lines_at_once: int | None) -> Iterator[pd.DataFrame]:
    """Yield the lines of a CSV, its header as the first row."""
    try:
        with pd.read_csv(
            file,
            header=None,
            dtype=str,
            skip_blank_lines=False,
            low_memory=False,
            chunksize=lines_at_once or sys.maxsize,
        ) as parts:
            yield from parts
    except (FileNotFoundError, IsADirectoryError) as error:
        raise LabelError(f"{where}: there is no such file") from error
    except UnicodeDecodeError as error:
        raise LabelError(f"{where}: not a CSV file in UTF-8 ({error}); save it as CSV in UTF-8") from error
    except ValueError as error:  # as pandas' parser errors are
        raise LabelError(f"{where}: not a CSV file: {str(error).strip()}") from error


def _header(names: pd.Series, where: str) -> list[str]:
    names = names.str.strip()
    if names.duplicated().any():
        raise LabelError(
            f"{where}: column {names[names.duplicated()].iloc[0]!r} stands twice in the header, the first line; "
            "keep one of them, or write the header"
        )
    return [str(name) for name in names]


def _check_columns(table: pd.DataFrame, tree: DecisionTree, where: str, *, allow_missing: bool) -> None:
    if tree.id_column not in table:
        raise LabelError(
            f"{where}: no column {tree.id_column!r} (the ids, by tree {tree.name!r}); "
            f"the header is {', '.join(map(str, table.columns[:6]))[:100]}, ...; columns are separated by commas"
        )
    missing = [column for column in tree.columns if column not in table]
    none_left = len(missing) == len(tree.columns)
    if missing and (none_left or not allow_missing):
        raise LabelError(
            f"{where}: {len(missing)} of the {len(tree.columns)} columns of tree {tree.name!r} are missing: "
            f"{', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}; "
            f"mend the header, or {'choose another tree' if none_left else MISSING_VOTES_HINT}"
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
    except ValueError:  # a slower look at each of them
        pass
    present = column.notna()
    bad = np.flatnonzero(pd.to_numeric(column, errors="coerce").isna() & present)
    if len(bad):
        raise LabelError(
            f"{where}, line {bad[0] + first_line}, column {column.name}: {column.iloc[bad[0]]!r} is not a number"
        )
    numbers = np.full(len(column), np.nan)
    # by Python's float, which rounds correctly; pandas 2 is off by a bit in the last place
    numbers[present] = column[present].to_numpy(object).astype(np.float64)
    return pd.Series(numbers, column.index)


def _plain_numbers(column: pd.Series) -> NDArray[np.float64]:
    """Convert plain ASCII numbers, ten times as fast; raise ValueError where there are others.

    Python's float rounds correctly (pandas 2 is off by one bit), but also takes 1_000.
    """
    text = "".join(column[column.notna()].to_list())
    if "_" in text or not text.isascii():
        raise ValueError
    numbers: NDArray[np.float64] = column.to_numpy(object).astype(np.float64)
    return numbers


def _check_range(votes: pd.DataFrame, where: str, first_line: int, *, highest: float) -> None:
    values = votes.to_numpy()
    outside = np.argwhere((values < 0) | (values > highest) | np.isinf(values))
    if len(outside):
        row, column = outside[0]
        shown = str(values[row, column]).removesuffix(".0")  # all digits: 1.0000000001 is not 1
        wanted = "[0, 1]; votes are fractions" if highest == 1 else "[0, inf); counts are numbers of voters"
        hint = "; shard_tool pack --counts takes numbers of voters" if values[row, column] > 1 == highest else ""
        raise LabelError(
            f"{where}, line {row + first_line}, column {votes.columns[column]}: {shown} is outside "
            f"{wanted} ({len(outside)} such cells){hint}"
        )


def _refuse_missing(votes: pd.DataFrame, place: Callable[[int], str]) -> None:
    """Raise a LabelError for the first missing vote; `place` says where a row is."""
    missing = np.argwhere(np.isnan(votes.to_numpy()))
    if len(missing):
        row, column = missing[0]
        raise LabelError(
            f"{place(int(row))}, column {votes.columns[column]}: the vote is missing "
            f"({len(missing)} such cells); mend it, or {MISSING_VOTES_HINT}"
        )
