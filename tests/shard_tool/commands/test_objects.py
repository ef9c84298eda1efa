"""`shard_tool objects`: galaxies are found where they are, as large as they are, and each image has its row."""

import csv
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from kaggle_download import Download, contents, pack, packed_samples, run
from making import make_disc
from scipy.optimize import brentq

from galaxy_zoo.manifest import read_manifest
from galaxy_zoo.objects import read_objects

pytest.importorskip("sep", reason="measuring galaxies needs the extra objects")

from shard_tool.images.detection import find_galaxy, petrosian_radius

SIZE_PX = 64


def fall_of_a_disc(radius: float) -> float:
    """What the light of an exponential disc at a radius, in scale lengths, is of its mean within, less a fifth."""
    mean = 2 * (1 - (1 + radius) * np.exp(-radius)) / radius**2
    return float(np.exp(-radius) / mean) - 0.2


PETROSIAN = brentq(fall_of_a_disc, 1, 6)
"""Scale lengths in the Petrosian radius of an exponential disc: 3.6."""


@settings(max_examples=15)
@given(st.floats(40, 90), st.floats(40, 90), st.floats(3.5, 8), st.floats(0.5, 1))
def test_a_disc_is_found_where_it_is_and_as_large_as_it_is(x: float, y: float, scale: float, ratio: float) -> None:
    found = find_galaxy(make_disc((x, y), scale, ratio=ratio))
    assert found
    assert found[:2] == pytest.approx((x, y), abs=0.3)
    assert found[2] == pytest.approx(2 * PETROSIAN * scale, rel=0.12)


def test_the_petrosian_radius_of_a_disc_is_the_calculated_one() -> None:
    x, y = np.mgrid[-150:150, -150:150] + 0.5
    distances = np.hypot(x, y) / 25
    for scale in (0.6, 1.0, 1.4):
        radius = petrosian_radius(distances, np.exp(-distances / scale))
        assert radius == pytest.approx(PETROSIAN * scale, abs=0.06)
    assert petrosian_radius(distances, np.ones_like(distances)) == 6


def test_of_two_galaxies_the_one_in_the_middle_is_measured_and_the_other_left_out() -> None:
    alone = make_disc((64, 64), 4)
    together = np.maximum(alone, make_disc((84, 64), 3, seed=1))
    found, expected = find_galaxy(together), find_galaxy(alone)
    assert found
    assert expected
    assert found[:2] == pytest.approx(expected[:2], abs=0.5)
    assert found[2] == pytest.approx(expected[2], rel=0.15)


def test_a_flat_image_has_no_galaxy(subtests: pytest.Subtests) -> None:
    for level in [0, 128, 255]:
        with subtests.test(level=level):
            assert find_galaxy(np.full((SIZE_PX, SIZE_PX, 3), level, np.uint8)) is None


@given(st.integers(0, 99), st.sampled_from([1, 20, 300]))
@settings(max_examples=10)
def test_whatever_is_found_in_noise_is_within_the_image_and_has_a_size(seed: int, sigma: int) -> None:
    noise = np.random.default_rng(seed).normal(128, sigma, (SIZE_PX, SIZE_PX, 3))
    if found := find_galaxy(np.clip(noise, 0, 255).astype(np.uint8)):
        assert 0 < found[0] < SIZE_PX
        assert 0 < found[1] < SIZE_PX
        assert 0 < found[2] < np.inf


@pytest.fixture
def make_set(tmp_path: Path, whole_download: Download) -> Callable[..., Path]:
    """A folder of shards of the training images given, and as many test images."""

    def make(*images: np.ndarray) -> Path:
        ids = list(whole_download.train)[: len(images)]
        jpegs = [simplejpeg.encode_jpeg(image, 95) for image in images]
        rows = [row for row in whole_download.rows if row[0] in {whole_download.rows[0][0], *ids}]
        test = {f"9{each}": jpeg for each, jpeg in zip(ids, jpegs, strict=True)}
        source = Download(dict(zip(ids, jpegs, strict=True)), test, rows).write_folder(tmp_path / "kaggle")
        result = pack(source, tmp_path / "shards", "--shards", "2")
        assert result.exit_code == 0, result.stderr
        return tmp_path / "shards"

    return make


