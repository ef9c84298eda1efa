"""The draft of a plan: the files of SOURCE and the rows of votes, in a scratch database.

Memory does not grow with the number of either. `contents`, `tables` and `catalogue` fill the two tables, `joining`
marks the rejects, `plan` reads the samples.
"""

import pickle
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

from shard_tool.images.encoding import is_fits, is_jpeg
from shard_tool.source.files import StoredFile
from shard_tool.source.ids import what_is_wrong
from shard_tool.source.order import shuffle_key
from shard_tool.source.scratch import open_scratch, rows, to_bytes, to_text

IMAGE, OTHER, HIDDEN = range(3)
"""Kind of a file by its name."""
JPEG, FITS, OTHER_FORMAT = "jpeg", "fits", "other"
FILE = """file (kind INTEGER, split TEXT, id BLOB, rejected TEXT, ignored TEXT, shown BLOB, listed BLOB, format TEXT,
    num_bytes INTEGER, fingerprint BLOB, stored BLOB)"""
"""`split` is NULL for files in no split; `rejected` and `ignored` are reasons or NULL; `listed` is the name of the file
in a catalogue; `fingerprint` changes with the bytes of the file; `stored` is a pickled `StoredFile`, which only a
worker unpickles."""
VOTE = """vote (number INTEGER PRIMARY KEY, source INTEGER, id BLOB, votes BLOB, broken TEXT, listed BLOB,
    line INTEGER)"""
"""`source` is the number of the table of votes, `line` the line in it; `votes` are float64; `broken` says how they
break the tree."""
IGNORED = f"""SELECT CASE kind WHEN {OTHER} THEN shown ELSE folder(shown) END AS what, count(*), ignored, kind FROM file
    WHERE ignored IS NOT NULL GROUP BY kind, what, ignored ORDER BY kind, what"""


class FoundFile(NamedTuple):
    """A file of SOURCE, as a row of the table of files; `id` is the stem unless given."""

    file: StoredFile
    kind: int = IMAGE
    split: str | None = None
    ignored: str | None = None
    listed: str | None = None
    id: str | None = None


class Row(NamedTuple):
    """A row of a table of votes; `votes` are the bytes of float64 values, `listed` is the file in a catalogue."""

    id: str
    votes: bytes
    broken: str | None
    line: int
    listed: str | None = None


class Draft:
    """The tables of files and of votes. Text is stored as bytes, see `scratch.to_bytes`."""

    def __init__(self, seed: int = 0) -> None:
        self._database = open_scratch(FILE, VOTE)
        for name, function in (
            ("folder", lambda shown: shown.rpartition(b"/")[0] or b"."),
            ("shuffle_key", lambda sample_id: shuffle_key(to_text(sample_id), seed)),
            ("what_is_wrong", lambda sample_id: what_is_wrong(to_text(sample_id))),
        ):
            self._database.create_function(name, 1, function, deterministic=True)

    def add_files(self, files: Iterable[FoundFile]) -> None:
        """Add files, in any order."""
        values = ", ".join("?" * 11)
        self._database.executemany(f"INSERT INTO file VALUES ({values})", map(_file_row, files))

    def add_votes(self, source: int, votes: Iterable[Row]) -> None:
        """Add rows of the table of votes with that number."""
        self._database.executemany(
            "INSERT INTO vote (source, id, votes, broken, listed, line) VALUES (?, ?, ?, ?, ?, ?)",
            (
                (source, to_bytes(i), votes, broken, None if listed is None else to_bytes(listed), line)
                for i, votes, broken, line, listed in votes
            ),
        )

    def change(self, statement: str, *values: Any) -> int:
        """Run an SQL statement that returns no rows; return the number of rows it changed."""
        return self._database.execute(statement, values).rowcount

    def first(self, query: str, *values: Any) -> Any:
        """Return the first row of a query, None if there is none."""
        return self._database.execute(query, values).fetchone()

    def rows(self, query: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        """Return the rows of a query."""
        return rows(self._database, query, values)

    def ids(self, query: str, *values: Any, most: int) -> list[str]:
        """Return the ids that a query finds, at most `most`."""
        return [to_text(sample_id) for (sample_id,) in islice(self.rows(query, *values), most)]

    def define(self, name: str, rule: Callable[[str], str]) -> None:
        """Define a function from ids to ids for SQL."""
        self._database.create_function(name, 1, lambda data: to_bytes(rule(to_text(data))), deterministic=True)

    def count(self, split: str) -> int:
        """Return the number of images in a split, rejected ones included."""
        return int(self.first("SELECT count(*) FROM file WHERE split = ?", split)[0])

    def ignored(self) -> Iterator[tuple[str, str]]:
        """Yield (what, why) for everything ignored: images and hidden files by folder, others one by one."""
        for what, count, why, kind in self.rows(IGNORED):
            yield to_text(what), why if kind == OTHER else f"{count:,} {why}"

    @property
    def num_ignored(self) -> int:
        """Number of lines of `ignored`."""
        return int(self.first(f"SELECT count(*) FROM ({IGNORED})")[0])


def _file_row(found: FoundFile) -> tuple[Any, ...]:
    file, kind, split, ignored, listed, sample_id = found
    checksum = file.member.crc if file.member else None
    return (
        kind,
        split,
        to_bytes(file.stem if sample_id is None else sample_id),
        None,
        ignored,
        to_bytes(file.shown),
        None if listed is None else to_bytes(listed),
        JPEG if is_jpeg(file.name) else FITS if is_fits(file.name) else OTHER_FORMAT,
        file.num_bytes,
        to_bytes(f"{file.changed_ns} {file.shown}" if checksum is None else str(checksum)),
        pickle.dumps(file, pickle.HIGHEST_PROTOCOL) if kind == IMAGE else None,
    )
