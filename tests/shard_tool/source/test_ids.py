"""Ids as surveys write them, and ids of images and tables that differ."""

import tarfile
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kaggle_download import TABLE, Download, contents, jpeg, make_download, pack, rejected, run

from galaxy_zoo.index import Component, key_of, key_of_id
from galaxy_zoo.labels import read_votes
from galaxy_zoo.tree import load_tree
from pipeline.shards import open_shards
from shard_tool.source.ids import LONGEST_KEY_BYTES, what_is_wrong

IAU = "J094600.40-010228.5"


def renamed(download: Download, images: dict[str, str], rows: dict[str, str]) -> Download:
    """The training images and rows of a download under other ids; what is not named keeps its own."""
    train = {images.get(each, each): data for each, data in download.train.items()}
    table = [[rows.get(row[0], row[0]), *row[1:]] for row in download.rows]
    return Download(train, download.test, table)


@given(st.text(min_size=1).filter(lambda text: what_is_wrong(text) is None))
def test_every_id_comes_back_from_its_key_and_every_reader_splits_the_key_right(sample_id: str) -> None:
    key = key_of_id(sample_id)
    assert "." not in key and " " not in key
    assert len(key.encode()) <= LONGEST_KEY_BYTES
    assert key_of((Component("votes.npy", 0, 0, f"{key}.votes.npy"),)) == sample_id


