"""`shard_tool synth` writes the layout of the Kaggle download, the same bytes for the same seed."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import simplejpeg
from click.testing import CliRunner, Result

from galaxy_zoo.tree import load_tree
from shard_tool.commands.synth import MARKER_NAME, MAX_SAMPLES, draw_ids, synth, write_galaxies

COUNT, TEST = 70, 10  # more than one chunk
TRAIN_FOLDER, TEST_FOLDER = "images_training_rev1", "images_test_rev1"
TRAIN_TABLE, TEST_TABLE = "training_solutions_rev1.csv", "synthetic_test_truth.csv"


def run(*options: object) -> Result:
    return CliRunner().invoke(synth, [str(option) for option in options])


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder by their relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synth") / "one"
    write_galaxies(out, count=COUNT, test=TEST, seed=1)
    return out


def ids_of(folder: Path) -> list[int]:
    return sorted(int(path.stem) for path in folder.glob("*.jpg"))


def test_the_number_of_workers_does_not_change_a_byte(written: Path, tmp_path: Path) -> None:
    write_galaxies(tmp_path / "two", count=COUNT, test=TEST, seed=1, workers=2)
    assert contents(tmp_path / "two") == contents(written)


def test_no_two_images_are_the_same_nor_those_of_another_seed(written: Path, tmp_path: Path) -> None:
    write_galaxies(tmp_path / "other", count=3, test=1, seed=2)
    images = [path.read_bytes() for folder in (written, tmp_path / "other") for path in folder.rglob("*.jpg")]
    assert len(set(images)) == len(images) == COUNT + TEST + 4


def test_a_smaller_set_is_the_start_of_a_larger_one(written: Path, tmp_path: Path) -> None:
    write_galaxies(tmp_path, count=5, test=2, seed=1)
    small, large = contents(tmp_path), contents(written)
    assert all(large[name] == image for name, image in small.items() if name.endswith(".jpg"))


def test_the_layout_is_that_of_the_kaggle_download(written: Path) -> None:
    assert {path.name for path in written.iterdir()} == {
        *(TRAIN_FOLDER, TRAIN_TABLE, TEST_FOLDER, TEST_TABLE),
        MARKER_NAME,
    }
    assert len(ids_of(written / TRAIN_FOLDER)) == COUNT
    assert len(ids_of(written / TEST_FOLDER)) == TEST


def test_a_table_has_the_ids_of_its_images_ascending(written: Path, subtests: pytest.Subtests) -> None:
    for table, folder in [(TRAIN_TABLE, TRAIN_FOLDER), (TEST_TABLE, TEST_FOLDER)]:
        with subtests.test(table=table, folder=folder):
            votes = pd.read_csv(written / table)
            assert list(votes.columns) == ["GalaxyID", *load_tree("gz2-kaggle").columns]
            assert votes["GalaxyID"].tolist() == ids_of(written / folder)


def test_printed_votes_are_plain_decimals_that_keep_the_tree(written: Path) -> None:
    text = (written / TRAIN_TABLE).read_text()
    cells = [cell for line in text.splitlines()[1:] for cell in line.split(",")[1:]]
    assert all(len(cell.partition(".")[2]) <= 9 and set(cell) <= set("0123456789.") for cell in cells)
    tree = load_tree("gz2-kaggle")
    votes = pd.read_csv(written / TRAIN_TABLE)[list(tree.columns)].to_numpy()
    for columns, parent in zip(tree.slices, tree.parents, strict=True):
        asked = 1.0 if parent is None else votes[:, parent]
        np.testing.assert_allclose(votes[:, columns].sum(axis=1), asked, rtol=0.0, atol=1e-6)


def test_every_image_decodes_strictly_to_a_frame(written: Path) -> None:
    for path in written.rglob("*.jpg"):
        image = simplejpeg.decode_jpeg(path.read_bytes(), strict=True)
        assert image.shape == (424, 424, 3)


def test_ids_are_six_digits_in_kaggles_ranges_and_disjoint() -> None:
    train, test = draw_ids(5000, 5000, seed=4)
    assert not set(train) & set(test)
    assert len({*train, *test}) == 10000
    assert 100008 <= min(train) <= max(train) <= 999967
    assert 100018 <= min(test) <= max(test) <= 999996


def test_the_command_reports_on_stdout_and_shows_its_progress_on_stderr(tmp_path: Path) -> None:
    result = run(tmp_path / "out", "--count", 2, "--test", 1, "--seed", 3, "--workers", 1)
    assert result.exit_code == 0, result.output
    assert "2 galaxies" in result.stdout
    assert "synth: " in result.stderr and "images/s" in result.stderr


def test_a_folder_that_is_not_empty_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    result = run(tmp_path, "--count", 1)
    assert result.exit_code == 1
    assert "not empty" in result.stderr and "--overwrite" in result.stderr
    assert list(contents(tmp_path)) == ["mine.txt"]


def test_overwriting_replaces_the_galaxies_and_nothing_else(tmp_path: Path) -> None:
    write_galaxies(tmp_path, count=4, test=2, seed=1)
    (tmp_path / "mine.txt").write_text("keep")
    result = run(tmp_path, "--count", 2, "--seed", 9, "--workers", 1, "--overwrite")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "mine.txt").read_text() == "keep"
    assert len(ids_of(tmp_path / TRAIN_FOLDER)) == 2
    assert ids_of(tmp_path / TEST_FOLDER) == []


def test_files_that_synth_did_not_make_are_never_overwritten(written: Path, tmp_path: Path) -> None:
    download = shutil.copytree(written, tmp_path / "kaggle")
    (download / MARKER_NAME).unlink()
    before = contents(download)
    result = run(download, "--count", 2, "--workers", 1, "--overwrite")
    assert result.exit_code == 1
    assert "did not make" in result.stderr
    assert contents(download) == before


def test_an_interrupted_run_has_no_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_galaxies(tmp_path, count=1, test=1, seed=1)

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device", "100018.jpg")

    monkeypatch.setattr("shard_tool.commands.synth.draw_chunk", full_disk)
    result = run(tmp_path, "--count", 2, "--workers", 1, "--overwrite")
    assert result.exit_code == 1
    assert "No space left on device" in result.stderr and "Traceback" not in result.output
    assert not list(tmp_path.glob("*.csv"))


def test_a_place_that_cannot_be_a_folder_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run(tmp_path / "file" / "out", "--count", 1, "--workers", 1)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")


IMPOSSIBLE = [("--count", -1), ("--workers", 0), ("--test", "x"), ("--count", MAX_SAMPLES + 1)]


def test_impossible_options_are_wrong_usage(tmp_path: Path, subtests: pytest.Subtests) -> None:
    for options in IMPOSSIBLE:
        with subtests.test(options=options):
            result = run(tmp_path / "out", *options)
            assert result.exit_code == 2
            assert not (tmp_path / "out").exists()


def test_a_folder_that_a_link_leads_to_is_not_emptied(written: Path, tmp_path: Path) -> None:
    mine, out = shutil.copytree(written, tmp_path / "mine"), tmp_path / "out"
    write_galaxies(out, count=1, test=0, seed=1)
    shutil.rmtree(out / TRAIN_FOLDER)
    (out / TRAIN_FOLDER).symlink_to(mine / TRAIN_FOLDER)
    result = run(out, "--count", 2, "--workers", 1, "--overwrite")
    assert (result.exit_code, "is a symbolic link" in result.stderr) == (1, True)
    assert contents(mine) == contents(written)
