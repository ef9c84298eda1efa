"""Whatever the bytes of a tar, an index, a manifest or a file of votes are: an answer or an error of ours."""

import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kaggle_download import jpeg, run

from galaxy_zoo.errors import GalaxyZooError, ShardError
from galaxy_zoo.index import Component, key_of, read_index
from galaxy_zoo.manifest import Manifest, read_manifest
from galaxy_zoo.tree import load_tree
from shard_tool.shards.proof import check_votes_file
from shard_tool.shards.tar_walk import walk_tar
from shard_tool.shards.writer import encode_votes

BOUNDED = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
FEW = settings(BOUNDED, max_examples=40)
Damage = list[tuple[int, bytes]]
NUMBERS = [b"\x80" + bytes(10) + b"\x01", b"\xff" * 12, b"-0000000001\0", b"77777777777\0", b"00000000000\0"]
"""Sizes that a header of a tar may claim: above and below 0 in base 256, a negative one, 8 GB and nothing."""
DAMAGE = st.lists(
    st.tuples(
        st.integers(0, 20) | st.integers(0, 1 << 16),
        st.binary(min_size=1, max_size=12) | st.sampled_from([bytes(512), *NUMBERS]),
    ),
    max_size=6,
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("../x.tar"),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=5), each, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def tars() -> dict[str, bytes]:
    """A small tar of each kind that Python writes."""
    made = {}
    for kind in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w", format=kind) as tar:
            for name in ("1.jpg", "1.json", "folder/" * 30 + "long.jpg", "galäxy.jpg"):
                info = tarfile.TarInfo(name)
                info.size = 700
                info.pax_headers = {"comment": "x" * 30} if kind == tarfile.PAX_FORMAT else {}
                tar.addfile(info, io.BytesIO(b"d" * 700))
        made[str(kind)] = data.getvalue()
    return made


def spoil(data: bytes, damage: Damage) -> bytes:
    """Overwrite bytes; positions up to 20 stand for the place of a size in a header."""
    spoiled = bytearray(data)
    for position, some in damage:
        at = position * 512 + 124 if position <= 20 else position
        spoiled[at : at + len(some)] = some
    return bytes(spoiled)


def fix_checksums(data: bytes) -> bytes:
    """Make every block with the magic of a header look like a good one, so that what is in it is read."""
    fixed = bytearray(data)
    for at in range(0, len(fixed) - 511, 512):
        if fixed[at + 257 : at + 262] == b"ustar":
            fixed[at + 148 : at + 156] = b" " * 8
            fixed[at + 148 : at + 156] = b"%06o\0 " % sum(fixed[at : at + 512])
    return bytes(fixed)


@BOUNDED
@given(kind=st.sampled_from("012"), damage=DAMAGE, length=st.none() | st.integers(0, 12000), fixed=st.booleans())
def test_any_tar_is_walked_or_said_not_to_be_whole(
    tars: dict[str, bytes],
    tmp_path_factory: pytest.TempPathFactory,
    kind: str,
    damage: Damage,
    length: int | None,
    fixed: bool,
) -> None:
    data = spoil(tars[kind], damage)[:length]
    path = tmp_path_factory.mktemp("tar") / "a.tar"
    path.write_bytes(fix_checksums(data) if fixed else data)
    walk = walk_tar(path)
    assert all(0 <= c.offset <= c.offset + c.size <= len(data) for sample in walk.samples for c in sample)
    assert len({c.offset for sample in walk.samples for c in sample}) <= len(data) // 512
    if walk.why:
        assert walk.why.startswith(("not a whole tar: ", "member "))


def test_a_size_that_points_backwards_or_beyond_ends_the_walk(
    tars: dict[str, bytes], tmp_path: Path, subtests: pytest.Subtests
) -> None:
    for size in NUMBERS[:4]:
        with subtests.test(size=size):
            path = tmp_path / "a.tar"
            path.write_bytes(fix_checksums(spoil(tars["0"], [(3, size)])))  # the second header of the ustar
            walk = walk_tar(path)
            assert walk.why.startswith("not a whole tar: ")
            assert [key_of(sample) for sample in walk.samples] == ["1"]


