"""A catalogue: one table, CSV or Parquet, with an id, the file of the image and the votes of each galaxy."""

import io
import posixpath
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from galaxy_zoo.errors import InputError, LabelError
from galaxy_zoo.labels import read_cells, votes_of_table
from galaxy_zoo.remote import RemotePath
from galaxy_zoo.tree import DecisionTree
from shard_tool.options import CatalogueOptions
from shard_tool.tables import Tables, complete


@dataclass(frozen=True)
class Catalogue:
    """The votes of a catalogue, and for each id its file, relative to SOURCE, with "/"."""

    tables: Tables
    files: dict[str, str]


def read_catalogue(
    options: CatalogueOptions, tree: DecisionTree, *, allow_missing: bool, are_counts: bool
) -> Catalogue:
    """Read a catalogue.

    Raises:
        LabelError: it is no table, lacks a column, names a file twice, or its votes are not what the tree needs.
        InputError: it is Parquet and pyarrow is not installed.
    """
    where = str(options.path)
    id_column = options.id_column or tree.id_column
    is_parquet = options.path.suffix.lower() in {".parquet", ".pq"}
    wanted = [id_column, options.file_column, *tree.columns]
    try:
        file = io.BytesIO(options.path.read_bytes()) if isinstance(options.path, RemotePath) else options.path
    except OSError as error:
        raise LabelError(f"{where}: cannot be read ({error.strerror})") from error
    table = _read_parquet(file, where, wanted) if is_parquet else read_cells(file, where)
    for option, column in (("--id-column", id_column), ("--file-column", options.file_column)):
        if column not in table:
            header = ", ".join(map(str, table.columns[:6]))
            raise LabelError(
                f"{where}: no column {column!r}; name the right one with {option} (found: {header}, ...)"
            )
    if is_parquet:
        where += " (its first row taken as line 2)"
    files = _files(table[options.file_column], where)
    if id_column != tree.id_column:
        table = table.drop(columns=tree.id_column, errors="ignore").rename(columns={id_column: tree.id_column})
    votes = votes_of_table(table, tree, where, allow_missing=allow_missing, are_counts=are_counts)
    votes = complete(votes, tree, where, allow_missing=allow_missing, are_counts=are_counts)
    return Catalogue(Tables(votes, {options.path.name: votes.index}), dict(zip(votes.index, files, strict=True)))


def _files(column: pd.Series, where: str) -> list[str]:
    """The paths in their simplest form."""
    lines: dict[str, int] = {}
    for line, cell in enumerate(column.tolist(), 2):
        if not isinstance(cell, str) or not cell.strip():
            raise LabelError(
                f"{where}, line {line}, column {column.name}: the file is empty; give it or remove the line"
            )
        file = posixpath.normpath(cell.strip())
        if file in lines:
            raise LabelError(
                f"{where}, line {line}: file {file} stands twice (first in line {lines[file]}); "
                "keep one row a file"
            )
        lines[file] = line
    return list(lines)


def _read_parquet(file: Path | io.BytesIO, where: str, wanted: list[str]) -> pd.DataFrame:
    """The wanted columns as texts, as `read_cells` gives them; those that are absent are left out."""
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra, which most packs do without
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
                raise LabelError(f"{where}: column {twice[0]!r} stands twice; keep one of them")
            table = parquet.read(columns=[name for name in dict.fromkeys(wanted) if name in names])
        return pd.DataFrame({name: _texts(table[name]) for name in table.column_names}, dtype=object)
    except FileNotFoundError as error:
        raise LabelError(f"{where}: there is no such file") from error
    except (pa.ArrowException, OSError) as error:
        raise LabelError(f"{where}: not a Parquet file of plain columns: {str(error).strip()}") from error


def _texts(column: Any) -> list[str | None]:
    """An Arrow column as texts, None where a value is missing or NaN."""
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.compute as pc  # noqa: PLC0415

    texts: list[str | None] = pc.cast(column, pa.string()).to_pylist()
    return [None if text == "nan" else text for text in texts] if pa.types.is_floating(column.type) else texts
