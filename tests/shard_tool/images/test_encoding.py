"""Images that are no JPEGs, or of other sizes, in shards of one size."""

import io
import json
import re
import shutil
import struct
import tarfile
import tracemalloc
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg
from kaggle_download import contents, jpeg, pack, packed_samples, rejected, run

from galaxy_zoo.errors import ImageError
from galaxy_zoo.manifest import read_manifest
from shard_tool.images.encoding import Encoding, size_of
from shard_tool.images.fits import Stretch
from shard_tool.images.jpeg import check_header, check_strictly, decode_strictly
from shard_tool.shards.reader import read_component
from shard_tool.shards.tar_walk import walk_tar


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


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """JPEGs of two sizes, and PNGs of one more; not to be changed."""
    files = {f"large{i}.jpg": jpeg(i) for i in range(4)} | {f"small{i}.jpeg": jpeg(i, size=48) for i in range(4)}
    files |= {f"png{i}.PNG": png(picture(32, 32)) for i in range(4)}
    return write(tmp_path_factory.mktemp("source") / "mixed", files)


@pytest.fixture(scope="module")
def padded(mixed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `mixed` is packed to with --pad 70; not to be changed."""
    out = tmp_path_factory.mktemp("padded") / "out"
    assert pack(mixed, out, "--pad", 70).exit_code == 0
    return out


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


def test_images_of_several_sizes_are_packed_at_one_and_jpegs_of_that_size_keep_their_bytes(
    mixed: Path, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    refused = pack(mixed, tmp_path / "refused")
    assert (refused.exit_code, len(rejected(tmp_path / "refused"))) == (1, 8)
    for option, side in (("--resize", 40), ("--resize", 48), ("--pad", 70), ("--pad", 64)):
        with subtests.test(option=option, side=side):
            out = tmp_path / f"{side}"
            result = pack(mixed, out, option, side)
            assert result.exit_code == 0, result.stderr
            images = decoded(out)
            assert len(images) == 12
            assert {image.shape for image in images.values()} == {(side, side, 3)}
            assert read_manifest(out).image_px == (side, side)
            assert run("lint", out, "--workers", 1).exit_code == 0
    samples = packed_samples(tmp_path / "48", "test")
    assert all(samples[f"small{i}"]["jpg"] == jpeg(i, size=48) for i in range(4))


def test_an_image_is_what_its_content_says_and_the_manifest_says_that_it_was_encoded(tmp_path: Path) -> None:
    files = {"a.jpg": png(picture(64, 64)), "b.png": jpeg(1), "c.jpg": jpeg(2)}
    source = write(tmp_path / "source", files)
    result = pack(source, tmp_path / "out", "--quality", 90)
    assert result.exit_code == 0, result.stderr
    samples = packed_samples(tmp_path / "out", "test")
    assert (samples["b"]["jpg"], samples["c"]["jpg"]) == (jpeg(1), jpeg(2))
    assert np.abs(decoded(tmp_path / "out")["a"].astype(int) - picture(64, 64)).mean() < 1
    (only := tmp_path / "only").mkdir()
    for name in ("a.jpg", "c.jpg"):
        (only / name).write_bytes(files[name])
    assert pack(only, tmp_path / "named", "--quality", 90).exit_code == 0
    encoding = read_manifest(tmp_path / "named").encoding
    assert encoding is not None
    assert encoding["quality"] == 90
    assert pack(only, tmp_path / "named", "--quality", 80, "--resume").exit_code == 1


def test_padding_then_resizing_keeps_one_scale_whatever_the_size_was(subtests: pytest.Subtests) -> None:
    """A bar of a quarter of the padded side is a quarter of the JPEG."""
    for side in [32, 50, 64, 80]:
        with subtests.test(side=side):
            image = np.zeros((side, side, 3), np.uint8)
            image[:, side // 2 - 8 : side // 2 + 8] = 250
            jpeg_of = {
                "JPEG": bytes(simplejpeg.encode_jpeg(image, 95, "RGB", "444")),
                "PNG": png(image),
            }
            for data in jpeg_of.values():
                pixels = simplejpeg.decode_jpeg(Encoding(pad_px=80, resize_px=40).to_jpeg(data))
                assert pixels.shape == (40, 40, 3)
                assert int((pixels[20, :, 1] > 125).sum()) == pytest.approx(8, abs=1)


def test_encoded_shards_are_byte_identical_for_any_number_of_workers(mixed: Path, tmp_path: Path) -> None:
    for workers in (1, 3):
        assert pack(mixed, tmp_path / f"{workers}", "--resize", 50, "--workers", workers).exit_code == 0
    assert contents(tmp_path / "1") == contents(tmp_path / "3")


def test_padding_centres_and_resizing_averages() -> None:
    flat = png(np.full((20, 10, 3), 200, np.uint8))
    padded = simplejpeg.decode_jpeg(Encoding(quality=100, pad_px=41).to_jpeg(flat)).astype(int)
    inside = np.zeros((41, 41, 3), bool)
    inside[10:30, 15:25] = True
    assert np.abs(padded[inside] - 200).max() < 4
    assert padded[~inside].max() < 4
    stripes = np.zeros((60, 60, 3), np.uint8)
    stripes[:, ::2] = 200
    half = simplejpeg.decode_jpeg(Encoding(quality=100, resize_px=30).to_jpeg(png(stripes))).astype(int)
    assert np.abs(half - 100).max() < 4
    both = Encoding(quality=100, resize_px=20, pad_px=40).to_jpeg(flat)
    assert simplejpeg.decode_jpeg(both)[10, 10].min() > 180


UNFIT = [
    ("x.png", png(picture(64, 32)), (), "32 x 64 pixels, the others have 64 x 64"),
    (
        "x.png",
        png(picture(64, 32)),
        ("--resize", "30"),
        "32 x 64 pixels, not square; pad it as well (shard_tool pack --pad)",
    ),
    ("x.jpg", jpeg(1, size=80), ("--pad", "64"), "80 x 80 pixels, larger than the 64 to pad to"),
    ("x.jpg", jpeg(1)[:-500], ("--resize", "30"), "damaged JPEG: Premature end of JPEG file"),
    ("x.jpg", jpeg(1, size=30)[:-100], ("--resize", "30"), "damaged JPEG: Premature end of JPEG file"),
    ("x.jpg", jpeg(1, colour_space="GRAY"), ("--resize", "30"), "not a colour JPEG"),
    ("x.jpg", b"", ("--resize", "30"), "empty file"),
    ("x.png", b"", (), "empty file"),
    (
        "x.jpg",
        b"GIF89a" + bytes(99),
        (),
        "not a JPEG, PNG or FITS image: it is a GIF; convert it to JPEG or PNG",
    ),
    ("x.png", b"II*\0" + bytes(99), (), "not a JPEG, PNG or FITS image: it is a TIFF; convert it"),
    ("x.jpg", b"<!DOCTYPE html>", (), "not a JPEG, PNG or FITS image: it is a web page"),
    ("x.jpg", b"galaxy", (), "not a JPEG, PNG or FITS image: it begins with 67 61 6c 61"),
    ("x.jpg", b"SIMPLE  =" + bytes(2871), (), "a FITS image by its content; rename it to .fits"),
    ("x.png", png(picture(64, 64))[:-9], (), "damaged PNG: it is cut off"),
]


def test_an_image_that_cannot_be_encoded_is_rejected_and_the_rest_is_whole(
    tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for name, data, options, reason in UNFIT:
        with subtests.test(reason):
            folder = tmp_path_factory.mktemp("case")
            source = write(folder / "source", {f"{i}.jpg": jpeg(i) for i in range(5)} | {name: data})
            out = folder / "out"
            result = pack(source, out, *options)
            assert result.exit_code == 1
            assert f"rejected: test x ({name}): {reason}" in result.stderr
            assert set(packed_samples(out, "test")) == {str(i) for i in range(5)}
            assert pack(source, out, *options, "--allow-rejects", 1, "--overwrite").exit_code == 0


def saying(data: bytes, height: int, width: int) -> bytes:
    """A JPEG or PNG whose header says another size."""
    if data.startswith(b"\xff\xd8"):
        at = data.index(b"\xff\xc0") + 5
        return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]
    header = b"IHDR" + struct.pack(">II", width, height) + data[24:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


SIZES_AND_WORDS = [
    ((65500, 65500), "65500 x 65500 pixels; a side may have 1 to 8192"),
    ((1, 65500), "65500 x 1 pixels; a side may have"),
    ((8192, 8192), "8192 x 8192 pixels in .* bytes, which cannot hold them"),
]


def test_an_image_that_says_it_is_huge_is_never_decoded(subtests: pytest.Subtests) -> None:
    for data in [jpeg(1), png(picture(64, 64))]:
        for size, words in SIZES_AND_WORDS:
            with subtests.test(size=size, data=data[:4]):
                bomb = saying(data, *size)
                readers = [Encoding(resize_px=30).to_jpeg, size_of]
                if data == jpeg(1):
                    strict = (decode_strictly, check_strictly, check_header)
                    readers += [lambda data, read=read, size=size: read(data, size) for read in strict]
                for read in readers:
                    tracemalloc.start()
                    with pytest.raises(ImageError, match=words):
                        read(bomb)
                    _, most = tracemalloc.get_traced_memory()
                    tracemalloc.stop()
                    assert most < 2**20


def test_a_jpeg_of_countless_scans_is_never_decoded() -> None:
    scan = jpeg(1)[jpeg(1).rindex(b"\xff\xda") : -2]
    bomb = saying(jpeg(1)[:-2] + scan * 2000 + b"\xff\xd9", 1024, 1024)
    with pytest.raises(ImageError, match="1024 x 1024 pixels in 2,001 scans; save it again with fewer"):
        check_strictly(bomb, (1024, 1024))


def test_pack_index_lint_and_preview_refuse_huge_images_by_name(tmp_path: Path) -> None:
    bomb = saying(jpeg(1), 65500, 65500)
    source = write(tmp_path / "source", {f"{i}.jpg": bomb for i in range(3)})
    assert "none of 3 images looked at can be read" in pack(source, tmp_path / "out").stderr
    (source / "good.jpg").write_bytes(jpeg(1))
    result = pack(source, tmp_path / "out")
    assert (result.exit_code, len(rejected(tmp_path / "out"))) == (1, 3)
    assert "65500 x 65500 pixels; a side may have" in result.stderr
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    with tarfile.open(foreign / "train-0.tar", "w") as tar:
        for name, data in (("a.jpg", jpeg(1)), ("b.jpg", bomb)):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    result = run("index", foreign, "--workers", 1)
    assert (result.exit_code, "65500 x 65500 pixels; a side may have" in result.output) == (1, True)


ANOTHER_ENCODING = [("--pad", 70, "--quality", 50), ("--pad", 70, "--resize", 33), ("--pad", 99)]


def test_resuming_with_another_encoding_is_refused(
    mixed: Path, padded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("shard_tool.shards.packing._manifest", interrupt)
        assert pack(mixed, out, "--pad", 70).exit_code == 130
    before = {name: data for name, data in contents(out).items() if name.endswith(".tar")}
    for options in ANOTHER_ENCODING:
        with subtests.test(options=options):
            result = pack(mixed, out, "--resume", *options)
            assert result.exit_code == 1
            assert re.search("(has changed: |, )size and quality of images", result.stderr)
            assert {name: data for name, data in contents(out).items() if name.endswith(".tar")} == before
    assert pack(mixed, out, "--resume", "--pad", 70).exit_code == 0
    assert contents(out) == contents(padded)


def test_a_finished_pack_is_not_taken_for_one_with_another_encoding(
    mixed: Path, padded: Path, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    out = Path(shutil.copytree(padded, tmp_path / "out"))
    assert pack(mixed, out, "--pad", 70, "--resume").exit_code == 0
    for options in ANOTHER_ENCODING:
        with subtests.test(options=options):
            result = pack(mixed, out, *options, "--resume")
            assert result.exit_code == 1
            says = "finished with other --quality, --resize, --pad, --fits-range or --fits-softening"
            assert says in result.stderr


ENCODINGS = [Encoding(), Encoding(quality=80, resize_px=20, pad_px=30), Encoding(fits=Stretch(-0.5, 2, 7))]


def test_an_encoding_comes_back_from_what_a_manifest_states(subtests: pytest.Subtests) -> None:
    for encoding in ENCODINGS:
        with subtests.test(encoding=encoding):
            stated = json.loads(json.dumps(encoding.to_dict()))
            assert Encoding.of_stated(stated) == encoding
            assert encoding.is_stated(stated)


def test_info_shows_how_images_were_encoded(padded: Path) -> None:
    assert "quality 95, subsampling 4:4:4, pad_px 70\n" in run("info", padded).stdout


def test_no_file_larger_than_an_image_is_read_into_memory(tmp_path: Path) -> None:
    """Files and members of tars with holes, which take no room on the disk."""
    size = 2**40
    source = write(tmp_path / "source", {"a.jpg": jpeg(1), "b.jpg": jpeg(2)})
    with (source / "hole.jpg").open("wb") as file:
        file.truncate(size)
    result = pack(source, tmp_path / "out")
    assert (result.exit_code, f"hole.jpg): {size:,} bytes; an image may have" in result.stderr) == (1, True)
    member = tarfile.TarInfo("a.jpg")
    member.size = size
    with (tmp_path / "train-0.tar").open("wb") as file:
        file.write(member.tobuf(tarfile.GNU_FORMAT))
        file.truncate(512 + size + 1024)
    [sample] = walk_tar(tmp_path / "train-0.tar").samples
    with (
        (tmp_path / "train-0.tar").open("rb") as file,
        pytest.raises(ImageError, match="bytes; an image may have"),
    ):
        read_component(file, sample[0])
