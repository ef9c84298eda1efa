"""`shard_tool preview` and `duplicates`: looking at what was packed."""

import shutil
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from kaggle_download import Download, contents, jpeg, make_download, pack, run

from galaxy_zoo.tree import load_tree
from shard_tool.shards.contact_sheet import Cell, balanced_columns, draw_samples, draw_sheet, main_votes

TREE = load_tree("gz2-kaggle")


def votes(**answers: float) -> np.ndarray:
    """Votes by column; the underscore of a name stands for the dot."""
    row = np.zeros(len(TREE.columns), np.float32)
    for name, vote in answers.items():
        row[TREE.columns.index(name.replace("_", "."))] = vote
    return row


def test_the_main_votes_are_a_walk_by_the_most_voted_answer() -> None:
    spiral = votes(
        Class1_1=0.2, Class1_2=0.8, Class2_2=0.7, Class2_1=0.1, Class3_1=0.5, Class3_2=0.2, Class4_1=0.6
    )
    assert main_votes(spiral, TREE)[:4] == ["features or disk 0.80", "not edge-on 0.70", "bar 0.50", "spiral 0.60"]
    assert main_votes(votes(Class1_1=1, Class7_2=0.75), TREE) == ["smooth 1.00", "in between 0.75"]


def test_a_missing_vote_ends_its_branch() -> None:
    row = votes(Class1_2=1, Class2_2=1, Class3_1=1, Class4_1=1)
    row[TREE.columns.index("Class3.2")] = np.nan
    assert main_votes(row, TREE)[:3] == ["features or disk 1.00", "not edge-on 1.00", "spiral 1.00"]
    assert main_votes(np.full(37, np.nan, np.float32), TREE) == []


@given(st.integers(1, 300), st.integers(1, 50), st.integers(0, 99))
def test_a_sheet_draws_each_galaxy_once(samples: int, count: int, seed: int) -> None:
    drawn = draw_samples(samples, count, seed)
    assert drawn == sorted(set(drawn)) == draw_samples(samples, count, seed)
    assert len(drawn) == min(samples, count)
    assert set(drawn) <= set(range(samples))


def test_galaxies_stand_side_by_side_unchanged() -> None:
    colours = [np.full((40, 40, 3), 10 * i, np.uint8) for i in range(11)]
    sheet = np.asarray(draw_sheet([Cell(each, ("1", "a very long answer indeed")) for each in colours]))
    width, height = 40 + 6, 40 + 2 * 13 + 2 * 6
    assert sheet.shape == (2 * height + 6, 6 * width + 6, 3)
    for number, colour in enumerate(colours):
        top, left = 6 + number // 6 * height, 6 + number % 6 * width
        np.testing.assert_array_equal(sheet[top : top + 40, left : left + 40], colour)
        assert sheet[top + 40 : top + height, left : left + 40].max() > 150  # a text is under it
        assert (sheet[top : top + height - 6, left + 40 : left + width] == 24).all()  # and not beside it