def test_every_image_of_all_splits_has_its_row_whatever_the_number_of_workers(
    make_set: Callable[..., Path],
) -> None:
    centres = [(28 + i, 40 - 2 * i) for i in range(6)]
    out = make_set(*(make_disc(centre, 2.5, size=SIZE_PX) for centre in centres))
    result = run("objects", out, "--workers", 1)
    assert result.exit_code == 0
    assert "12 galaxies, median offset from the middle" in result.stdout
    ids = sorted(packed_samples(out, "train"))
    objects = read_objects(out, read_manifest(out).set_sha256, [*ids, *(f"9{each}" for each in ids)])
    np.testing.assert_allclose(objects.centres_px, centres * 2, atol=0.3)
    rows = list(csv.reader((out / "objects.csv").read_text().splitlines()[2:]))
    assert [row[0] for row in rows] == [*packed_samples(out, "train"), *packed_samples(out, "test")]
    alone = (out / "objects.csv").read_bytes()
    assert run("objects", out, "--workers", 2, "--overwrite").exit_code == 0
    assert (out / "objects.csv").read_bytes() == alone
    assert run("lint", out, "--deep", "--workers", 1).exit_code == 0


def test_where_nothing_is_found_an_image_gets_the_middle_and_the_median_and_is_counted(
    make_set: Callable[..., Path],
) -> None:
    flat = np.full((SIZE_PX, SIZE_PX, 3), 9, np.uint8)
    out = make_set(flat, *(make_disc((32, 32), scale, size=SIZE_PX) for scale in (2, 2.5, 3)))
    result = run("objects", out, "--workers", 1)
    assert "not found: 2; they get the middle" in result.stderr
    ids = sorted(packed_samples(out, "train"))
    objects = read_objects(out, read_manifest(out).set_sha256, ids)
    assert objects.centres_px[0].tolist() == [32, 32]
    assert objects.radii_px[0] == objects.radii_px[2]
    assert objects.radii_px[1] < objects.radii_px[2] < objects.radii_px[3]


def test_a_set_without_any_galaxy_is_an_error(make_set: Callable[..., Path]) -> None:
    out = make_set(np.zeros((SIZE_PX, SIZE_PX, 3), np.uint8))
    before = contents(out)
    result = run("objects", out, "--workers", 1)
    assert result.exit_code == 1
    assert "no galaxy stands out in any image" in result.stderr
    assert contents(out) == before


def test_what_was_measured_is_replaced_only_when_asked_to(packed: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(packed, tmp_path / "shards"))
    (out / "objects.csv").write_text("mine")
    result = run("objects", out)
    assert result.exit_code == 1
    assert "exists already; replace it with --overwrite" in result.stderr
    assert (out / "objects.csv").read_text() == "mine"


def test_a_damaged_image_is_named(make_set: Callable[..., Path]) -> None:
    out = make_set(*(make_disc((32, 32), scale, size=SIZE_PX) for scale in (2, 3)))
    tar = min(out.glob("train-*.tar"))
    data = tar.read_bytes()
    at = data.index(b"\xff\xd8") + 700
    tar.write_bytes(data[:at] + b"\0" * 200 + data[at + 200 :])
    result = run("objects", out, "--workers", 1)
    assert result.exit_code == 1
    assert f"{tar}: " in result.stderr
    assert "damaged JPEG" in result.stderr
    assert not (out / "objects.csv").exists()


def test_without_sep_the_error_says_what_to_install(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sep", None)
    result = run("objects", packed)
    assert result.exit_code == 1
    assert "pip install sep" in result.stderr
