"""Galaxy10 DECaLS, or a file in its layout, as a source."""

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
from kaggle_download import contents, pack, packed_samples, rejected, run

from galaxy_zoo.manifest import read_manifest
from galaxy_zoo.tree import load_tree
from shard_tool.source import galaxy10
from shard_tool.source.options import PackOptions
from shard_tool.source.plan import make_plan

h5py = pytest.importorskip("h5py")
NUM_IMAGES, SIDE_PX = 23, 32
CHUNKED = {"chunks": (7, 8, 8, 1), "compression": "gzip"}
"""Chunks of several images, cut across: what `h5py` chooses by itself."""


def images() -> np.ndarray:
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX]
    each = np.arange(NUM_IMAGES)[:, None, None]
    return np.stack([x + 3 * each, 5 * y + each, 200 - x - y - 2 * each], axis=-1).clip(0, 255).astype(np.uint8)


def answers() -> np.ndarray:
    return (np.arange(NUM_IMAGES) * 3 % 10).astype(np.uint8)


def write(path: Path, *, images: Any = None, answers: Any = None, **options: Any) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=globals()["images"]() if images is None else images, **options)
        file.create_dataset("ans", data=globals()["answers"]() if answers is None else answers)
        file["redshift"] = np.zeros(NUM_IMAGES)
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write(tmp_path / "Galaxy10_DECals.h5", **CHUNKED)


def pack10(source: Path, out: Path, *options: object):
    return pack(source, out, "--tree", "galaxy10", *options)


def test_the_classes_of_the_other_survey_are_refused_by_the_size_of_the_images(
    tmp_path: Path, subtests: pytest.Subtests
) -> None:
    for side, right, wrong in ((69, "galaxy10-sdss", "galaxy10"), (256, "galaxy10", "galaxy10-sdss")):
        with subtests.test(right):
            out = tmp_path / right
            source = write(tmp_path / "a.h5", images=np.zeros((NUM_IMAGES, side, side, 3), np.uint8))
            refused = pack(source, out, "--tree", wrong)
            assert refused.exit_code == 1
            assert f"use shard_tool pack --tree {right}" in refused.stderr
            assert not out.exists()
            assert pack(source, out, "--tree", right).exit_code == 0
            tree = read_manifest(out).tree
            assert (tree.name, len(tree.columns)) == (right, 10)


