"""Keep rows that may not fit into memory in a private SQLite database on the disk, which ends with its connection.

SQLite creates it in $SQLITE_TMPDIR, $TMPDIR or /var/tmp, writes only what its cache cannot hold, and unlinks it as soon
as it is open: however the process ends, no file is left. Large sorts use the disk there too.
"""

import sqlite3
from collections.abc import Iterator
from typing import Any

CACHE_KIB = 16_384
ROWS_AT_ONCE = 4_096


def open_scratch(*tables: str) -> sqlite3.Connection:
    """Return an empty database with some tables, given as SQL after `CREATE TABLE`."""
    # another thread may read the tasks of a run, but never two at once
    database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    database.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    database.execute("PRAGMA journal_mode = OFF")  # no rollback is needed: on an error all of it is discarded
    database.execute("BEGIN")
    for table in tables:
        database.execute(f"CREATE TABLE {table}")
    return database


def rows(database: sqlite3.Connection, query: str, values: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a query; several queries may be open at once."""
    cursor = database.execute(query, values)
    cursor.arraysize = ROWS_AT_ONCE
    while some := cursor.fetchmany():
        yield from some


def to_bytes(text: str) -> bytes:
    """Return text as bytes for the database, which sort as in Python, even for file names that are not UTF-8."""
    return text.encode(errors="surrogatepass")


def to_text(data: bytes) -> str:
    """Return the text that `to_bytes` was given."""
    return data.decode(errors="surrogatepass")
