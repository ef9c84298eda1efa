"""A plan in the making: the files of SOURCE and the rows of votes, joined by id, in no more memory for more of them.

They lie in a `spill` database; what is asked for comes out of it in order, a row at a time. Here are its tables and
what is asked of them. What it means, and what is an error, is said by `sources`, `tables` and `joining`.
"""

import pickle
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from shard_tool.images.encoding import is_fits, is_jpeg
from shard_tool.source.files import StoredFile
from shard_tool.source.order import shuffle_key
from shard_tool.source.samples import Rejected, Rejects, Sample
from shard_tool.source.scratch import open_spill, rows, to_bytes, to_text

SPLITS = ("train", "test")
LONGEST_ID_BYTES = 90
"""A name in a USTAR tar has 100 bytes, `.votes.npy` needs 10."""
IMAGE, OTHER, HIDDEN = "image", "other", "hidden"
"""What a file is by its name: an image, something else, or hidden from sight."""
JPEG, FITS, OTHER_FORMAT = "jpeg", "fits", "other"
FILE = """file (what TEXT, split INTEGER, id BLOB, turn BLOB, wrong TEXT, shown BLOB, place BLOB, format TEXT,
    num_bytes INTEGER, proof BLOB, stored BLOB)"""
"""`split` is a place in SPLITS, or NULL for an image of none; `turn` is where an id comes in the shuffle, `wrong` why
it cannot be used; `place` is the path in a catalogue; `proof` changes with the bytes of the file; `stored` is the
pickle of a `StoredFile`."""
VOTE = """vote (number INTEGER PRIMARY KEY, id BLOB, turn BLOB, wrong TEXT, votes BLOB, broken TEXT, place BLOB,
    first INTEGER, last INTEGER, line INTEGER)"""
"""`turn` and `wrong` are those of the file, in a catalogue; `votes` are float64, `broken` says why they break the tree,
`first` and `last` are the numbers of the first and the last table that have this id, the last one in `line`."""
REJECTED = "rejected (split INTEGER, id BLOB, file BLOB, reason BLOB)"
IGNORED = "ignored (rank INTEGER, what BLOB, why TEXT)"


WITH_VOTES = """file LEFT JOIN vote ON file.split = 0 AND vote.id = file.id WHERE what = 'image'"""


class FoundFile(NamedTuple):
    """A file of SOURCE: what it is, its split by its name, its path in a catalogue, and its id if not the stem."""

    file: StoredFile
    what: str = IMAGE
    split: str | None = None
    place: str | None = None
    id: str | None = None


class Row(NamedTuple):
    """A row of a table of votes; `votes` are the bytes of float64, `place` is the file in a catalogue."""

    id: str
    votes: bytes
    broken: str | None
    place: str | None
    line: int


class Planned(NamedTuple):
    """An image of the plan, and what changes with its bytes; `votes` are the bytes of float64."""

    split: str
    sample: Sample
    num_bytes: int
    proof: bytes
    votes: bytes | None


