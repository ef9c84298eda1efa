"""Read tables of text cells as spreadsheets, archives and other programs write them.

Commas, semicolons or tabs (both also with decimal commas) separate the cells; `sep=`, blank lines or lines of `#` may
come before the header; gzip, bzip2 or xz may compress it all, or it is the one CSV of a zip, as Kaggle gives them.
"""

import bz2
import gzip
import lzma
import re
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd

from galaxy_zoo.errors import LabelError
from galaxy_zoo.files import is_special

HEAD_BYTES = 2**16
LONGEST_LINE_BYTES = 2**20
CHARACTERS_SHOWN = 80
SEPARATORS = ",;\t"
DECIMAL_COMMA = re.compile(r"^\s*([+-]?\d*),(\d+(?:[eE][+-]?\d+)?)\s*$")
OPENERS: Mapping[bytes, Callable[[IO[bytes]], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}
"""First bytes of a compressed file -> function that opens it."""
ZIP = b"PK\x03\x04"
UNREAD = {b"\x28\xb5\x2f\xfd": "unzstd"}
"""First bytes of a compressed file that is not opened here -> program that decompresses it."""


@dataclass(frozen=True)
class _Dialect:
    """Separator of the cells, and number of lines before the header."""

    separator: str
    num_skipped: int


def read_cells(
    file: Path | IO[bytes], where: str, *, lines_at_once: int | None = None
) -> Iterator[tuple[int, pd.DataFrame]]:
    """Yield the cells of a table as text, some lines at a time, each part with the number of its first line.

    Blank lines are kept, except at the end. A table without lines yields one empty part. Only an empty cell is NaN: NA
    and null are text, since they may be ids.

    Args:
        lines_at_once: lines of a part; default: all.

    Raises:
        LabelError: the file is not a table, or it names a column twice.
    """
    with _opened(file, where) as stream:
        dialect = _dialect(stream, where)
        first = line = 2 + dialect.num_skipped
        header: list[str] | None = None
        waiting = None
        for cells in _parts(stream, where, dialect, lines_at_once):
            rows = cells
            if header is None:
                header, rows = _header(cells.iloc[0].fillna(""), where), cells.iloc[1:]
            if dialect.separator != ",":
                rows = rows.replace(DECIMAL_COMMA, r"\1.\2", regex=True)
            if waiting is not None:
                rows = pd.concat([waiting, rows])
            filled = np.flatnonzero(rows.notna().any(axis=1))
            end = filled[-1] + 1 if len(filled) else 0
            waiting = rows.iloc[end:]  # blank lines; they may be at the end
            if end:
                yield line, rows.iloc[:end].set_axis(header, axis="columns")
                line += int(end)
        if line == first and waiting is not None and header is not None:
            if not any(header):
                raise LabelError(f"{where}: not a CSV file: every cell is empty")
            yield line, waiting.iloc[:0].set_axis(header, axis="columns")


@contextmanager
def _opened(file: Path | IO[bytes], where: str) -> Iterator[IO[bytes]]:
    """Open a table, decompressed if need be.

    Raises:
        LabelError: the file is missing, damaged, a pipe, or compressed in another way.
    """
    if isinstance(file, Path) and is_special(file):  # the first bytes are read twice, so no pipe will do
        raise LabelError(f"{where}: a pipe or a device, not a file; write the table to a file first")
    try:
        with file.open("rb") if isinstance(file, Path) else nullcontext(file) as stored:
            magic = stored.read(6)
            stored.seek(0)
            if program := next((UNREAD[each] for each in UNREAD if magic.startswith(each)), None):
                raise LabelError(f"{where}: compressed in a way that is not read here; {program} it first")
            opener = next((OPENERS[each] for each in OPENERS if magic.startswith(each)), None)
            if magic.startswith(ZIP):
                yield _only_csv(stored, where)
            else:
                yield opener(stored) if opener else stored
    except (FileNotFoundError, IsADirectoryError) as error:
        raise LabelError(f"{where}: there is no such file") from error
    except (OSError, zlib.error, lzma.LZMAError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, OSError) and error.errno is not None:  # not of what decompresses
            raise
        raise LabelError(f"{where}: its compressed data is damaged ({error}); download it again") from error


def _only_csv(stored: IO[bytes], where: str) -> IO[bytes]:
    """Open the CSV of a zip.

    Raises:
        LabelError: the zip holds none, or several.
    """
    archive = zipfile.ZipFile(stored)
    names = [n for n in archive.namelist() if n.lower().endswith(".csv") and not n.startswith("__MACOSX/")]
    if len(names) != 1:
        raise LabelError(f"{where}: a zip with {len(names)} CSV files; unzip it and name the table")
    return archive.open(names[0])


def _dialect(stream: IO[bytes], where: str) -> _Dialect:
    lines = stream.read(HEAD_BYTES).decode("utf-8-sig", "replace").splitlines()
    stream.seek(0)
    separator, num_skipped = "", 0
    for line in lines:
        if line.startswith("#") or not line.strip():
            num_skipped += 1
        elif match := re.fullmatch(r'(?i)"?sep=([,;\t])"?', line):
            separator, num_skipped = match[1], num_skipped + 1
        else:
            return _Dialect(separator or max(SEPARATORS, key=line.count), num_skipped)
    if lines:
        raise LabelError(f"{where}: not a CSV file: no header follows the comments in its first lines")
    return _Dialect(",", 0)


def _parts(stream: IO[bytes], where: str, dialect: _Dialect, lines_at_once: int | None) -> Iterator[pd.DataFrame]:
    """Yield the lines of a table with its header as the first row."""
    try:
        with pd.read_csv(
            stream,
            sep=dialect.separator,
            skiprows=dialect.num_skipped,
            header=None,
            dtype=str,
            keep_default_na=False,  # NA, null and nan may be ids
            na_values=[""],
            skip_blank_lines=False,
            low_memory=False,
            chunksize=lines_at_once or sys.maxsize,
        ) as parts:
            yield from parts
    except UnicodeDecodeError as error:
        raise LabelError(f"{where}: not a CSV file in UTF-8 ({error}); save it as CSV in UTF-8") from error
    except ValueError as error:  # pandas' parser errors are ValueErrors
        raise LabelError(_about(str(error), stream, where)) from error


def _about(error: str, stream: IO[bytes], where: str) -> str:
    """Return the message for an error of pandas' parser, with the line in question."""
    if match := re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", error):
        expected, line, found = match.groups()
        what = f"{found} cells, but the lines before it have {expected}; put a cell that holds a comma in quotes"
    elif match := re.search(r"EOF inside string starting at row (\d+)", error):
        line, what = str(int(match[1]) + 1), "a quote begins that never ends"
    else:
        line, what = "1", "not a line of a CSV file"
    shown = _line(stream, int(line))
    return f"{where}, line {line}: {what}: {shown!r}" if shown else f"{where}: not a CSV file: it is empty"


def _line(stream: IO[bytes], number: int) -> str:
    """Return the beginning of a line of a table."""
    stream.seek(0)
    lines = iter(lambda: stream.readline(LONGEST_LINE_BYTES), b"")
    line = next(islice(lines, number - 1, None), b"").decode(errors="replace").rstrip("\r\n")
    return line if len(line) <= CHARACTERS_SHOWN else f"{line[:CHARACTERS_SHOWN]}..."


def _header(names: pd.Series, where: str) -> list[str]:
    names = names.str.strip()
    if names.duplicated().any():
        raise LabelError(
            f"{where}: column {names[names.duplicated()].iloc[0]!r} appears twice in the header, the first line; "
            "keep one of them, or write the header"
        )
    return [str(name) for name in names]
