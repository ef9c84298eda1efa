"""The index of a shard: DALI's format, read strictly."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galaxy_zoo.errors import ShardError
from galaxy_zoo.index import Component, format_index, index_path, key_of, read_index

KEYS = st.from_regex(r"[A-Za-z0-9_-]{1,20}", fullmatch=True)
SAMPLE_SIZES = st.tuples(st.integers(0, 2**40), st.integers(0, 2**30))
INDEX = """v1.2 2
jpg 512 12900 100008.jpg json 13824 300 100008.json
jpg 14848 12000 100023.jpg json 27136 300 100023.json
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "train-000000.idx"
    path.write_text(text)
    return path


def test_an_index_lies_beside_its_shard() -> None:
    assert index_path(Path("shards/train-000000.tar")) == Path("shards/train-000000.idx")


def test_the_format_is_read_as_dali_writes_it(tmp_path: Path) -> None:
    first, second = read_index(write(tmp_path, INDEX))
    assert first == (Component("jpg", 512, 12900, "100008.jpg"), Component("json", 13824, 300, "100008.json"))
    assert [key_of(first), key_of(second)] == ["100008", "100023"]
    assert format_index([first, second]) == INDEX


@given(keys=st.lists(KEYS, unique=True, max_size=5), data=st.data())
def test_every_index_reads_back_as_written(
    tmp_path_factory: pytest.TempPathFactory, keys: list[str], data: st.DataObject
) -> None:
    samples = [
        tuple(
            Component(extension, *data.draw(SAMPLE_SIZES), f"{key}.{extension}")
            for extension in ("jpg", "votes.npy")[: data.draw(st.integers(1, 2))]
        )
        for key in keys
    ]
    path = write(tmp_path_factory.mktemp("index"), format_index(samples))
    assert read_index(path) == samples
    assert [key_of(sample) for sample in samples] == keys


DAMAGED = [
    (INDEX, "", "not a whole v1.2 index: the first line is '', 0 lines follow"),
    ("v1.2 2", "v1.1 2", "not a whole v1.2 index"),
    ("v1.2 2", "v1.2 3", "the first line is 'v1.2 3', 2 lines follow"),
    ("v1.2 2", "v1.2", "not a whole v1.2 index"),
    ("v1.2 2\n", "", "not a whole v1.2 index"),
    ("512 12900 ", "512 ", "line 2: not a line of an index: 7 words"),
    ("512 12900", "512 12k", "line 2: not a line of an index: offset 512, size 12k"),
    ("14848", "-14848", "line 3: not a line of an index: offset -14848"),
    ("jpg 14848 12000 100023.jpg json 27136 300 100023.json", "", "line 3: not a line of an index: 0 words"),
    ("100023.json\n", "100023.j\n", "line 3: .*'100023.j' does not end in .json"),
]


def test_a_damaged_index_is_refused_by_name_and_line(tmp_path: Path, subtests: pytest.Subtests) -> None:
    for old, new, says in DAMAGED:
        with subtests.test(old=old, new=new):
            assert old in INDEX
            path = write(tmp_path, INDEX.replace(old, new, 1))
            with pytest.raises(ShardError, match=says) as caught:
                read_index(path)
            assert str(caught.value).startswith(str(path))


@given(st.integers(0, len(INDEX) - 2))
def test_an_index_cut_off_anywhere_is_refused(tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    path = write(tmp_path_factory.mktemp("cut"), INDEX[:length])
    with pytest.raises(ShardError):
        read_index(path)


def test_a_missing_index_is_named(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"none\.idx: the index is missing"):
        read_index(tmp_path / "none.idx")


def test_a_tar_is_no_index(tmp_path: Path) -> None:
    path = tmp_path / "train-000000.idx"
    path.write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(ShardError, match="not an index"):
        read_index(path)
