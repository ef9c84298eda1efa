"""The pixels of an image are those stored in it: every reader ignores the orientation that EXIF states."""

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg
import torch
from kaggle_download import pack, packed_samples, run
from loading import make_loader
from making import make_disc

from galaxy_zoo.manifest import read_manifest
from galaxy_zoo.view import View
from pipeline.augment import FixedViews
from pipeline.loader import Backend
from pipeline.options import StampMode
from pipeline.shards import open_shards
from pipeline.stamps import StampPolicy
from shard_tool.images.encoding import Encoding, size_of
from shard_tool.images.jpeg import decode_strictly
from shard_tool.images.png import decode_png

HEIGHT, WIDTH = 300, 424
TIFF = b"MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHH", 0x112, 3, 1, 6, 0) + bytes(4)
"""Orientation 6: whoever obeys it turns the image by a quarter."""


def galaxy(seed: int) -> np.ndarray:
    """An image whose galaxy stands in its upper left part."""
    pixels = make_disc((150 + 10 * seed, 110), 9, seed=seed, size=WIDTH)
    return np.ascontiguousarray(pixels[:HEIGHT])


def jpeg(seed: int, *, turned: bool) -> bytes:
    data = bytes(simplejpeg.encode_jpeg(galaxy(seed), 95, "RGB", "444"))
    exif = b"Exif\0\0" + TIFF
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:] if turned else data


def png(seed: int, *, turned: bool) -> bytes:
    data = bytes(cv2.imencode(".png", galaxy(seed)[..., ::-1])[1].tobytes())
    chunk = struct.pack(">I", len(TIFF)) + b"eXIf" + TIFF + struct.pack(">I", zlib.crc32(b"eXIf" + TIFF))
    return data[:33] + chunk + data[33:] if turned else data


@dataclass
class Sets:
    """Two folders of shards: of the same images, but in `turned` every second one has EXIF's orientation 6."""

    plain: Path
    turned: Path


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Sets:
    made = []
    for name in ("plain", "turned"):
        folder = tmp_path_factory.mktemp(name)
        (folder / "in").mkdir()
        for seed in range(8):
            is_turned = name == "turned" and seed % 2 == 1
            (folder / "in" / f"g{seed}.jpg").write_bytes(jpeg(seed, turned=is_turned))
        result = pack(folder / "in", folder / "shards", "--workers", 1)
        assert result.exit_code == 0, result.stderr
        made.append(folder / "shards")
    return Sets(*made)


def test_decoders_and_encoder_take_the_pixels_as_stored() -> None:
    for seed in range(2):
        plain, turned = jpeg(seed, turned=False), jpeg(seed, turned=True)
        assert size_of(turned) == (HEIGHT, WIDTH)
        assert (decode_strictly(turned, (HEIGHT, WIDTH)) == decode_strictly(plain, (HEIGHT, WIDTH))).all()
        assert (decode_png(png(seed, turned=True)) == galaxy(seed)).all()
        encoding = Encoding(pad_px=WIDTH, resize_px=WIDTH // 2)
        assert encoding.to_jpeg(turned) == encoding.to_jpeg(plain)
        assert encoding.to_jpeg(png(seed, turned=True)) == encoding.to_jpeg(png(seed, turned=False))


def test_the_bytes_and_the_statistics_stay_as_they_are(sets: Sets, tmp_path: Path) -> None:
    plain, turned = read_manifest(sets.plain), read_manifest(sets.turned)
    assert turned.image_px == (HEIGHT, WIDTH)
    assert (turned.channel_mean, turned.channel_std) == (plain.channel_mean, plain.channel_std)
    assert run("lint", sets.turned, "--deep", "--workers", 1).exit_code == 0
    assert packed_samples(sets.turned, "test")["g1"]["jpg"] == jpeg(1, turned=True)
    assert run("unpack", sets.turned, tmp_path / "again", "--workers", 1).exit_code == 0
    [image] = (tmp_path / "again").rglob("g1.jpg")
    assert image.read_bytes() == jpeg(1, turned=True)


def test_the_sheet_of_preview_shows_the_same(sets: Sets, tmp_path: Path) -> None:
    for name in ("plain", "turned"):
        result = run("preview", getattr(sets, name), tmp_path / f"{name}.png", "--split", "test", "--count", 8)
        assert result.exit_code == 0, result.stderr
    assert (tmp_path / "plain.png").read_bytes() == (tmp_path / "turned.png").read_bytes()


def test_galaxies_are_measured_and_framed_at_the_same_place(sets: Sets) -> None:
    pytest.importorskip("sep", reason="measuring galaxies needs the extra objects")
    for shards in (sets.plain, sets.turned):
        result = run("objects", shards, "--workers", 1, "--overwrite")
        assert result.exit_code == 0, result.stderr
    plain, turned = ((shards / "objects.csv").read_text().splitlines() for shards in (sets.plain, sets.turned))
    assert turned[1:] == plain[1:]  # the first line names the set


WAYS: list[tuple[Backend, StampMode]] = [("dali", "stream"), ("opencv", "stream"), ("opencv", "resident")]


def test_the_loader_gives_the_same_views(sets: Sets, subtests: pytest.Subtests) -> None:
    view = View(crop_px=200, size_px=50, mean=(0, 0, 0), std=(1, 1, 1))
    for backend, mode in WAYS:
        with subtests.test(backend=backend, mode=mode):
            found = []
            for shards in (sets.plain, sets.turned):
                samples = open_shards(shards, "test")
                options = {"batch_size": 8, "num_threads": 1, "shuffle": False, "stamps": StampPolicy(mode)}
                with make_loader(samples, FixedViews(view), backend=backend, **options) as loader:
                    [batch] = loader.epoch(0)
                found.append(batch.views[0][torch.from_numpy(np.argsort(batch.ids))])
            assert torch.equal(*found)