def test_ids_with_dots_or_spaces_are_packed_read_and_unpacked_as_they_are(tmp_path: Path) -> None:
    download = make_download()
    names = dict(
        zip(download.train, [IAU, "NGC 1300", "100%2E5", "a.b.jpg", "±½", "-12.5", "NA", "null"], strict=False)
    )
    source = renamed(download, names, names).write_folder(tmp_path / "source")
    result = pack(source, tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert run("lint", tmp_path / "out", "--deep").exit_code == 0
    assert set(names.values()) <= set(open_shards(tmp_path / "out", "train").keys)
    for tar in (tmp_path / "out").glob("train*.tar"):
        with tarfile.open(tar) as file:  # as WebDataset splits names
            members = [name.partition(".") for name in file.getnames()]
        assert {extension for _, _, extension in members} == {"jpg", "votes.npy"}
    assert run("unpack", tmp_path / "out", tmp_path / "again").exit_code == 0
    votes = read_votes(tmp_path / "again" / f"{TABLE}.csv", load_tree("gz2-kaggle"))
    for number, name in names.items():
        [image] = (tmp_path / "again").glob(f"images_training_rev1/{name}.jpg")
        assert image.read_bytes() == download.train[number]
        assert np.allclose(votes.loc[name], download.votes()[number])


def test_ids_that_a_spreadsheet_would_run_are_rejected_and_so_written_that_they_are_not_run(
    tmp_path: Path,
) -> None:
    download = make_download()
    formulas = ["=1+1", "@SUM(A1)", "+cmd|' C calc'!A0", "-cmd|x", "=HYPERLINK(x)"]
    names = dict(zip(download.train, formulas, strict=False))
    result = pack(renamed(download, names, names).write_folder(tmp_path / "source"), tmp_path / "out")
    assert result.exit_code == 1
    rejects = {reject["id"]: reject for reject in rejected(tmp_path / "out")}
    assert rejects == {
        f"'{formula}": {
            "split": "train",
            "id": f"'{formula}",
            "file": f"'{formula}.jpg",
            "reason": "a spreadsheet would run this id as a formula; rename it",
        }
        for formula in formulas
    }


NAME = "Σ Ångström"
HARMLESS = {
    "end in .0": ("100008", "100008.0"),
    "suffix of an image": ("100008", "100008.jpg"),
    "Unicode form": (unicodedata.normalize("NFC", NAME), unicodedata.normalize("NFD", NAME)),
    "decomposed Unicode form": (unicodedata.normalize("NFD", NAME), unicodedata.normalize("NFC", NAME)),
}


def test_ids_that_differ_in_form_alone_are_taken_for_the_images_and_it_is_said(
    tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for what, (image, row) in HARMLESS.items():
        with subtests.test(what=what):
            folder = tmp_path_factory.mktemp("case")
            expected = renamed(make_download(6, 2), {"100008": image}, {"100008": image})
            differing = renamed(make_download(6, 2), {"100008": image}, {"100008": row})
            assert pack(expected.write_folder(folder / "one"), folder / "expected").exit_code == 0
            result = pack(differing.write_folder(folder / "other"), folder / "out")
            assert result.exit_code == 0, result.stderr
            assert "note: 1 ids of the table" in result.stderr
            assert what in result.stderr
            assert contents(folder / "out") == contents(folder / "expected")


def test_ids_that_a_spreadsheet_rounded_are_named(tmp_path: Path) -> None:
    rows = {each: "5.87723E+17" if each == "100008" else f"x{each}" for each in make_download().train}
    result = pack(renamed(make_download(), {}, rows).write_folder(tmp_path / "source"), tmp_path / "out")
    assert "row 5.87723E+17 was rounded by a spreadsheet" in result.stderr


def test_an_id_that_ends_in_0_is_not_another_one_where_both_are_there(tmp_path: Path) -> None:
    name = {"100015": "100008.0"}
    result = pack(renamed(make_download(), name, name).write_folder(tmp_path / "source"), tmp_path / "out")
    assert (result.exit_code, "note:" in result.stderr) == (0, False)


DIFFERING = [
    ("00{}", "{}", "leading zeros"),
    ("J{}", "j{}", "upper and lower case"),
    ("A {}", "A_{}", "spaces, dots, dashes and underscores"),
    ("cutout_{}", "{}", "what comes before or after a number"),
]


def test_where_ids_do_not_meet_one_of_each_and_the_cause_are_shown_and_all_rejects_listed(
    tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for image, row, cause in DIFFERING:
        with subtests.test(cause):
            folder, download = tmp_path_factory.mktemp("case"), make_download(6, 2)
            images = {each: image.format(each) for each in download.train}
            rows = {each: row.format(each) for each in download.train}
            changed = renamed(download, images, rows)
            changed.test = {}
            result = pack(changed.write_folder(folder / "source"), folder / "out")
            assert result.exit_code == 1
            first = "100008"
            assert f"image {image.format(first)} and row {row.format(first)} differ in {cause}" in result.stderr
            assert "6 x no image for this row of votes; 6 x no row of votes in" in result.stderr
            assert len(rejected(folder / "out")) == 12
            # the list of rejects is not in the way
            again = pack(download.write_folder(folder / "mended"), folder / "out")
            assert again.exit_code == 0, again.stderr


def test_where_nothing_explains_that_ids_do_not_meet_a_catalogue_is_named(tmp_path: Path) -> None:
    download = make_download()
    download.test = {}
    images = {each: f"{chr(ord('a') + number)}x" for number, each in enumerate(download.train)}
    result = pack(renamed(download, images, {}).write_folder(tmp_path / "source"), tmp_path / "out")
    assert result.exit_code == 1
    assert "ids do not meet: an image is ax, a row 100008; if a column" in result.stderr
    assert "pass the table with --catalogue" in result.stderr


def test_a_row_that_breaks_the_tree_is_why_nothing_is_left(tmp_path: Path) -> None:
    download = make_download()
    download.test = {}
    for row in download.rows[1:]:
        row[1:4] = ["0.1", "0.1", "0.1"]
    result = pack(download.write_folder(tmp_path / "source"), tmp_path / "out")
    assert result.exit_code == 1
    assert "answers sum to 0.3, expected 1" in result.stderr
    assert len(rejected(tmp_path / "out")) == 30


def test_a_failed_pack_leaves_the_rejects_of_the_set_before_it_alone(kaggle: Path, tmp_path: Path) -> None:
    assert pack(kaggle, tmp_path / "out").exit_code == 0
    before = contents(tmp_path / "out")
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "=1.jpg").write_bytes(jpeg(1))
    result = pack(tmp_path / "source", tmp_path / "out", "--overwrite")
    assert (result.exit_code, "1 x a spreadsheet would run" in result.stderr) == (1, True)
    assert contents(tmp_path / "out") == before
