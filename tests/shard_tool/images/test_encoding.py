"""Images that are no JPEGs, or of other sizes, in shards of one size."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg
from kaggle_download import contents, jpeg, pack, packed_samples, rejected, run

from galaxy_zoo.errors import ImageError
from galaxy_zoo.manifest import read_manifest
from shard_tool.images.encoding import Encoding
from shard_tool.images.fits import Stretch


def picture(height: int, width: int) -> np.ndarray:
    """Smooth colours, which a JPEG keeps nearly as they are."""
    y, x = np.mgrid[:height, :width]
    return np.stack([40 + 3 * x // 2, 200 - y, 90 + (x + y) // 2], axis=2).astype(np.uint8)


def png(pixels: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".png", pixels[..., ::-1])[1].tobytes())


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def decoded(out: Path) -> dict[str, np.ndarray]:
    return {name: simplejpeg.decode_jpeg(sample["jpg"]) for name, sample in packed_samples(out, "test").items()}


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """JPEGs of two sizes, and PNGs of one more."""
    files = {f"large{i}.jpg": jpeg(i) for i in range(4)} | {f"small{i}.jpeg": jpeg(i, size=48) for i in range(4)}
    return write(tmp_path / "mixed", {**files, **{f"png{i}.PNG": png(picture(32, 32)) for i in range(4)}})


def test_a_png_becomes_a_jpeg_of_the_quality_the_manifest_states_and_jpegs_stay(tmp_path: Path) -> None:
    source = write(tmp_path / "source", {"a.png": png(picture(64, 64)), "b.jpg": jpeg(1)})
    assert pack(source, tmp_path / "out").exit_code == 0
    assert pack(source, tmp_path / "poor", "--quality", 30).exit_code == 0
    samples, poor = packed_samples(tmp_path / "out", "test"), packed_samples(tmp_path / "poor", "test")
    assert samples["b"]["jpg"] == poor["b"]["jpg"] == jpeg(1)
    assert len(poor["a"]["jpg"]) < len(samples["a"]["jpg"])
    off = np.abs(decoded(tmp_path / "out")["a"].astype(int) - picture(64, 64))
    assert (off.mean() < 1, off.max() < 6) == (True, True)
    encoding = {"quality": 30, "subsampling": "4:4:4", "resize_px": None, "pad_px": None, "fits_asinh": None}
    assert read_manifest(tmp_path / "poor").encoding == encoding
    assert run("lint", tmp_path / "out", "--workers", 1).exit_code == 0


def test_where_nothing_is_encoded_the_manifest_says_so(packed: Path) -> None:
    assert read_manifest(packed).encoding is None
    data = json.loads((packed / "manifest.json").read_text())
    assert data.pop("encoding") is None  # and one from before there was such a field is read all the same
    (old := packed.parent / "old").mkdir()
    (old / "manifest.json").write_text(json.dumps(data))
    assert read_manifest(old) == read_manifest(packed)


@pytest.mark.parametrize(("options", "side"), [(("--resize", 40), 40), (("--pad", 70), 70), (("--pad", 64), 64)])
def test_images_of_several_sizes_are_packed_at_one(options: tuple, side: int, mixed: Path, tmp_path: Path) -> None:
    refused = pack(mixed, tmp_path / "refused")
    assert (refused.exit_code, len(rejected(tmp_path / "refused"))) == (1, 8)
    result = pack(mixed, tmp_path / "out", *options)
    assert result.exit_code == 0, result.stderr
    images = decoded(tmp_path / "out")
    assert len(images) == 12
    assert {image.shape for image in images.values()} == {(side, side, 3)}
    assert read_manifest(tmp_path / "out").image_px == (side, side)
    assert run("lint", tmp_path / "out", "--workers", 1).exit_code == 0


def test_a_jpeg_that_has_the_size_already_keeps_its_bytes(mixed: Path, tmp_path: Path) -> None:
    assert pack(mixed, tmp_path / "out", "--resize", 48).exit_code == 0
    samples = packed_samples(tmp_path / "out", "test")
    assert all(samples[f"small{i}"]["jpg"] == jpeg(i, size=48) for i in range(4))


def test_encoded_shards_are_byte_identical_for_any_number_of_workers(mixed: Path, tmp_path: Path) -> None:
    for workers in (1, 3):
        assert pack(mixed, tmp_path / f"{workers}", "--resize", 50, "--workers", workers).exit_code == 0
    assert contents(tmp_path / "1") == contents(tmp_path / "3")


def test_padding_centres_and_resizing_averages() -> None:
    flat = png(np.full((20, 10, 3), 200, np.uint8))
    padded = simplejpeg.decode_jpeg(Encoding(quality=100, pad_px=41).to_jpeg("a.png", flat)).astype(int)
    inside = np.zeros((41, 41, 3), bool)
    inside[10:30, 15:25] = True
    assert np.abs(padded[inside] - 200).max() < 4
    assert padded[~inside].max() < 4
    stripes = np.zeros((60, 60, 3), np.uint8)
    stripes[:, ::2] = 200
    half = simplejpeg.decode_jpeg(Encoding(quality=100, resize_px=30).to_jpeg("a.png", png(stripes))).astype(int)
    assert np.abs(half - 100).max() < 4
    both = Encoding(quality=100, resize_px=20, pad_px=40).to_jpeg("a.png", flat)
    assert simplejpeg.decode_jpeg(both)[10, 10].min() > 180


@pytest.mark.parametrize(
    ("name", "data", "options", "reason"),
    [
        ("x.png", png(picture(64, 32)), (), "32 x 64 pixels, the others have 64 x 64"),
        ("x.png", png(picture(64, 32)), ("--resize", "30"), "32 x 64 pixels, not square; give --pad as well"),
        ("x.jpg", jpeg(1, size=80), ("--pad", "64"), "80 x 80 pixels, larger than --pad 64"),
        ("x.jpg", jpeg(1)[:-500], ("--resize", "30"), "damaged JPEG: Premature end of JPEG file"),
        ("x.jpg", jpeg(1, size=30)[:-100], ("--resize", "30"), "damaged JPEG: Premature end of JPEG file"),
        ("x.jpg", jpeg(1, colour_space="GRAY"), ("--resize", "30"), "not a colour JPEG"),
        ("x.jpg", b"", ("--resize", "30"), "empty file"),
        ("x.png", b"", (), "empty file"),
        ("x.png", jpeg(1), (), "not a PNG: it begins with ff d8"),
        ("x.jpg", png(picture(64, 64)), (), "not a JPEG: it begins with 89 50"),
        ("x.png", png(picture(64, 64))[:-9], (), "damaged PNG: it is cut off"),
    ],
)
def test_an_image_that_cannot_be_encoded_is_rejected_and_the_rest_is_whole(
    name: str, data: bytes, options: tuple[str, ...], reason: str, tmp_path: Path
) -> None:
    source = write(tmp_path / "source", {f"{i}.jpg": jpeg(i) for i in range(5)} | {name: data})
    out = tmp_path / "out"
    result = pack(source, out, *options)
    assert result.exit_code == 1
    assert f"rejected: test x ({name}): {reason}" in result.stderr
    assert set(packed_samples(out, "test")) == {str(i) for i in range(5)}
    assert pack(source, out, *options, "--allow-rejects", 1, "--overwrite").exit_code == 0


def test_a_jpeg_that_says_it_is_huge_is_not_decoded_to_be_scaled() -> None:
    huge = bytearray(jpeg(1))
    at = huge.index(b"\xff\xc0")
    huge[at + 5 : at + 9] = b"\xfd\xe8\xfd\xe8"
    with pytest.raises(ImageError, match="65000 x 65000 pixels; a side may have"):
        Encoding(resize_px=30).to_jpeg("x.jpg", bytes(huge))


@pytest.mark.parametrize("option", [("--quality", "50"), ("--resize", "33"), ("--pad", "99")])
def test_resuming_with_another_encoding_is_refused(
    option: tuple[str, str], mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("shard_tool.shards.packing._manifest", interrupt)
        assert pack(mixed, tmp_path / "out", "--pad", 70).exit_code == 130
    before = {name: data for name, data in contents(tmp_path / "out").items() if name.endswith(".tar")}
    result = pack(mixed, tmp_path / "out", "--resume", *(("--pad", 70) if option[0] != "--pad" else ()), *option)
    assert result.exit_code == 1
    assert "has changed: size and quality of images" in result.stderr or ", size and quality" in result.stderr
    assert {n: d for n, d in contents(tmp_path / "out").items() if n.endswith(".tar")} == before
    assert pack(mixed, tmp_path / "out", "--resume", "--pad", 70).exit_code == 0
    assert pack(mixed, tmp_path / "unbroken", "--pad", 70).exit_code == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "unbroken")


@pytest.mark.parametrize(
    "option", [("--quality", "0"), ("--quality", "101"), ("--resize", "0"), ("--pad", "9999")]
)
def test_an_impossible_encoding_is_wrong_usage(option: tuple[str, str], mixed: Path, tmp_path: Path) -> None:
    result = pack(mixed, tmp_path / "out", *option)
    assert result.exit_code == 2
    assert option[0] in result.stderr


@pytest.mark.parametrize("option", [("--quality", "50"), ("--resize", "33"), ("--pad", "99")])
def test_a_finished_pack_is_not_taken_for_one_with_another_encoding(
    option: tuple[str, str], mixed: Path, tmp_path: Path
) -> None:
    assert pack(mixed, tmp_path / "out", "--pad", 70).exit_code == 0
    assert pack(mixed, tmp_path / "out", "--pad", 70, "--resume").exit_code == 0
    result = pack(mixed, tmp_path / "out", "--pad", 70, *option, "--resume")
    assert result.exit_code == 1
    assert "finished with other --quality, --resize, --pad or --fits options" in result.stderr


@pytest.mark.parametrize(
    "encoding", [Encoding(), Encoding(quality=80, resize_px=20, pad_px=30), Encoding(fits=Stretch(-0.5, 2, 7))]
)
def test_an_encoding_comes_back_from_what_a_manifest_states(encoding: Encoding) -> None:
    stated = json.loads(json.dumps(encoding.to_dict()))
    assert Encoding.of_stated(stated) == encoding
    assert encoding.is_stated(stated)


def test_info_shows_how_images_were_encoded(mixed: Path, tmp_path: Path) -> None:
    assert pack(mixed, tmp_path / "out", "--pad", 70).exit_code == 0
    assert "quality 95, subsampling 4:4:4, pad_px 70\n" in run("info", tmp_path / "out").stdout
