"""Rows that may be too many for memory: in a private SQLite database on the disk that is gone with its connection.

SQLite makes it in $SQLITE_TMPDIR, $TMPDIR or /var/tmp, writes to it only what its cache does not hold, and unlinks it
as soon as it is open: however the process ends, no file is left. What it sorts beyond its cache goes there too.
"""

import sqlite3
from collections.abc import Iterator
from typing import Any

CACHE_KIB = 16_384
ROWS_AT_ONCE = 4_096


def open_scratch(*tables: str) -> sqlite3.Connection:
    """Return an empty database with some tables, given as SQL after `CREATE TABLE`."""
    # the tasks of a run may be drawn from it by another thread, but never by two at once
    database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    database.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    database.execute("PRAGMA journal_mode = OFF")  # nobody rolls back: on an error all of it is thrown away
    database.execute("BEGIN")
    for table in tables:
        database.execute(f"CREATE TABLE {table}")
    return database


def rows(database: sqlite3.Connection, query: str, values: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a query; several queries may be read at once."""
    cursor = database.execute(query, values)
    cursor.arraysize = ROWS_AT_ONCE
    while some := cursor.fetchmany():
        yield from some


def to_bytes(text: str) -> bytes:
    """Return text as the database holds it: sorted as in Python, even a file name that is no UTF-8."""
    return text.encode(errors="surrogatepass")


def to_text(data: bytes) -> str:
    """Return what `to_bytes` was given."""
    return data.decode(errors="surrogatepass")
