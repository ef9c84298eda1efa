"""`objects.csv`: what was written is read again, in any order; anything else is one clear error."""

import re
from pathlib import Path

import pytest

from galaxy_zoo.errors import ShardError
from galaxy_zoo.objects import OBJECTS_NAME, read_objects, write_objects

ROWS = [("7", 211.5, 212.25, 160.0), ("a,b", 10.0, 20.0, 0.5), ("ä", 0.0, 0.0, 1e4)]


def test_what_was_written_is_read_in_the_order_asked_for(tmp_path: Path) -> None:
    write_objects(tmp_path, "abc", ROWS)
    objects = read_objects(tmp_path, "abc", ["ä", "7"])
    assert objects.centres_px.tolist() == [[0, 0], [211.5, 212.25]]
    assert objects.radii_px.tolist() == [1e4, 160]
    assert read_objects(tmp_path, "abc", ["a,b"]).radii_px.tolist() == [0.5]
    assert read_objects(tmp_path, "abc", []).centres_px.shape == (0, 2)


def test_what_was_not_measured_says_how_to(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"objects.csv: missing.*shard_tool objects SHARDS"):
        read_objects(tmp_path, "abc", [])


def test_the_measurements_of_other_shards_are_refused(tmp_path: Path) -> None:
    write_objects(tmp_path, "abc", ROWS)
    with pytest.raises(ShardError, match=r"in other shards than these; .*--overwrite"):
        read_objects(tmp_path, "abd", ["7"])


DAMAGED = [
    ("160.00", "wide", "could not convert string to float"),
    ("160.00", "0.00", "radius not above 0"),
    ("160.00", "nan", "no length in an image"),
    ("160.00", "1e308", "no length in an image"),
    (",160.00", "", "out of range"),
    ("7,", "8,", "has no 7"),
    ("id,", "key,", "its columns are key"),
    ("ä", "\udce4", "codec can't decode"),
]


def test_a_damaged_file_is_an_error_that_says_what_is_wrong(tmp_path: Path, subtests: pytest.Subtests) -> None:
    for old, new, why in DAMAGED:
        with subtests.test(old=old, new=new):
            write_objects(tmp_path, "abc", ROWS)
            path = tmp_path / OBJECTS_NAME
            path.write_bytes(path.read_text("utf-8").replace(old, new).encode("utf-8", "surrogateescape"))
            with pytest.raises(ShardError, match=f"damaged: .*{re.escape(why)}.*--overwrite"):
                read_objects(tmp_path, "abc", ["7", "a,b", "ä"])


def test_a_file_that_was_cut_off_is_damaged(tmp_path: Path, subtests: pytest.Subtests) -> None:
    for length in [0, 30, 90]:
        with subtests.test(length=length):
            write_objects(tmp_path, "abc", ROWS)
            (tmp_path / OBJECTS_NAME).write_bytes((tmp_path / OBJECTS_NAME).read_bytes()[:length])
            with pytest.raises(ShardError, match="shard_tool objects SHARDS"):
                read_objects(tmp_path, "abc", ["7", "a,b", "ä"])


def test_a_failure_leaves_no_file_behind(tmp_path: Path) -> None:
    def rows():
        yield ROWS[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_objects(tmp_path, "abc", rows())
    assert list(tmp_path.iterdir()) == []
