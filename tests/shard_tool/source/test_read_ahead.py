"""Reading archives in a store: the right bytes, with few requests."""

import random
from collections.abc import Iterator

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kaggle_download import Download, zip_of

from galaxy_zoo.errors import ImageError
from galaxy_zoo.remote import RemotePath
from shard_tool.source.archives import LARGEST_BLOCK_BYTES, Blocks
from shard_tool.source.files import walk
from shard_tool.source.read_ahead import reading

DATA = random.Random(0).randbytes(300_000)


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, int]]]:
    """The slices that are asked of stores while a test runs."""
    asked: list[tuple[int, int]] = []
    read_at = RemotePath.read_at

    def count(self: RemotePath, offset: int, size: int) -> bytes:
        asked.append((offset, size))
        return read_at(self, offset, size)

    monkeypatch.setattr(RemotePath, "read_at", count)
    yield asked
    fsspec.filesystem("memory").store.clear()


def store_zip(files: dict[str, bytes]) -> RemotePath:
    path = RemotePath("memory://bucket/source.zip")
    with path.atomic_write() as file:
        file.write(zip_of(files))
    return path


@given(st.lists(st.tuples(st.integers(0, len(DATA) + 10), st.integers(0, 100_000)), max_size=30))
def test_blocks_give_the_bytes_of_every_slice(slices: list[tuple[int, int]]) -> None:
    blocks = Blocks(lambda offset, size: DATA[offset : offset + size], len(DATA))
    for offset, size in slices:
        assert blocks.read_at(offset, size) == DATA[offset : offset + size]


def test_blocks_grow_while_reads_follow_each_other_and_are_small_after_a_jump() -> None:
    size, asked = 2**26, []

    def read_at(offset: int, size: int) -> bytes:
        asked.append(size)
        return bytes(size)

    blocks = Blocks(read_at, size)
    for offset in range(0, size, 2**14):
        blocks.read_at(offset, 2**14)
    assert len(asked) < 20
    assert max(asked) == LARGEST_BLOCK_BYTES
    assert sum(asked) < 1.1 * size
    blocks.read_at(100, 10)
    assert asked[-1] == 2**16


def test_a_zip_takes_few_requests_to_list_and_one_for_each_member(
    requests: list[tuple[int, int]], download: Download
) -> None:
    files = list(walk(store_zip({f"{number}.jpg": data for number, data in download.train.items()})))
    assert len(requests) <= 3
    requests.clear()
    assert {file.stem: file.read() for file in files} == download.train
    assert len(requests) == len(files)


def test_files_are_read_ahead_in_order_and_a_bad_one_fails_in_its_turn(requests: list[tuple[int, int]]) -> None:
    data = {f"{number:03d}.jpg": bytes([number]) * 100 for number in range(100)}
    path = store_zip(data)
    files = sorted(walk(path), key=lambda file: file.shown)
    bad = files[50]
    assert bad.member is not None
    store = fsspec.filesystem("memory").store["/bucket/source.zip"]
    store.seek(bad.member.offset)
    store.write(b"XX")
    with reading(files) as read:
        for number, file in enumerate(files):
            if file is bad:
                with pytest.raises(ImageError, match="no header"):
                    read(number)
            else:
                assert read(number) == data[file.name]