def test_a_file_that_says_it_holds_more_images_than_bytes_is_refused_at_once(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("images", (10**12, 69, 69, 3), np.uint8, chunks=(1, 69, 69, 3))
        file.create_dataset("ans", (10**12,), np.uint8, chunks=(1024,))
    result = pack(tmp_path / "a.h5", tmp_path / "out", "--tree", "galaxy10-sdss")
    assert (result.exit_code, "1,000,000,000,000 images, more than it has bytes" in result.stderr) == (1, True)


def test_images_to_predict_are_test_images_without_votes(source: Path) -> None:
    plan = make_plan(PackOptions(source=source, tree=load_tree("galaxy10"), only_images=True))
    [cut] = plan.cuts
    assert (cut.split, cut.num_samples) == ("test", NUM_IMAGES)
    assert all(shard.votes is None for shard in plan.shards())


def test_every_image_is_packed_with_its_answer(source: Path, tmp_path: Path) -> None:
    result = pack10(source, tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    samples = packed_samples(tmp_path / "out", "train")
    assert set(samples) == {f"galaxy10-{row:06d}" for row in range(NUM_IMAGES)}
    for row in range(NUM_IMAGES):
        sample = samples[f"galaxy10-{row:06d}"]
        votes = np.load(io.BytesIO(sample["votes.npy"]))
        assert (votes.sum(), votes.argmax()) == (1, answers()[row])
        off = simplejpeg.decode_jpeg(sample["jpg"]).astype(int) - images()[row]
        assert np.abs(off).max() < 8
    manifest = read_manifest(tmp_path / "out")
    assert manifest.encoding is not None
    assert (manifest.image_px, manifest.encoding["quality"]) == ((SIDE_PX, SIDE_PX), 95)
    assert rejected(tmp_path / "out") == []
    assert run("lint", tmp_path / "out", "--workers", 1).exit_code == 0


def test_the_shards_do_not_depend_on_chunks_slices_or_workers(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pack10(source, tmp_path / "out").exit_code == 0
    assert pack10(source, tmp_path / "many", "--workers", 3).exit_code == 0
    assert pack10(write(tmp_path / "plain.h5"), tmp_path / "plain").exit_code == 0
    monkeypatch.setattr(galaxy10, "SLICE_BYTES", 10_000)
    assert pack10(source, tmp_path / "small").exit_code == 0
    for name in ("many", "plain", "small"):
        assert contents(tmp_path / name) == contents(tmp_path / "out")


def test_images_are_read_in_slices_and_never_as_a_whole(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, sizes = h5py.Dataset.__getitem__, []

    def spy(dataset: Any, key: Any) -> Any:
        result = read(dataset, key)
        sizes.append(len(result) if dataset.ndim == 4 else 0)
        return result

    monkeypatch.setattr(h5py.Dataset, "__getitem__", spy)
    assert pack10(source, tmp_path / "out").exit_code == 0
    assert max(sizes) == 7


def test_images_may_be_scaled(source: Path, tmp_path: Path) -> None:
    assert pack10(source, tmp_path / "out", "--resize", 20).exit_code == 0
    assert read_manifest(tmp_path / "out").image_px == (20, 20)


def test_an_interrupted_pack_resumes_to_the_same_bytes_and_notices_another_file(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("shard_tool.shards.packing._manifest", interrupt)
        assert pack10(source, tmp_path / "out").exit_code == 130
    (tmp_path / "out" / "train-000003.tar").unlink()
    assert pack10(source, tmp_path / "out", "--resume").exit_code == 0
    assert pack10(source, tmp_path / "unbroken").exit_code == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "unbroken")
    with monkeypatch.context() as patch:
        patch.setattr("shard_tool.shards.packing._manifest", interrupt)
        assert pack10(source, tmp_path / "again").exit_code == 130
    write(source)
    result = pack10(source, tmp_path / "again", "--resume")
    assert (result.exit_code, "has changed: images" in result.stderr) == (1, True)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:3000])


def _link(path: Path) -> None:
    path.unlink()
    with h5py.File(path, "w") as file:
        file["images"] = h5py.ExternalLink("/etc/passwd", "images")
        file["ans"] = answers()


def _external(path: Path) -> None:
    path.unlink()
    with h5py.File(path, "w") as file:
        shape = (NUM_IMAGES, SIDE_PX, SIDE_PX, 3)
        file.create_dataset("images", shape, np.uint8, external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])
        file["ans"] = answers()


def _group(path: Path) -> None:
    path.unlink()
    with h5py.File(path, "w") as file:
        file.create_group("images")
        file["ans"] = answers()


def _without(name: str) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        with h5py.File(path, "a") as file:
            del file[name]

    return spoil


def _with(**changes: Any) -> Callable[[Path], None]:
    return lambda path: write(path, **changes) and None


OTHER_LAYOUTS = [
    (Path.unlink, "there is no such"),
    (lambda path: path.write_bytes(b""), "not a whole HDF5 file"),
    (lambda path: path.write_bytes(b"noise" * 999), "not a whole HDF5 file"),
    (_cut, "not a whole HDF5 file"),
    (_without("images"), "has no dataset 'images', but ans, redshift"),
    (_without("ans"), "has no dataset 'ans', but images, redshift"),
    (_link, "'images' is a link; pack a file that holds its own data"),
    (_external, "'images' is no dataset with its own data"),
    (_group, "'images' is no dataset with its own data"),
    (_with(images=images().astype(np.float32)), "images are float32 of shape (23, 32, 32, 3)"),
    (_with(images=images()[..., 0]), "images are uint8 of shape (23, 32, 32)"),
    (_with(images=images()[:, :, :0]), "images of 0 x 32 pixels"),
    (_with(answers=answers()[1:]), "ans is uint8 of shape (22,); one integer for each of 23 images"),
    (_with(answers=answers() / 2), "ans is float64"),
    (_with(answers=answers() + 4), "ans[2] is 10, but tree 'galaxy10' has the answers 0 to 9"),
    (_with(answers=answers().astype(int) - 1), "ans[0] is -1"),
    (_with(images=images()[:0], answers=answers()[:0]), "one integer for each of 0 images"),
]


def test_another_layout_ends_it_before_anything_is_written(
    tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for spoil, message in OTHER_LAYOUTS:
        with subtests.test(message):
            folder = tmp_path_factory.mktemp("case")
            source = write(folder / "Galaxy10_DECals.h5", **CHUNKED)
            spoil(source)
            result = pack10(source, folder / "out")
            assert result.exit_code == 1
            assert message in result.stderr
            assert str(source) in result.stderr
            assert not (folder / "out").exists()


WRONG_OPTIONS = [
    (("--tree", "gz2-kaggle"), "use shard_tool pack --tree galaxy10"),
    (("--tree", "galaxy10", "--counts"), "holds its own answers"),
    (("--tree", "galaxy10", "--labels", "votes.csv"), "holds its own answers"),
    (("--tree", "galaxy10", "--pad", "20"), "32 x 32 pixels, larger than the 20 to pad to"),
]


def test_options_that_do_not_go_with_it_are_refused(
    source: Path, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    for options, message in WRONG_OPTIONS:
        with subtests.test(options=options):
            result = pack(source, tmp_path / "out", *options)
            assert result.exit_code == 1
            assert message in result.stderr
            assert not (tmp_path / "out").exists()


def test_a_damaged_chunk_is_an_error_that_names_the_file(source: Path, tmp_path: Path) -> None:
    with h5py.File(source) as file:
        chunk = file["images"].id.get_chunk_info(5)
    data = bytearray(source.read_bytes())
    data[chunk.byte_offset : chunk.byte_offset + chunk.size] = b"\xff" * chunk.size
    source.write_bytes(data)
    result = pack10(source, tmp_path / "out")
    assert result.exit_code == 1
    assert f"{source}: not a whole HDF5 file" in result.stderr
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_without_h5py_it_says_what_to_install(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    result = pack10(source, tmp_path / "out")
    assert result.exit_code == 1
    assert "pip install h5py" in result.stderr
