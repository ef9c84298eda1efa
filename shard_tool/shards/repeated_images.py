"""Find test images that are training images too, by size and CRC-32, with a database on the disk instead of memory."""

import zlib
from collections.abc import Mapping
from typing import NamedTuple

from shard_tool.source.scratch import open_scratch, rows, to_bytes, to_text


class Leak(NamedTuple):
    """Number of test images that have the bytes of a training image, and the ids of one such pair."""

    num_images: int
    test_id: str
    train_id: str


class PackedImages:
    """Ids and fingerprints of the images packed so far."""

    def __init__(self) -> None:
        self._database = open_scratch("image (split TEXT, fingerprint INTEGER, id BLOB)")

    def add(self, split: str, fingerprints: Mapping[str, int]) -> None:
        """Add the images of a shard, given as id -> fingerprint."""
        self._database.executemany(
            "INSERT INTO image VALUES (?, ?, ?)",
            ((split, number, to_bytes(sample_id)) for sample_id, number in fingerprints.items()),
        )

    def leak(self) -> Leak | None:
        """Return what is known of test images that have the bytes of training images, None if there are none."""
        self._database.execute("CREATE INDEX IF NOT EXISTS by_fingerprint ON image (split, fingerprint, id)")
        same = "SELECT min(id) FROM image WHERE split = 'train' AND fingerprint = tested.fingerprint"
        pairs = f"SELECT id AS test_id, ({same}) AS train_id FROM image AS tested WHERE split = 'test'"
        [(count, test_id, train_id)] = rows(
            self._database,  # SQLite takes train_id from the row of the least test_id
            f"SELECT count(*), min(test_id), train_id FROM ({pairs}) WHERE train_id IS NOT NULL",
        )
        return Leak(count, to_text(test_id), to_text(train_id)) if count else None


def fingerprint(jpeg: bytes) -> int:
    """Return the size and the CRC-32 of a JPEG as one number: equal for equal bytes, rarely for others."""
    return len(jpeg) << 32 | zlib.crc32(jpeg)
