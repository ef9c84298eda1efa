"""`SeekableDeflate` gives the same bytes as inflating all of it, wherever one reads."""

import random
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galaxy_zoo.errors import SourceError
from shard_tool.source.seekable_deflate import SMALLEST_SPACING_BYTES, SeekableDeflate

SIZE = 6 * SMALLEST_SPACING_BYTES
WHOLE = random.Random(0).randbytes(SIZE // 2) + bytes(SIZE // 4) + random.Random(1).randbytes(SIZE // 4)


def deflate(data: bytes) -> bytes:
    deflater = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    return deflater.compress(data) + deflater.flush()


STORED = deflate(WHOLE)


def reader(stored: bytes) -> SeekableDeflate:
    return SeekableDeflate(lambda offset, size: stored[offset : offset + size], SIZE, name="inner.zip")


@given(st.lists(st.tuples(st.integers(0, SIZE + 10), st.integers(0, 300_000)), max_size=6))
def test_slices_read_in_any_order_are_the_slices_of_the_whole(slices: list[tuple[int, int]]) -> None:
    stream = reader(STORED)
    for offset, size in slices:
        assert stream.read_at(offset, size) == WHOLE[offset : offset + size]


def test_threads_that_read_at_once_get_the_slices_of_the_whole() -> None:
    def read_stored(offset: int, size: int) -> bytes:
        time.sleep(0)  # another thread may go on here
        return STORED[offset : offset + size]

    stream = SeekableDeflate(read_stored, SIZE, name="inner.zip")
    slices = [(random.Random(i).randrange(SIZE), 20_000) for i in range(100)]
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda each: stream.read_at(*each), slices)
    assert list(found) == [WHOLE[offset : offset + size] for offset, size in slices]


def test_a_read_far_back_inflates_only_from_the_snapshot_before_it() -> None:
    reads: list[int] = []

    def read_stored(offset: int, size: int) -> bytes:
        reads.append(offset)
        return STORED[offset : offset + size]

    stream = SeekableDeflate(read_stored, SIZE, name="inner.zip")
    stream.read_at(SIZE - 1, 1)
    reads.clear()
    stream.read_at(SIZE // 2 - 10, 5)
    assert len(reads) * 16 * 1024 <= 1.5 * SMALLEST_SPACING_BYTES


def test_a_damaged_stream_is_named() -> None:
    with pytest.raises(SourceError, match="ends too early"):
        reader(STORED[:-1000]).read_at(SIZE - 1, 1)
    with pytest.raises(SourceError, match=r"inner\.zip: damaged at byte 0"):
        reader(b"\xff" * 9 + STORED[9:]).read_at(SIZE - 1, 1)
