"""Find ids that occur more than once in a folder of shards, with a database on the disk instead of memory."""

from collections.abc import Iterator, Sequence

from shard_tool.source.scratch import open_scratch, rows, to_bytes, to_text


class SeenIds:
    """Ids of the samples seen so far, by split and shard."""

    def __init__(self) -> None:
        self._database = open_scratch("seen (split TEXT, id BLOB, shard TEXT, place INTEGER)")

    def add(self, split: str, shard: str, ids: Sequence[str]) -> None:
        """Add the ids of a shard, in order."""
        self._database.executemany(
            "INSERT INTO seen VALUES (?, ?, ?, ?)",
            ((split, to_bytes(each), shard, place) for place, each in enumerate(ids)),
        )

    def again(self, split: str) -> Iterator[tuple[str, str, str]]:
        """Yield (shard, id, first shard with that id) of each sample whose id occurs earlier in its split."""
        found = rows(
            self._database,
            "SELECT shard, id, first FROM (SELECT shard, id, place, first_value(shard) OVER same AS first, "
            "row_number() OVER same AS number FROM seen WHERE split = ? "
            "WINDOW same AS (PARTITION BY id ORDER BY shard, place)) WHERE number > 1 ORDER BY shard, place",
            (split,),
        )
        return ((shard, to_text(sample_id), first) for shard, sample_id, first in found)

    def in_several_splits(self) -> tuple[int, str]:
        """Return the number of ids that are in several splits, and the first of them; (0, "") if there are none."""
        ids = "SELECT id FROM seen GROUP BY id HAVING count(DISTINCT split) > 1"
        [(count, first)] = rows(self._database, f"SELECT count(*), min(id) FROM ({ids})")
        return count, to_text(first or b"")