class Draft:
    """Files, votes, rejects and what is ignored, while they are sorted out."""

    def __init__(self, seed: int = 0) -> None:
        self.has_votes = False
        self._seed = seed
        self._database = open_spill(FILE, VOTE, REJECTED, IGNORED)
        for name, function in (
            ("folder", lambda shown: shown.rpartition(b"/")[0] or b"."),
            ("name", lambda shown: shown.rpartition(b"/")[2]),
        ):
            self._database.create_function(name, 1, function, deterministic=True)

    def add_files(self, files: Iterable[FoundFile]) -> None:
        """Write files down, in any order."""
        values = ", ".join("?" * 11)
        self._database.executemany(f"INSERT INTO file VALUES ({values})", map(self._file_row, files))

    def count(self, *, what: str = IMAGE, split: str | None = None) -> int:
        """How many files there are of a kind, or of a split."""
        if split is not None:
            return self._number(
                "SELECT count(*) FROM file WHERE what = ? AND split = ?", IMAGE, SPLITS.index(split)
            )
        return self._number("SELECT count(*) FROM file WHERE what = ?", what)

    def files(self, what: str) -> Iterator[StoredFile]:
        """All files of a kind, sorted by where they are."""
        found = rows(self._database, "SELECT stored FROM file WHERE what = ? ORDER BY shown", (what,))
        return (pickle.loads(stored) for (stored,) in found)

    def take_unnamed(self, split: str) -> None:
        """Make the images of no split those of a split."""
        self._change("UPDATE file SET split = ? WHERE what = ? AND split IS NULL", SPLITS.index(split), IMAGE)

    def settle_unnamed(self, *, doubles: str, others: str) -> None:
        """Make the images of no split that have a row of votes training images, and ignore the others.

        Args:
            doubles: why images are ignored whose ids are taken by training or test images by name.
            others: why images are ignored that have no row.
        """
        self._ignore_images("split IS NULL AND id IN (SELECT id FROM file WHERE split IS NOT NULL)", doubles)
        self._change("UPDATE file SET split = 0 WHERE split IS NULL AND id IN (SELECT id FROM vote)")
        self.ignore_unnamed(others)

    def ignore_unnamed(self, why: str) -> None:
        """Ignore the images of no split."""
        self._ignore_images("split IS NULL", why)

    def ignore(self, what: str, why: str) -> None:
        """Write down that something is ignored."""
        self._change("INSERT INTO ignored VALUES (1, ?, ?)", to_bytes(what), why)

    def ignore_hidden(self) -> None:
        """Write down, by folder, that hidden files are ignored."""
        self._ignore_by_folder(2, f"what = '{HIDDEN}'", "hidden files")

    def ignored(self) -> Iterator[tuple[str, str]]:
        """(what, why) of all that is ignored: images first, then other files, then hidden ones."""
        found = rows(self._database, "SELECT what, why FROM ignored ORDER BY rank, rowid")
        return ((to_text(what), why) for what, why in found)

    @property
    def num_ignored(self) -> int:
        """How many lines `ignored` has."""
        return self._number("SELECT count(*) FROM ignored")

    def add_rows(self, table: int, votes: Iterable[Row]) -> None:
        """Write rows of a table down; `repeated_row` tells whether their ids are all different."""
        self.has_votes = True
        self._database.executemany(
            "INSERT INTO vote (id, turn, wrong, votes, broken, place, first, last, line) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (self._vote_row(table, row) for row in votes),
        )

    def repeated_row(self, column: str) -> tuple[str, int, int] | None:
        """Index the rows by "id" or "place"; (value, line, line of its first row) of the first to stand twice."""
        found = self._database.execute(
            f"SELECT {column}, line, before FROM (SELECT {column}, line, "
            f"lag(line) OVER (PARTITION BY {column} ORDER BY line) AS before FROM vote) "
            "WHERE before IS NOT NULL ORDER BY line LIMIT 1"
        ).fetchone()
        if found:
            value, line, first = found
            return to_text(value), line, first
        self._change(f"CREATE UNIQUE INDEX vote_by_{column} ON vote ({column})")
        return None

    def row_of(self, sample_id: str) -> tuple[int, bytes, int, int] | None:
        """Number, votes, last table and the line there of an id's row, once the rows are indexed."""
        query = "SELECT number, votes, last, line FROM vote WHERE id = ?"
        found: tuple[int, bytes, int, int] | None = self._database.execute(
            query, (to_bytes(sample_id),)
        ).fetchone()
        return found

    def update_rows(self, table: int, updates: Iterable[tuple[int, bytes, int]]) -> None:
        """Replace the votes of rows by what they and another table say together: (number, votes, line there)."""
        self._database.executemany(
            "UPDATE vote SET votes = ?, last = ?, line = ? WHERE number = ?",
            ((votes, table, line, number) for number, votes, line in updates),
        )

    def finish_rows(self, finished: Iterable[tuple[str, bytes, str | None]]) -> None:
        """Replace votes, and say why they break the tree: (id, votes, why)."""
        self._database.executemany(
            "UPDATE vote SET votes = ?, broken = ? WHERE id = ?",
            ((votes, broken, to_bytes(sample_id)) for sample_id, votes, broken in finished),
        )

    def rows_after(self, sample_id: str, most: int) -> list[tuple[str, bytes]]:
        """Id and votes of the next rows in the order of ids, so many at most."""
        query = "SELECT id, votes FROM vote WHERE id > ? ORDER BY id LIMIT ?"
        return [(to_text(i), votes) for i, votes in self._database.execute(query, (to_bytes(sample_id), most))]

    def first_place_of_image(self) -> str | None:
        """The path of the first image, as a catalogue would name it."""
        return self._first("SELECT place FROM file WHERE what = 'image' ORDER BY shown LIMIT 1")

    def first_place_of_row(self) -> str | None:
        """The path in the first row of a catalogue."""
        return self._first("SELECT place FROM vote ORDER BY number LIMIT 1")

    def name_by_catalogue(self, unlisted: str) -> None:
        """Give the images the ids that rows have for their places; reject those without, for the reason given."""
        self._change("UPDATE file SET split = 0 WHERE what = 'image'")
        self._reject("split = 0 AND place NOT IN (SELECT place FROM vote)", "?", to_bytes(unlisted))
        named = "(SELECT id, turn, wrong FROM vote WHERE vote.place = file.place)"
        self._change(f"UPDATE file SET (id, turn, wrong) = {named} WHERE split = 0")

    def repeated_image(self, split: str) -> tuple[str, str, str] | None:
        """An id that two images of a split have, and where these are."""
        self._change("CREATE INDEX IF NOT EXISTS file_by_id ON file (split, id)")
        number = SPLITS.index(split)
        query = "SELECT id FROM file WHERE split = ? GROUP BY id HAVING count(*) > 1 LIMIT 1"
        if not (found := self._database.execute(query, (number,)).fetchone()):
            return None
        query = "SELECT shown FROM file WHERE split = ? AND id = ? ORDER BY shown LIMIT 2"
        (one,), (other,) = self._database.execute(query, (number, *found))
        return to_text(found[0]), to_text(one), to_text(other)

    def reject_rows(self, tables: Sequence[str], reason: str) -> None:
        """Reject the rows of votes without a training image; `tables` are the names of the tables by number."""
        for number, name in enumerate(tables):
            self._change(
                "INSERT INTO rejected SELECT 0, id, ?, ? FROM vote "
                "WHERE first = ? AND id NOT IN (SELECT id FROM file WHERE split = 0)",
                to_bytes(name),
                to_bytes(reason),
                number,
            )

    def reject_ids(self) -> None:
        """Reject the images whose ids are not what they should be."""
        self._reject("split IS NOT NULL AND wrong IS NOT NULL", "wrong")

    def reject_by_votes(self, *, absent: str, broken: str) -> None:
        """Reject the training images without a row of votes, and those whose votes break the tree.

        Args:
            broken: what comes before the reason of each.
        """
        self._reject("split = 0 AND id NOT IN (SELECT id FROM vote)", "?", to_bytes(absent))
        self._reject(
            "split = 0 AND id IN (SELECT id FROM vote WHERE broken IS NOT NULL)",
            "? || (SELECT broken FROM vote WHERE vote.id = file.id)",
            broken,
        )

    def reject(self, rejected: Iterable[Rejected]) -> None:
        """Write down what was rejected while packing."""
        self._database.executemany(
            "INSERT INTO rejected VALUES (?, ?, ?, ?)",
            ((SPLITS.index(r.split), to_bytes(r.id), to_bytes(r.file), to_bytes(r.reason)) for r in rejected),
        )

    def first_of(self, format_: str) -> str | None:
        """Where the first image of a format is."""
        query = "SELECT shown FROM file WHERE what = 'image' AND format = ? ORDER BY split, id LIMIT 1"
        return self._first(query, format_)

    def formats(self, split: str) -> dict[str, tuple[int, int]]:
        """The images of a split by format: how many, and their bytes."""
        query = "SELECT format, count(*), sum(num_bytes) FROM file WHERE split = ? GROUP BY format"
        found = self._database.execute(query, (SPLITS.index(split),))
        return {format_: (count, num_bytes) for format_, count, num_bytes in found}

    def by_id(self) -> Iterator[Planned]:
        """All images, test images first, in the order of their ids."""
        found = rows(
            self._database,
            f"SELECT split, file.id, stored, num_bytes, proof, votes FROM {WITH_VOTES} ORDER BY split DESC, file.id",
        )
        for split, sample_id, stored, num_bytes, proof, votes in found:
            yield Planned(SPLITS[split], Sample(to_text(sample_id), stored), num_bytes, proof, votes)

    def shuffled(self, split: str) -> Iterator[tuple[Sample, bytes | None]]:
        """The samples of a split and the bytes of their votes (float64), in the order of the shards."""
        found = rows(
            self._database,
            f"SELECT file.id, stored, votes FROM {WITH_VOTES} AND split = ? ORDER BY file.turn",
            (SPLITS.index(split),),
        )
        return ((Sample(to_text(sample_id), stored), votes) for sample_id, stored, votes in found)

    def known(self, ids: Iterable[str]) -> list[tuple[str, str]]:
        """Those of some ids that images have, and where these are, in their order."""
        self._change("CREATE INDEX IF NOT EXISTS file_by_id ON file (split, id)")
        query = "SELECT shown FROM file WHERE split IN (0, 1) AND id = ? ORDER BY split LIMIT 1"
        found = ((each, self._database.execute(query, (to_bytes(each),)).fetchone()) for each in ids)
        return [(each, to_text(row[0])) for each, row in found if row]

    @property
    def rejects(self) -> Rejects:
        """All rejects so far."""
        return Rejects(self._number("SELECT count(*) FROM rejected"), self._rejected)

    def _rejected(self) -> Iterator[Rejected]:
        # "test" before "train", as text is sorted
        found = rows(self._database, "SELECT * FROM rejected ORDER BY split DESC, id, file, reason")
        for split, *texts in found:
            yield Rejected(SPLITS[split], *map(to_text, texts))

    def _reject(self, condition: str, reason: str, *values: Any) -> None:
        """Move images from the files to the rejects; `values` are those of the reason, an SQL expression."""
        self._change(
            f"CREATE TEMP TABLE out AS SELECT rowid AS number, {reason} AS why FROM file WHERE {condition}",
            *values,
        )
        self._change(
            "INSERT INTO rejected SELECT split, id, name(shown), CAST(why AS BLOB) FROM out "
            "JOIN file ON file.rowid = out.number"
        )
        self._change("DELETE FROM file WHERE rowid IN (SELECT number FROM out)")
        self._change("DROP TABLE out")

    def _ignore_images(self, condition: str, why: str) -> None:
        self._ignore_by_folder(0, f"what = 'image' AND {condition}", why)
        self._change(f"DELETE FROM file WHERE what = 'image' AND {condition}")

    def _ignore_by_folder(self, rank: int, condition: str, why: str) -> None:
        found = rows(
            self._database,
            f"SELECT folder(shown) AS below, count(*) FROM file WHERE {condition} GROUP BY below ORDER BY below",
        )
        lines = [(rank, below, f"{count:,} {why}") for below, count in found]
        self._database.executemany("INSERT INTO ignored VALUES (?, ?, ?)", lines)

    def _first(self, query: str, *values: Any) -> str | None:
        found = self._database.execute(query, values).fetchone()
        return to_text(found[0]) if found else None

    def _change(self, statement: str, *values: Any) -> None:
        self._database.execute(statement, values)

    def _number(self, query: str, *values: Any) -> int:
        return int(self._database.execute(query, values).fetchone()[0])

    def _file_row(self, found: FoundFile) -> tuple[Any, ...]:
        file, what, split, place, sample_id = found
        name = file.name
        sample_id = name.rpartition(".")[0] if sample_id is None else sample_id
        checksum = file.member.crc if file.member else None
        return (
            what,
            None if split is None else SPLITS.index(split),
            *self._identify(sample_id),
            to_bytes(file.shown),
            None if place is None else to_bytes(place),
            JPEG if is_jpeg(name) else FITS if is_fits(name) else OTHER_FORMAT,
            file.num_bytes,
            to_bytes(f"{file.changed_ns} {file.shown}" if checksum is None else str(checksum)),
            pickle.dumps(file, pickle.HIGHEST_PROTOCOL),
        )

    def _vote_row(self, table: int, row: Row) -> tuple[Any, ...]:
        if row.place is None:
            return to_bytes(row.id), None, None, row.votes, row.broken, None, table, table, row.line
        identified = self._identify(row.id)
        return *identified, row.votes, row.broken, to_bytes(row.place), table, table, row.line

    def _identify(self, sample_id: str) -> tuple[bytes, bytes | None, str | None]:
        """An id, its turn in the shuffle, and what is wrong with it."""
        wrong = what_is_wrong(sample_id)
        return to_bytes(sample_id), None if wrong else shuffle_key(sample_id, self._seed), wrong


def what_is_wrong(sample_id: str) -> str | None:
    """Why an id cannot be used, None where it can."""
    if not sample_id or "." in sample_id or not sample_id.isprintable() or sample_id.split() != [sample_id]:
        return "an id may not be empty or have dots, spaces or control characters; rename it"
    if len(sample_id.encode(errors="replace")) > LONGEST_ID_BYTES:
        return f"an id may have {LONGEST_ID_BYTES} bytes at most; rename it"
    return None
