"""The parts of a plan: samples, shards and rejects."""

import pickle
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shard_tool.source.files import StoredFile
from shard_tool.source.scratch import open_scratch, rows, to_bytes, to_text

SPLITS = ("train", "test")
REASONS_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """An image or a row of votes that did not become a sample; `file` is the name without folder or archive."""

    split: str
    id: str
    file: str
    reason: str


class Rejects:
    """Rejected images and rows, sorted, in a scratch database."""

    def __init__(self, rejected: Iterable[Rejected] = ()) -> None:
        self._database = open_scratch("rejected (split TEXT, id BLOB, file BLOB, reason BLOB)")
        self.add(rejected)

    def add(self, rejected: Iterable[Rejected]) -> None:
        """Add rejects, in any order."""
        self._database.executemany(
            "INSERT INTO rejected VALUES (?, ?, ?, ?)",
            ((each.split, *map(to_bytes, (each.id, each.file, each.reason))) for each in rejected),
        )

    def __len__(self) -> int:
        return int(self._database.execute("SELECT count(*) FROM rejected").fetchone()[0])

    def __iter__(self) -> Iterator[Rejected]:
        for split, *texts in rows(self._database, "SELECT * FROM rejected ORDER BY split, id, file, reason"):
            sample_id, file, reason = map(to_text, texts)
            yield Rejected(split=split, id=sample_id, file=file, reason=reason)

    def summary(self) -> str:
        """Return the most frequent reasons with the number of rejects of each."""
        query = (
            "SELECT reason, count(*) AS number FROM rejected GROUP BY reason ORDER BY number DESC, reason LIMIT 4"
        )
        found = [f"{count:,} x {to_text(reason)}" for reason, count in rows(self._database, query)]
        return "; ".join(found[:REASONS_SHOWN]) + ("; ..." if len(found) > REASONS_SHOWN else "")

    def first(self, most: int) -> list[Rejected]:
        """Return the first rejects, at most `most`."""
        return list(islice(self, most))


class PlannedSample(NamedTuple):
    """An image and its id; `stored` is its pickled `StoredFile`, unpickled where the image is read."""

    id: str
    stored: bytes

    @property
    def file(self) -> StoredFile:
        """File of the image."""
        file: StoredFile = pickle.loads(self.stored)
        return file


@dataclass(frozen=True, kw_only=True)
class ShardPlan:
    """Samples of a shard, in order; votes: float32, shape (samples, answers), None without labels."""

    split: str
    name: str
    samples: tuple[PlannedSample, ...]
    votes: NDArray[np.float32] | None