@given(data=st.binary(max_size=3000))
@FEW
def test_any_bytes_are_no_reason_to_crash_for_index(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("bytes")
    (folder / "a.tar").write_bytes(data)
    result = run("index", folder, "--workers", 1)
    assert (result.exit_code, "a.tar" in result.stderr + result.stdout) == (1, True)
    assert [path.name for path in folder.iterdir()] == ["a.tar"]


@FEW
@given(
    damage=st.lists(st.tuples(st.integers(0, 11000), st.binary(min_size=1, max_size=600)), min_size=1, max_size=3)
)
def test_index_writes_either_all_or_nothing_and_what_it_writes_passes_lint(
    tmp_path_factory: pytest.TempPathFactory, damage: Damage
) -> None:
    folder, data = tmp_path_factory.mktemp("spoiled"), io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for i in range(3):
            info, image = tarfile.TarInfo(f"{i}.jpg"), jpeg(i)
            info.size = len(image)
            tar.addfile(info, io.BytesIO(image))
    (folder / "a.tar").write_bytes(spoil(data.getvalue(), [(at + 21, some) for at, some in damage]))
    result = run("index", folder, "--workers", 1)
    if result.exit_code == 0:
        assert run("lint", folder, "--deep", "--workers", 1).exit_code == 0
    else:
        assert [path.name for path in folder.iterdir()] == ["a.tar"]


@FEW
@given(damage=DAMAGE, length=st.none() | st.integers(0, 12000))
def test_lint_finds_any_change_of_a_shard(
    packed: Path, tmp_path_factory: pytest.TempPathFactory, damage: Damage, length: int | None
) -> None:
    folder = tmp_path_factory.mktemp("lint")
    for name in ("manifest.json", "rejected.csv", "test-000000.tar", "test-000000.idx"):
        shutil.copy(packed / name, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["splits"] = {"test": manifest["splits"]["test"][:1]}
    del manifest["set_sha256"], manifest["own_sha256"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    before = (folder / "test-000000.tar").read_bytes()
    after = spoil(before, damage)[:length]
    (folder / "test-000000.tar").write_bytes(after)
    for options in ((), ("--deep",)):
        result = run("lint", folder, *options, "--workers", 1)
        assert result.exit_code == (0 if before == after else 1)


LINES = st.lists(st.text(max_size=30) | st.sampled_from(["v1.2 1", "jpg 512 9 1.jpg", "jpg 0 0 .jpg"]), max_size=4)


@BOUNDED
@given(data=st.binary(max_size=80) | LINES.map(lambda lines: "".join(f"{x}\n" for x in lines).encode()))
def test_any_index_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("index") / "a.idx"
    path.write_bytes(data)
    try:
        samples = read_index(path)
    except ShardError as error:
        assert str(error).startswith(str(path))
    else:
        assert all(isinstance(c, Component) and key_of(sample) is not None for sample in samples for c in sample)


@BOUNDED
@given(data=st.data(), value=VALUES)
def test_any_value_in_a_manifest_is_read_or_refused(
    packed: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, value: Any
) -> None:
    manifest: Any = json.loads((packed / "manifest.json").read_text())
    place = manifest
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.integers(0, 3)) == 0:
            break
        place = place[key]
    place[key] = value
    folder = tmp_path_factory.mktemp("manifest")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    try:
        read = read_manifest(folder)
    except GalaxyZooError as error:
        assert "manifest.json" in str(error)
    else:
        assert isinstance(read, Manifest)
        for options in ((), ("--json",)):
            assert run("info", folder, *options).exit_code == 0
        assert run("lint", folder, "--workers", 1).exit_code in (0, 1)


def test_a_manifest_made_to_break_the_parser_is_refused(tmp_path: Path, subtests: pytest.Subtests) -> None:
    for text in ["[" * 100_000, "1" * 5000, '{"format_version": ' + "9" * 5000 + "}"]:
        with subtests.test(text=text):
            (tmp_path / "manifest.json").write_text(text)
            with pytest.raises(ShardError, match="damaged"):
                read_manifest(tmp_path)


HALVES = encode_votes(np.full(37, 0.5, np.float32))
CHANGE = st.tuples(st.integers(21, 275), st.binary(min_size=1, max_size=8)) | st.tuples(
    st.just(60), st.sampled_from([b"(9**9,)", b"(99999999999,)", b"((((((((", b"{}}}", b"'O'"])
)


@BOUNDED
@given(data=st.binary(max_size=300) | CHANGE.map(lambda change: spoil(HALVES, [change])))
def test_any_file_of_votes_is_checked(data: bytes) -> None:
    reasons = list(check_votes_file(data, load_tree("gz2-kaggle")))
    assert reasons, "half for every answer breaks the tree, and so does whatever else there is"


def test_a_signalling_nan_is_a_missing_vote() -> None:
    votes = np.full(37, np.nan, np.float32)
    votes.view(np.uint32)[0] = 0x7F810000
    assert list(check_votes_file(encode_votes(votes), load_tree("gz2-kaggle"))) == []
