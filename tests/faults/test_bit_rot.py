"""A byte that changes in any file: lint or loading says so, or what is read is the same."""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from galaxy_zoo.errors import GalaxyZooError
from galaxy_zoo.manifest import read_manifest
from galaxy_zoo.view import View
from pipeline.saved_stamps import SavedStamps
from pipeline.shards import open_shards
from shard_tool.commands.lint import lint_folder
from training.checkpoint import Snapshot, load_state

FLIPS = 40
"""Of each kind of file; there are five kinds."""

VIEW = View(crop_px=64, size_px=16)
Check = Callable[[], Any]
"""What is read of a file; raises where damage is noticed."""


class Noticed(Exception):  # noqa: N818 - what is hoped for
    """Damage was noticed by something that goes on without what is damaged."""


@contextmanager
def flipped(path: Path, rng: np.random.Generator) -> Iterator[str]:
    """One byte of a file changed, put back afterwards; says which."""
    before = path.read_bytes()
    data, at = bytearray(before), int(rng.integers(len(before)))
    data[at] ^= int(rng.integers(1, 256))
    path.write_bytes(data)
    yield f"{path.name}: byte {at} is {data[at]:#04x}, was {before[at]:#04x}"
    path.write_bytes(before)


def flip(paths: list[Path], check: Check) -> Counter[str]:
    """Flip bytes of files one after the other; how often that was noticed, and how often the same was read."""
    rng, before, found = np.random.default_rng(200), check(), Counter[str]()
    for number in range(FLIPS):
        with flipped(paths[number % len(paths)], rng) as what:
            try:
                assert same(check(), before), f"nobody noticed: {what}"
                found["harmless"] += 1
            except (GalaxyZooError, Noticed):
                found["noticed"] += 1
    return found


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return bool(one.dtype == other.dtype and torch.equal(one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return bool(one == other)


@pytest.fixture
def folder(shards: Path, tmp_path: Path) -> Path:
    return shutil.copytree(shards, tmp_path / "shards")


def linted(folder: Path) -> Check:
    """The manifest of a folder in which lint finds nothing."""

    def check() -> Any:
        manifest = read_manifest(folder)
        if lint_folder(folder, manifest, deep=False, workers=1):
            raise Noticed
        return manifest

    return check


def test_lint_notices_every_byte_of_shards_and_indexes_and_of_a_manifest_what_matters(
    folder: Path, subtests: pytest.Subtests
) -> None:
    """Also those that nothing is read from: the padding between the files of a tar, and the zeros at its end."""
    for pattern in ("*.tar", "*.idx"):
        with subtests.test(pattern):
            assert flip(sorted(folder.glob(pattern)), linted(folder)) == {"noticed": FLIPS}
    with subtests.test("manifest.json"):
        assert flip([folder / "manifest.json"], linted(folder)).total() == FLIPS


def test_loading_alone_notices_every_byte_of_an_index(folder: Path) -> None:
    def check() -> Any:
        samples = open_shards(folder, "train")
        return {"ids": samples.keys.tolist(), "votes": torch.from_numpy(samples.votes)}

    assert flip(sorted(folder.glob("train-*.idx")), check) == {"noticed": FLIPS}


def test_loading_notices_every_byte_of_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    weights = {f"layer {number}": torch.randn(7, 5) for number in range(20)}
    Snapshot.of({"weights": weights, "epoch": 3, "steps": torch.tensor(7)}).write(path)
    assert flip([path], lambda: load_state(path)).total() == FLIPS


def test_saved_stamps_that_are_damaged_are_not_used(shards: Path, tmp_path: Path) -> None:
    samples = open_shards(shards, "train")
    saved = SavedStamps(tmp_path, samples, VIEW.stamp(samples.image_px), on_gpu=False, speaks=False)
    height, width = VIEW.stamp(samples.image_px).size_px
    stamps = torch.randint(256, (len(samples), height, width, 3), dtype=torch.uint8)
    saved.save(stamps)

    def check() -> Any:
        if not saved.is_whole():
            raise Noticed
        pixels, intact = saved.read(None)
        assert torch.equal(pixels[intact], stamps[intact])
        if not intact.all():
            raise Noticed
        return pixels

    assert flip([saved.path], check) == {"noticed": FLIPS}
