"""Images that are predicted without having been packed."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import simplejpeg
from making import NUM_TEST, NUM_TRAIN, make_image
from PIL import Image
from predicting import predicted, read, run, stop_after

from galaxy_zoo.tree import load_tree
from galaxy_zoo.walk import describe_walk

TREE = load_tree("gz2-kaggle")


def test_a_folder_of_images_is_predicted_as_shards_of_them_are(
    runs: dict[str, Path], shards: Path, kaggle_folder: Path, tmp_path: Path
) -> None:
    table = predicted(tmp_path / "images.csv", runs["tree"], kaggle_folder / "images_test_rev1", "--views", 2)
    expected = predicted(tmp_path / "shards.csv", runs["tree"], shards, "--views", 2)
    pd.testing.assert_frame_equal(table, expected, atol=1e-6, rtol=0)


def test_a_folder_of_training_images_needs_no_votes(
    runs: dict[str, Path], kaggle_folder: Path, tmp_path: Path
) -> None:
    folder = kaggle_folder / "images_training_rev1"
    assert len(predicted(tmp_path / "images.csv", runs["tree"], folder)) == NUM_TRAIN


def test_one_image_is_walked_down_the_tree(runs: dict[str, Path], kaggle_folder: Path, tmp_path: Path) -> None:
    path = next((kaggle_folder / "images_test_rev1").iterdir())
    result = run(runs["tree"], path, "--out", tmp_path / "s.csv")
    assert result.exit_code == 0, result.output
    votes = read(tmp_path / "s.csv").loc[path.stem].to_numpy()
    assert f"{path.stem}: {describe_walk(votes, TREE)}" in result.stdout
    assert "warning" not in result.output


def test_broken_images_are_named_and_the_others_predicted(
    runs: dict[str, Path], kaggle_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    good = next((kaggle_folder / "images_test_rev1").iterdir())
    shutil.copy(good, folder / "1.jpg")
    (folder / "2.jpg").write_bytes(good.read_bytes()[:-400])
    pixels = make_image(np.random.default_rng(0))
    Image.fromarray(pixels).save(folder / "3.png")
    (folder / "4.jpg").write_bytes(simplejpeg.encode_jpeg(make_image(np.random.default_rng(0), 48)))
    out = tmp_path / "s.csv"
    result = run(runs["tree"], folder, "--out", out)
    assert result.exit_code == 1
    assert "not predicted: 2.jpg: damaged JPEG" in result.stderr
    assert "not predicted: 4.jpg: 48 x 48 pixels" in result.stderr
    assert "are scaled with --resize" in result.stderr
    assert f"{folder}: 2 images could not be used, see above; repair or remove them; {out}" in result.stderr
    assert read(tmp_path / "s.csv").index.tolist() == ["1", "3"]
    result = run(runs["tree"], folder, "--out", tmp_path / "s.csv", "--resize")
    assert result.exit_code == 1
    assert read(tmp_path / "s.csv").index.tolist() == ["1", "3", "4"]


def test_a_folder_that_is_written_into_goes_on_too(
    runs: dict[str, Path], kaggle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shards packed for the time of a prediction lie in OUT.parts, which are no images to predict."""
    shutil.copytree(kaggle_folder / "images_test_rev1", tmp_path, dirs_exist_ok=True)
    with monkeypatch.context() as context:
        stop_after(context, 1)
        assert run(runs["tree"], tmp_path, "--batch-size", 1, "--out", tmp_path / "s.csv").exit_code == 130
    assert (tmp_path / "s.csv.parts" / "images" / "test-000000.tar").exists()
    result = run(runs["tree"], tmp_path, "--batch-size", 1, "--out", tmp_path / "s.csv")
    assert result.exit_code == 0, result.output
    assert "resuming from " in result.stderr
    assert len(read(tmp_path / "s.csv")) == NUM_TEST


def test_an_image_alone_that_is_broken_is_an_error(
    runs: dict[str, Path], kaggle_folder: Path, tmp_path: Path
) -> None:
    good = next((kaggle_folder / "images_test_rev1").iterdir())
    (tmp_path / "9.jpg").write_bytes(good.read_bytes()[:-400])
    result = run(runs["tree"], tmp_path / "9.jpg", "--out", tmp_path / "s.csv")
    assert result.exit_code == 1
    assert "no image can be used: 9.jpg: damaged JPEG" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["9.jpg"]
