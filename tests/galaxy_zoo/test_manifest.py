"""The manifest of a folder of shards: read back whole, or refused."""

import json
import re
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from galaxy_zoo.errors import ShardError, TreeError
from galaxy_zoo.manifest import MANIFEST_NAME, Manifest, Shard, Statistics, read_manifest
from galaxy_zoo.tree import DecisionTree


@pytest.fixture
def manifest(shapes: DecisionTree) -> Manifest:
    train = tuple(Shard(f"train-00000{i}.tar", 500 + i, 2**23, f"{i}" * 64, f"b{i}" * 32) for i in range(2))
    return Manifest(
        tree=shapes,
        seed=2**63 - 1,
        tool_version="0.1.0",
        image_px=(424, 424),
        channel_mean=(0.04, 0.05, 0.06),
        channel_std=(0.1, 0.1, 0.1),
        vote_mean=(0.25, 0.75, 0.125, None),
        rejected=3,
        splits={"train": train, "test": (Shard("test-000000.tar", 7, 2**20, "c" * 64, "d" * 64),)},
        statistics=Statistics(
            (6796, 2**40, 26903),
            1001,
            (1001, 1001, 3, 0),
            (250.1, 750.2, 0.375, 0.0),
            (2**60, 7, 0),
            (2**70, 1, 2),
            measured=1000,
        ),
    )


def test_a_manifest_reads_back_as_written(manifest: Manifest, tmp_path: Path) -> None:
    manifest.write(tmp_path)
    assert read_manifest(tmp_path) == manifest


def test_a_manifest_of_an_older_version_reads_without_what_it_lacks(manifest: Manifest, tmp_path: Path) -> None:
    manifest.write(tmp_path)
    path = tmp_path / MANIFEST_NAME
    data = json.loads(path.read_text())
    for key in ("statistics", "is_foreign", "set_sha256"):
        del data[key]
    path.write_text(json.dumps(data))
    assert read_manifest(tmp_path) == replace(manifest, statistics=None)


def test_one_checksum_stands_for_all_shards_in_order(manifest: Manifest, tmp_path: Path) -> None:
    assert manifest.set_sha256 == sha256(b"0" * 64 + b"1" * 64 + b"c" * 64).hexdigest()
    rewrite(manifest, tmp_path, {"set_sha256": "0" * 64})
    with pytest.raises(ShardError, match="damaged: ValueError set_sha256 is not that of the shards it lists"):
        read_manifest(tmp_path)


def test_samples_are_counted_by_split_and_missing_votes_in_all(manifest: Manifest) -> None:
    assert [manifest.samples(split) for split in ("train", "test", "validation")] == [1001, 7, 0]
    assert manifest.statistics is not None
    assert manifest.statistics.missing_votes == 4 * 1001 - 2005