@given(st.integers(1, 1000))
def test_a_sheet_leaves_fewer_gaps_than_it_has_rows_and_has_no_row_too_many(count: int) -> None:
    columns = balanced_columns(count)
    rows = -(-count // columns)
    assert columns <= 8
    assert rows == -(-count // 8)
    assert columns * rows - count < rows


def test_the_same_seed_gives_the_same_sheet(packed: Path, tmp_path: Path) -> None:
    sheets = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        result = run("preview", packed, tmp_path / f"{name}.png", "--count", 5, "--seed", seed, "--size", 64)
        assert result.exit_code == 0, result.stderr
        first, *others = result.stdout.splitlines()
        assert first == f"{tmp_path / name}.png: 5 of 30 train galaxies"
        assert others == ["numbers are fractions of all volunteers, also of those who were not asked the question"]
        sheets.append((tmp_path / f"{name}.png").read_bytes())
    assert sheets[0] == sheets[1] != sheets[2]


def test_a_split_without_votes_is_drawn_too(packed: Path, tmp_path: Path) -> None:
    result = run("preview", packed, tmp_path / "sheet.png", "--split", "test", "--count", 100)
    assert result.stdout.endswith("12 of 12 test galaxies\n")


def test_what_cannot_be_drawn_is_refused(packed: Path, tmp_path: Path) -> None:
    wrong = run("preview", packed, tmp_path / "sheet.gif")
    assert (wrong.exit_code, "ends in .png" in wrong.stderr) == (2, True)
    split = run("preview", packed, tmp_path / "sheet.png", "--split", "val")
    assert (split.exit_code, "no val samples; its splits are: train, test" in split.stderr) == (1, True)
    nowhere = run("preview", packed, tmp_path / "none" / "sheet.png")
    assert (nowhere.exit_code, "No such file or directory" in nowhere.stderr) == (1, True)
    shards = Path(shutil.copytree(packed, tmp_path / "shards"))
    for tar in shards.glob("train-*.tar"):
        data = bytearray(tar.read_bytes())
        data[600:2000] = bytes(1400)
        tar.write_bytes(data)
    broken = run("preview", shards, tmp_path / "sheet.png", "--count", 30)
    assert (broken.exit_code, "does not decode" in broken.stderr) == (1, True)
    assert "shard_tool lint --deep" in broken.stderr
    assert not (tmp_path / "sheet.png").exists()


def test_equal_images_are_listed_also_across_splits(tmp_path: Path) -> None:
    download = make_download(10, 6)
    train, test = list(download.train), list(download.test)
    download.train[train[3]] = download.train[train[7]]
    download.test[test[1]] = download.test[test[2]] = download.train[train[0]]
    assert pack(download.write_folder(tmp_path / "in"), tmp_path / "out").exit_code == 0
    result = run("duplicates", tmp_path / "out", "--workers", 1)
    assert result.exit_code == 1
    assert run("duplicates", tmp_path / "out", "--workers", 2).stdout == result.stdout
    found = {frozenset(line.split()) for line in result.stdout.splitlines()}
    assert found == {
        frozenset({f"train/{train[3]}", f"train/{train[7]}"}),
        frozenset({f"train/{train[0]}", f"test/{test[1]}", f"test/{test[2]}"}),
    }
    assert "Error: images under several ids: 2, 1 of them across splits" in result.stderr


def test_different_images_are_one_good_line(packed: Path) -> None:
    result = run("duplicates", packed, "--workers", 1)
    assert (result.exit_code, result.stdout) == (0, f"{packed}: no two of 42 images are the same\n")


def test_a_damaged_shard_is_named(packed: Path, tmp_path: Path) -> None:
    shards = Path(shutil.copytree(packed, tmp_path / "shards"))
    (shards / "train-000004.tar").write_bytes(b"")
    for arguments in (("duplicates", shards, "--workers", 1), ("preview", shards, tmp_path / "a.png")):
        result = run(*arguments, *(("--count", 30) if "preview" in arguments else ()))
        assert (result.exit_code, "train-000004.tar: 0 bytes, the manifest says" in result.stderr) == (1, True)


def test_a_download_of_one_galaxy_is_drawn(tmp_path: Path) -> None:
    source = Download({}, {"1": jpeg(1)}).write_folder(tmp_path / "in") / "images_test_rev1"
    assert pack(source, tmp_path / "out").exit_code == 0
    assert run("preview", tmp_path / "out", tmp_path / "sheet.png", "--size", 32).exit_code == 0


def test_a_sheet_never_replaces_a_shard(packed: Path, tmp_path: Path) -> None:
    shards = Path(shutil.copytree(packed, tmp_path / "shards"))
    before = contents(shards)
    (tmp_path / "sheet.png").hardlink_to(shards / "train-000000.tar")
    result = run("preview", shards, tmp_path / "sheet.png")
    assert (result.exit_code, "is read by this command" in result.stderr) == (1, True)
    assert contents(shards) == before
