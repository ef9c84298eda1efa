"""`shard_tool unpack` gives back what was packed, or says which shard is not what it was."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from kaggle_download import TABLE, TEST_FOLDER, TRAIN_FOLDER, Download, contents, jpeg, make_download, pack, run

from galaxy_zoo.files import exclusive, sha256_of
from galaxy_zoo.index import index_path
from galaxy_zoo.manifest import Shard, read_manifest
from shard_tool.commands.unpack import MARKER_NAME, UnpackedRows, UnpackedShard, format_votes

SHARD = "train-000004.tar"
FRACTIONS = st.floats(0, 1, width=32)
IDS = st.lists(st.from_regex(r"[A-Za-z0-9_-]{1,12}", fullmatch=True), min_size=2, max_size=6, unique=True)
MISSING = ("NA", "NaN", "nan", "N", "None", "null", "NULL")  # the table of votes would not take them as ids


@pytest.fixture
def shards(packed: Path, tmp_path: Path) -> Path:
    """A packed folder to spoil."""
    return Path(shutil.copytree(packed, tmp_path / "shards"))


def test_the_images_and_votes_come_back(packed: Path, whole_download: Download, tmp_path: Path) -> None:
    for name, workers in (("out", 1), ("other", 2)):
        result = run("unpack", packed, tmp_path / name, "--workers", workers)
        assert result.exit_code == 0, result.stderr
        assert f"{tmp_path / name / TRAIN_FOLDER}: 30 images\n" in result.stdout
    files = contents(tmp_path / "out")
    assert contents(tmp_path / "other") == files
    table = files.pop(f"{TABLE}.csv").decode().splitlines()
    assert {
        name: data for part in (TRAIN_FOLDER, TEST_FOLDER) for name, data in whole_download.files()[part].items()
    } == files
    assert table[0] == ",".join(whole_download.rows[0])
    ids = [line.split(",")[0] for line in table[1:]]
    assert ids == sorted(whole_download.train)
    for line in table[1:]:
        sample_id, *votes = line.split(",")
        np.testing.assert_array_equal(np.array(votes, np.float32), whole_download.votes()[sample_id])


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ids=IDS, num_train=st.integers(1, 6), seed=st.integers(0, 99), data=st.data())
def test_any_set_of_ids_and_missing_votes_makes_the_round_trip(
    tmp_path_factory: pytest.TempPathFactory, ids: list[str], num_train: int, seed: int, data: st.DataObject
) -> None:
    ids = [each for each in ids if each not in MISSING] or ["1"]
    folder, images = tmp_path_factory.mktemp("round"), {each: jpeg(i) for i, each in enumerate(ids)}
    train = dict(list(images.items())[:num_train])
    rows = make_download(train=len(train), test=0).rows
    missing = data.draw(st.lists(st.booleans(), min_size=len(train) * 37, max_size=len(train) * 37))
    votes = [["" if missing.pop() else vote for vote in row[1:]] for row in rows[1:]]
    table = [rows[0], *([each, *row] for each, row in zip(train, votes, strict=True))]
    download = Download(train, {each: images[each] for each in images if each not in train}, table)
    options = ("--missing-votes", "--seed", seed, "--shards", 2)
    assert pack(download.write_folder(folder / "in"), folder / "packed", *options).exit_code == 0
    assert run("unpack", folder / "packed", folder / "out", "--workers", 1).exit_code == 0
    assert pack(folder / "out", folder / "again", *options).exit_code == 0
    assert contents(folder / "again") == contents(folder / "packed")


@given(arrays.arrays(np.float32, (3, 4), elements=FRACTIONS | st.just(np.nan)))
def test_printed_votes_read_back_as_the_same_float32(votes: np.ndarray) -> None:
    texts = format_votes(votes)
    read_back = np.array([[float(text or "nan") for text in row] for row in texts]).astype(np.float32)
    assert read_back.tobytes() == votes.tobytes()
    assert all(
        (text == "") == bool(np.isnan(vote))
        for row, line in zip(votes, texts, strict=True)
        for vote, text in zip(row, line, strict=True)
    )


def test_kaggles_own_digits_come_back() -> None:
    assert format_votes(np.array([[0.383147, 0.5, 1, 0.0388, np.nan]], np.float32)) == [
        ["0.383147", "0.5", "1.0", "0.0388", ""]
    ]


def test_ids_are_ordered_as_numbers_only_where_all_are() -> None:
    assert in_order("10", "9", "100") == ["9", "10", "100"]
    assert in_order("10", "9", "a") == ["10", "9", "a"]
    assert in_order("10", "010", "9" * 30, "11", "0") == ["0", "010", "10", "11", "9" * 30]


def in_order(*ids: str) -> list[str]:
    rows = UnpackedRows()
    shard = Shard("train-000000.tar", len(ids), 0, "", "")
    rows.add(UnpackedShard(split="train", shard=shard, ids=ids, votes=("0.5",) * len(ids)))
    return [sample_id for sample_id, _ in rows.labelled("train")]


def test_a_set_without_labels_has_no_table(whole_download: Download, tmp_path: Path) -> None:
    source = whole_download.write_folder(tmp_path / "in")
    assert pack(source / TEST_FOLDER, tmp_path / "packed").exit_code == 0
    assert run("unpack", tmp_path / "packed", tmp_path / "out", "--workers", 1).exit_code == 0
    assert contents(tmp_path / "out") == {
        f"{TEST_FOLDER}/{name}.jpg": data for name, data in whole_download.test.items()
    }


def _flip_byte(folder: Path) -> None:
    data = bytearray((folder / SHARD).read_bytes())
    data[700] ^= 1
    (folder / SHARD).write_bytes(data)


def _repeat_shard(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["set_sha256"]
    manifest["splits"]["train"].append(manifest["splits"]["train"][0])
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _repeat_ids(folder: Path) -> None:
    """List another shard of the same samples, a block of zeros longer."""
    manifest, first = read_manifest(folder), "train-000000.tar"
    [shard, *_] = manifest.splits["train"]
    (folder / SHARD).write_bytes((folder / first).read_bytes() + bytes(512))
    index_path(folder / SHARD).write_bytes(index_path(folder / first).read_bytes())
    again = replace(shard, name=SHARD, bytes=shard.bytes + 512, sha256=sha256_of(folder / SHARD))
    others = tuple(each for each in manifest.splits["train"] if each.name != SHARD)
    replace(manifest, splits={**manifest.splits, "train": (*others, again)}).write(folder)


DAMAGED = [
    (_flip_byte, f"{SHARD}: changed since the manifest was written: its sha256 differs"),
    (lambda f: (f / SHARD).write_bytes((f / SHARD).read_bytes()[:-512]), "bytes, the manifest says"),
    (lambda f: (f / SHARD).unlink(), f"{SHARD}: the shard is missing"),
    (lambda f: index_path(f / SHARD).write_text("v1.2 0\n"), "train-000004.idx: changed since"),
    (lambda f: index_path(f / SHARD).unlink(), "train-000004.idx: the index is missing"),
    (lambda f: (f / "manifest.json").unlink(), "not a finished folder of shards"),
    (_repeat_shard, "train-000000.tar is the same shard as train-000000.tar"),
    (_repeat_ids, f"{SHARD} is the same shard as train-000000.tar"),
]


def test_a_damaged_shard_is_named_and_no_table_is_written(
    packed: Path, tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for spoil, says in DAMAGED:
        with subtests.test(says):
            folder = tmp_path_factory.mktemp("case")
            shards = Path(shutil.copytree(packed, folder / "shards"))
            spoil(shards)
            result = run("unpack", shards, folder / "out", "--workers", 1)
            assert result.exit_code == 1
            assert says in result.stderr
            assert result.stdout == ""
            assert not list((folder / "out").glob("*.csv"))


def test_with_the_damaged_shard_restored_it_goes_on_to_the_same(
    packed: Path, shards: Path, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    _flip_byte(shards)
    assert run("unpack", packed, tmp_path / "whole", "--workers", 1).exit_code == 0
    for workers in (1, 2):
        with subtests.test(workers=workers):
            out = tmp_path / f"{workers}"
            assert run("unpack", shards, out, "--workers", workers).exit_code == 1
            image = next((out / TRAIN_FOLDER).iterdir())
            image.write_bytes(b"")  # as after a power failure
            (out / TRAIN_FOLDER / "7.jpg.part").write_bytes(b"")
            result = run("unpack", packed, out, "--workers", workers)
            assert result.exit_code == 0, result.stderr
            (out / TRAIN_FOLDER / "7.jpg.part").unlink()
            assert contents(out) == contents(tmp_path / "whole")


def test_what_was_interrupted_goes_on_with_the_same_shards_only(
    packed: Path, shards: Path, kaggle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    _flip_byte(shards)
    assert run("unpack", shards, out, "--workers", 1).exit_code == 1
    assert pack(kaggle, tmp_path / "other", "--seed", 7).exit_code == 0
    result = run("unpack", tmp_path / "other", out)
    assert (result.exit_code, "unpacking other shards was interrupted there" in result.stderr) == (1, True)
    (out / "link").symlink_to(packed)
    result = run("unpack", packed, out)
    assert (result.exit_code, "link: a symbolic link" in result.stderr) == (1, True)


def test_two_do_not_unpack_into_one_folder(packed: Path, tmp_path: Path) -> None:
    with exclusive(tmp_path / MARKER_NAME, busy="never"):
        result = run("unpack", packed, tmp_path)
    assert (result.exit_code, "another unpack is writing to it" in result.stderr) == (1, True)


def test_a_folder_with_something_in_it_is_refused_and_untouched(packed: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    result = run("unpack", packed, tmp_path)
    assert (result.exit_code, "not an empty folder" in result.stderr) == (1, True)
    assert contents(tmp_path) == {"mine.txt": b"mine"}
    result = run("unpack", packed, tmp_path / "mine.txt")
    assert (result.exit_code, "not an empty folder" in result.stderr) == (1, True)