def test_a_folder_without_a_manifest_is_not_a_finished_one(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(ShardError, match=r"no manifest\.json.*shard_tool pack") as caught:
            read_manifest(folder)
        assert str(caught.value).startswith(str(folder))


NO_MANIFESTS = [
    b"",
    b"{",
    b"null",
    b"[]",
    b"{}",
    b"7",
    b"[" * 5000 + b"]" * 5000,
    b"\xff\xd8",
    b'{"format_version": 1}',
    b'{"format_version": 1, "image_px": [424, 424], "splits": []}',
]


def test_a_file_that_is_no_manifest_is_called_damaged(tmp_path: Path, subtests: pytest.Subtests) -> None:
    for text in NO_MANIFESTS:
        with subtests.test(text=text):
            (tmp_path / MANIFEST_NAME).write_bytes(text)
            with pytest.raises(ShardError, match=r"manifest\.json: damaged"):
                read_manifest(tmp_path)


UNFIT = [
    ("image_px", [424]),
    ("image_px", 424),
    ("channel_mean", [0.04]),
    ("channel_std", "grey"),
    ("vote_mean", [0.5]),
    ("vote_mean", ["many", 0, 0, 0]),
    ("rejected", None),
    ("seed", "one"),
    ("splits", {"train": [{"name": "train-000000.tar"}]}),
    ("splits", {"train": ["train-000000.tar"]}),
    ("splits", {"train": [{"name": 7, "samples": 1, "bytes": 1, "sha256": "", "index_sha256": ""}]}),
    ("splits", {"train": [{"name": "a.tar", "samples": 1, "bytes": 1, "sha256": 1, "index_sha256": ""}]}),
    ("splits", {"../train": []}),
    ("statistics", {}),
    ("statistics", 7),
    ("image_px", [1e999, 1]),
    ("image_px", [65_536, 1]),
    ("image_px", [0, 1]),
    ("channel_mean", [float("nan"), 0, 0]),
    ("seed", 10**31),
]


def test_a_value_that_does_not_fit_is_called_damage(
    manifest: Manifest, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    for key, value in UNFIT:
        with subtests.test(key=key, value=value):
            rewrite(manifest, tmp_path, {key: value})
            with pytest.raises(ShardError, match=r"manifest\.json: damaged"):
                read_manifest(tmp_path)


STRANGE_SHARDS = [
    ("name", "../train-000000.tar"),
    ("name", "/etc/train.tar"),
    ("name", "train-000000.zip"),
    ("name", "train\0.tar"),
    ("samples", "500"),
    ("samples", -1),
    ("bytes", 10**16),
]


def test_a_shard_outside_the_folder_or_of_another_kind_is_refused(
    manifest: Manifest, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    for field, value in STRANGE_SHARDS:
        with subtests.test(field=field, value=value):
            shard = {"name": "train-000000.tar", "samples": 5, "bytes": 9, "sha256": "a", "index_sha256": "b"}
            rewrite(manifest, tmp_path, {"set_sha256": "", "splits": {"train": [shard | {field: value}]}})
            with pytest.raises(ShardError, match=re.escape(repr(value))):
                read_manifest(tmp_path)


def test_a_newer_manifest_says_to_update(manifest: Manifest, tmp_path: Path) -> None:
    rewrite(manifest, tmp_path, {"format_version": 2})
    with pytest.raises(ShardError, match="format version 2, this program reads 1; update it"):
        read_manifest(tmp_path)


def test_a_tree_that_is_none_is_named_with_the_manifest(manifest: Manifest, tmp_path: Path) -> None:
    rewrite(manifest, tmp_path, {"tree": {"name": "bare", "question": []}})
    with pytest.raises(TreeError, match=r"manifest\.json: tree: .* at least one"):
        read_manifest(tmp_path)


def rewrite(manifest: Manifest, folder: Path, changes: dict[str, Any]) -> None:
    manifest.write(folder)
    path = folder / MANIFEST_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_manifest_of_a_version_that_measured_every_image_says_so(tmp_path: Path, manifest: Manifest) -> None:
    manifest.write(tmp_path)
    data = json.loads((tmp_path / "manifest.json").read_text())
    del data["statistics"]["measured"], data["is_decoded"]
    (tmp_path / "manifest.json").write_text(json.dumps(data))
    old = read_manifest(tmp_path)
    assert old.is_decoded
    assert old.statistics is not None
    assert old.statistics.measured == old.samples(next(iter(old.splits)))


TWINS = [{}, {"name": "other.tar"}, {"sha256": "e" * 64}, {"name": "other.tar", "sha256": "e" * 64}]


def test_a_shard_that_is_listed_twice_by_name_bytes_or_index_is_refused(
    manifest: Manifest, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    for split in ["train", "test"]:
        for changed in TWINS:
            with subtests.test(split=split, changed=changed):
                again = replace(manifest.splits["train"][1], **changed)
                replace(manifest, splits={**manifest.splits, split: (*manifest.splits[split], again)}).write(
                    tmp_path
                )
                with pytest.raises(
                    ShardError, match=f"{re.escape(again.name)} is the same shard as train-000001.tar"
                ):
                    read_manifest(tmp_path)


def test_shards_without_samples_may_be_alike(manifest: Manifest, tmp_path: Path) -> None:
    empty = tuple(Shard(f"test-00000{i}.tar", 0, 1024, "e" * 64, "f" * 64) for i in range(2))
    changed = replace(manifest, splits={**manifest.splits, "test": empty})
    changed.write(tmp_path)
    assert read_manifest(tmp_path) == changed


ODD = [
    "",
    None,
    -1,
    1.5,
    10**29,
    True,
    [],
    {},
    [[[]]],
    {"a": {"b": [1]}},
    "x" * 10_000,
    "7",
    [1, 2, 3],
    ["a", None, -1],
]


def test_an_odd_value_of_any_key_is_refused_in_one_line_or_read_as_it_is(
    manifest: Manifest, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    manifest.write(tmp_path)
    kept = json.loads((tmp_path / MANIFEST_NAME).read_text())
    places = [(kept, key) for key in kept if key not in {"tree", "own_sha256", "set_sha256", "encoding"}]
    places += [(kept["statistics"], key) for key in kept["statistics"]]
    for table, key in places:
        for odd in ODD:
            with subtests.test(key=key, odd=odd):
                before, table[key] = table[key], odd
                (tmp_path / MANIFEST_NAME).write_text(json.dumps(kept))
                table[key] = before
                try:
                    found = read_manifest(tmp_path)
                except ShardError as error:
                    assert "\n" not in str(error)
                else:
                    holder = found.statistics if table is kept["statistics"] else found
                    value = getattr(holder, key) if key != "format_version" else 1
                    assert value == (tuple(odd) if isinstance(odd, list) else odd) or (key, odd) == ("splits", {})
