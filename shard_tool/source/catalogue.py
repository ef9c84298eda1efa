"""A catalogue: one table, CSV or Parquet, with an id, the file of the image and the votes of each galaxy."""

import io
import posixpath
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from galaxy_zoo.cells import read_cells
from galaxy_zoo.errors import InputError, LabelError
from galaxy_zoo.files import is_special
from galaxy_zoo.labels import votes_of_cells
from galaxy_zoo.remote import RemotePath
from shard_tool.source.draft import Draft
from shard_tool.source.options import CatalogueOptions
from shard_tool.source.tables import LINES_AT_ONCE, TableRules, add_votes, refuse_repeated_ids, repeated_row


def read_catalogue(draft: Draft, options: CatalogueOptions, rules: TableRules) -> None:
    """Read a catalogue into a draft: votes, and for each id its file, relative to SOURCE, with "/".

    Raises:
        LabelError: the file is not a table, lacks a column, names a file twice, or its votes do not fit the tree.
        InputError: the file is Parquet and pyarrow is not installed.
    """
    where, tree = str(options.path), rules.tree
    if is_special(options.path):
        raise LabelError(f"{where}: a pipe or a device, not a file; write it to a file first")
    id_column = options.id_column or tree.id_column
    is_parquet = options.path.suffix.lower() in {".parquet", ".pq"}
    try:
        file = io.BytesIO(options.path.read_bytes()) if isinstance(options.path, RemotePath) else options.path
    except OSError as error:
        raise LabelError(f"{where}: cannot be read ({error.strerror})") from error
    if is_parquet:
        parts = _read_parquet(file, where, [id_column, options.file_column, *tree.columns])
    else:
        parts = read_cells(file, where, lines_at_once=LINES_AT_ONCE)
    in_lines = f"{where} (its first row taken as line 2)" if is_parquet else where
    for line, cells in parts:
        for option, column in (("--id-column", id_column), ("--file-column", options.file_column)):
            if column not in cells:
                header = ", ".join(map(str, cells.columns[:6]))
                raise LabelError(
                    f"{where}: no column {column!r}; name the right one with {option} (found: {header}, ...)"
                )
        files = _files(cells[options.file_column], in_lines, line)
        if id_column != tree.id_column:
            cells = cells.drop(columns=tree.id_column, errors="ignore")  # noqa: PLW2901
            cells = cells.rename(columns={id_column: tree.id_column})  # noqa: PLW2901
        votes = votes_of_cells(
            cells, tree, in_lines, first_line=line, allow_missing=rules.allow_missing, kind=rules.kind
        )
        votes = rules.complete(votes, in_lines)
        add_votes(draft, votes, rules.broken(votes), line=line, listed=files)
    if repeated := repeated_row(draft, "listed"):
        raise _file_stands_twice(in_lines, *repeated[:3])
    refuse_repeated_ids(draft, [in_lines])
    for column in ("id", "listed"):
        draft.change(f"CREATE UNIQUE INDEX vote_by_{column} ON vote ({column})")


def _files(column: pd.Series, where: str, first_line: int) -> list[str]:
    """Return the paths in their simplest form."""
    lines: dict[str, int] = {}
    for line, cell in enumerate(column.tolist(), first_line):
        if not isinstance(cell, str) or not cell.strip():
            raise LabelError(
                f"{where}, line {line}, column {column.name}: the file is empty; give it or remove the line"
            )
        file = posixpath.normpath(cell.strip().replace("\\", "/"))
        if file in lines:
            raise _file_stands_twice(where, file, line, lines[file])
        lines[file] = line
    return list(lines)


def _file_stands_twice(where: str, file: str, line: int, first: int) -> LabelError:
    return LabelError(
        f"{where}, line {line}: file {file} appears twice (first in line {first}); keep one row for each file"
    )


def _read_parquet(file: Path | io.BytesIO, where: str, wanted: list[str]) -> Iterator[tuple[int, pd.DataFrame]]:
    """Yield those wanted columns that exist, as text, as `read_cells` does."""
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra that most packs do not need
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ImportError as error:
        raise InputError(
            f"{where}: reading Parquet needs pyarrow; install it with: pip install pyarrow, or give a CSV"
        ) from error
    try:
        with pq.ParquetFile(file) as parquet:
            names = parquet.schema_arrow.names
            twice = [name for name in wanted if names.count(name) > 1]
            if twice:
                raise LabelError(f"{where}: column {twice[0]!r} appears twice; keep one of them")
            columns, line = [name for name in dict.fromkeys(wanted) if name in names], 2
            if not parquet.metadata.num_rows:
                yield line, pd.DataFrame(columns=columns, dtype=object)
            for part in parquet.iter_batches(LINES_AT_ONCE, columns=columns):
                yield line, pd.DataFrame({name: _texts(part[name]) for name in columns}, dtype=object)
                line += part.num_rows
    except FileNotFoundError as error:
        raise LabelError(f"{where}: there is no such file") from error
    except (pa.ArrowException, OSError) as error:
        raise LabelError(f"{where}: not a Parquet file of plain columns: {str(error).strip()}") from error


def _texts(column: Any) -> list[str | None]:
    """Return an Arrow column as text, None if a value is missing or NaN."""
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.compute as pc  # noqa: PLC0415

    texts: list[str | None] = pc.cast(column, pa.string()).to_pylist()
    return [None if text == "nan" else text for text in texts] if pa.types.is_floating(column.type) else texts
