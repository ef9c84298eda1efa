"""Several tables of votes, tables with gaps, and tables of counts."""

import csv
import gzip
import io
import shutil
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from kaggle_download import (
    TABLE,
    TEST_FOLDER,
    TRAIN_FOLDER,
    Download,
    contents,
    jpeg,
    pack,
    packed_samples,
    zip_of,
)

import shard_tool.source.catalogue
import shard_tool.source.tables
from galaxy_zoo.tree import load_tree

TREE = load_tree("gz2-kaggle")
SMALL_TREE = """
name = "small"
[[question]]
name = "shape"
columns = ["smooth", "disk"]
[[question]]
name = "arms"
parent = "disk"
columns = ["two", "more"]
"""


def write_rows(path: Path, rows: list[list[str]]) -> Path:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    path.write_text(text.getvalue())
    return path


def votes_in(out: Path) -> dict[str, np.ndarray]:
    samples = packed_samples(out, "train")
    return {name: np.load(io.BytesIO(sample["votes.npy"])) for name, sample in samples.items()}


@pytest.fixture
def images_only(whole_download: Download, tmp_path: Path) -> Path:
    """The download without its table of votes."""
    source = whole_download.write_folder(tmp_path / "source")
    (source / f"{TABLE}.csv").unlink()
    return source


def test_tables_cut_by_rows_by_columns_or_both_pack_to_the_bytes_of_the_whole_table(
    images_only: Path, whole_download: Download, packed: Path, tmp_path: Path
) -> None:
    rows = whole_download.rows
    header, body = rows[0], rows[1:]
    cuts = {
        "rows": [[header, *body[:11]], [header, *body[11:]]],
        "columns": [[r[:20] for r in rows], [r[:1] + r[18:] for r in rows]],
        "both": [[header, *body[:11]], [r[:20] for r in rows], [r[:1] + r[20:] for r in [header, *body[9:]]]],
    }
    for name, tables in cuts.items():
        files = [write_rows(tmp_path / f"{name}{i}.csv", table) for i, table in enumerate(tables)]
        options = [part for file in files for part in ("--labels", file)]
        for order in (options, [*options[2:], *options[:2]]):
            result = pack(images_only, tmp_path / "out", *order, "--overwrite")
            assert result.exit_code == 0, result.stderr
            assert contents(tmp_path / "out") == contents(packed)


def test_unnamed_images_with_a_row_in_a_named_table_are_training_images(
    whole_download: Download, tmp_path: Path
) -> None:
    source = whole_download.write_zips(tmp_path / "source")
    partly = {f"images_partly_labelled/{number}.jpg": jpeg(number) for number in (300001, 300002, 300003)}
    (source / "images_partly_labelled.zip").write_bytes(zip_of(partly))
    (source / "thumbnails").mkdir()
    (source / "thumbnails" / "100008.jpg").write_bytes(jpeg(9))
    rows = [
        [row[0].replace("100008", "300001").replace("100015", "300002"), *row[1:4]] for row in whole_download.rows
    ]
    write_rows(source / "partly_labelled.csv", rows[:3])
    result = pack(
        source,
        tmp_path / "out",
        *("--labels", source / f"{TABLE}.zip", "--labels", source / "partly_labelled.csv", "--missing-votes"),
    )
    assert result.exit_code == 0, result.stderr
    votes = votes_in(tmp_path / "out")
    assert set(votes) == {*whole_download.train, "300001", "300002"}
    assert {name: np.isnan(row).sum() for name, row in votes.items() if np.isnan(row).any()} == {
        "300001": 34,
        "300002": 34,
    }
    assert "images_partly_labelled.zip/images_partly_labelled: 1 images neither" in result.stderr
    assert "--labels has no row for them" in result.stderr
    assert "ignored: thumbnails: 1 images whose ids" in result.stderr
    assert "partly_labelled.csv:" not in result.stderr
    samples = packed_samples(tmp_path / "out", "train")
    assert samples["100008"]["jpg"] == whole_download.train["100008"]


def _contradict(rows: list[list[str]]) -> list[list[str]]:
    return [rows[0], [rows[1][0], *(["0.25"] * 37)]]


WRONG_TABLES = [
    (
        _contradict,
        (),
        f"id 100008, column Class1.1: {{first}} in {{folder}}/{TABLE}.zip/{TABLE}.csv, but 0.25 in ",
    ),
    (lambda rows: [["GalaxyID", "Class9"], ["1", "0"]], (), "columns of tree 'gz2-kaggle' are missing"),
    (
        lambda rows: [rows[0][:9], ["5", *rows[1][1:9]]],
        (),
        "id 5, column Class4.2: the vote is missing (29 such",
    ),
    (
        lambda rows: [rows[0], ["5", *(["-3"] * 37)]],
        ("--counts",),
        "line 2, column Class1.1: -3 is outside [0, 1e+09]",
    ),
    (lambda rows: [rows[0], ["5", *(["inf"] * 37)]], ("--counts",), "inf is outside [0, 1e+09]"),
    (lambda rows: [rows[0], ["5", *(["12"] * 37)]], (), "12 is outside [0, 1]"),
    (
        lambda rows: [rows[0], ["5", *(["0"] * 37)]],
        ("--counts",),
        "id 5, column Class1.1: the vote is missing",
    ),
]


def test_tables_that_contradict_or_leave_gaps_end_it_before_anything_is_written(
    whole_download: Download, tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for second, options, message in WRONG_TABLES:
        with subtests.test(message):
            folder = tmp_path_factory.mktemp("case")
            source = whole_download.write_zips(folder / "source")
            table = write_rows(folder / "second.csv", second(whole_download.rows))
            result = pack(source, folder / "out", "--labels", source / f"{TABLE}.zip", "--labels", table, *options)
            assert result.exit_code == 1
            assert str(table) in result.stderr
            first = float(whole_download.rows[1][1])
            assert message.format(first=f"{first:.9g}", folder=source) in result.stderr
            assert not (folder / "out").exists()


def test_rows_without_an_image_name_the_table_they_are_in(whole_download: Download, tmp_path: Path) -> None:
    source = whole_download.write_zips(tmp_path / "source")
    row = ["999999", *whole_download.rows[1][1:]]
    table = write_rows(tmp_path / "second.csv", [whole_download.rows[0], row])
    result = pack(source, tmp_path / "out", "--labels", source / f"{TABLE}.zip", "--labels", table)
    assert result.exit_code == 1
    assert "999999 (second.csv): no image for this row of votes" in result.stderr


def test_scientific_notation_packs_to_the_same_bytes(
    images_only: Path, whole_download: Download, tmp_path: Path
) -> None:
    forms = {"plain": ["0.30102"], "scientific": ["3.0102E-1", "+3.0102e-01", "30102e-5", " 0.30102", ".30102"]}
    header, *rows = whole_download.rows
    for name, votes in forms.items():
        cells = [[row[0], vote, "0.69898", "0", *[""] * 34] for row, vote in zip(rows, cycle(votes), strict=False)]
        table = write_rows(tmp_path / f"{name}.csv", [header, *cells])
        assert pack(images_only, tmp_path / name, "--labels", table, "--missing-votes").exit_code == 0
    assert contents(tmp_path / "plain") == contents(tmp_path / "scientific")


def test_counts_become_fractions_by_the_tree(tmp_path: Path) -> None:
    (tmp_path / "tree.toml").write_text(SMALL_TREE)
    (tmp_path / "cutouts").mkdir()
    for name in "abcd":
        (tmp_path / "cutouts" / f"{name}.jpg").write_bytes(jpeg(ord(name)))
    (tmp_path / "counts.csv").write_text(
        "id,smooth,disk,two,more\na,10,30,6,18\nb,40,0,0,0\nc,1e1,30,0,0\nd,10,30,,\n"
    )
    options = ("--labels", tmp_path / "counts.csv", "--tree", tmp_path / "tree.toml", "--counts")
    refused = pack(tmp_path / "cutouts", tmp_path / "out", *options)
    assert (refused.exit_code, "--missing-votes" in refused.stderr) == (1, True)
    result = pack(tmp_path / "cutouts", tmp_path / "out", *options, "--missing-votes")
    assert result.exit_code == 0, result.stderr
    nan = np.nan
    expected = {
        "a": [0.25, 0.75, 0.1875, 0.5625],
        "b": [1, 0, 0, 0],
        "c": [0.25, 0.75, nan, nan],
        "d": [0.25, 0.75, nan, nan],
    }
    for name, row in votes_in(tmp_path / "out").items():
        np.testing.assert_array_equal(row, np.float32(expected[name]))


def test_a_table_may_be_given_for_training_images_alone(whole_download: Download, tmp_path: Path) -> None:
    source = whole_download.write_zips(tmp_path / "source")
    both = ("--labels", source / f"{TABLE}.zip", "--labels", source / f"{TABLE}.zip")
    result = pack(source / f"{TRAIN_FOLDER}.zip", tmp_path / "out", *both)
    assert result.exit_code == 0, result.stderr


@pytest.fixture
def few_lines_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables of 30 rows are read in eight parts."""
    monkeypatch.setattr(shard_tool.source.tables, "LINES_AT_ONCE", 4)
    monkeypatch.setattr(shard_tool.source.catalogue, "LINES_AT_ONCE", 4)


@pytest.mark.usefixtures("few_lines_at_once")
def test_a_table_read_in_parts_packs_to_the_same_bytes(
    images_only: Path, whole_download: Download, packed: Path, tmp_path: Path
) -> None:
    rows = whole_download.rows
    whole = write_rows(tmp_path / "whole.csv", [*rows, *([""] for _ in range(9))])
    halves = [write_rows(tmp_path / f"{i}.csv", [row[:1] + row[i::2] for row in rows]) for i in (1, 2)]
    assert pack(images_only, tmp_path / "one", "--labels", whole).exit_code == 0
    assert contents(tmp_path / "one") == contents(packed)
    assert pack(images_only, tmp_path / "two", "--labels", halves[0], "--labels", halves[1]).exit_code == 0
    assert contents(tmp_path / "two") == contents(packed)
    listed = [[*rows[0], "file"], *([*row, f"{TRAIN_FOLDER}/{row[0]}.jpg"] for row in rows[1:])]
    named = write_rows(tmp_path / "catalogue.csv", listed)
    shutil.rmtree(images_only / TEST_FOLDER)
    assert pack(images_only, tmp_path / "three", "--catalogue", named).exit_code == 0
    tars = {name: data for name, data in contents(packed).items() if name.startswith("train")}
    assert {name: data for name, data in contents(tmp_path / "three").items() if name.startswith("train")} == tars


SPOILT = [
    (lambda rows: [*rows, rows[2]], "line 32: id 100015 appears twice (first in line 3)"),
    (
        lambda rows: [*rows[:20], [rows[20][0], "x", *rows[20][2:]], *rows[21:]],
        "line 21, column Class1.1: 'x'",
    ),
    (
        lambda rows: [*rows[:20], [rows[20][0], "2", *rows[20][2:]], *rows[21:]],
        "line 21, column Class1.1: 2 is",
    ),
    (lambda rows: [*rows[:20], ["", *rows[20][1:]], *rows[20:]], "line 21: the id is empty"),
    (
        lambda rows: [*rows[:9], [rows[9][0], "", *rows[9][2:]], *rows[10:]],
        "line 10, column Class1.1: the vote",
    ),
]


@pytest.mark.usefixtures("few_lines_at_once")
def test_an_error_in_a_later_part_has_the_line_of_the_file(
    images_only: Path, whole_download: Download, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    for spoil, message in SPOILT:
        with subtests.test(message):
            file = write_rows(tmp_path / "votes.csv", spoil(whole_download.rows))
            result = pack(images_only, tmp_path / "out", "--labels", file)
            assert result.exit_code == 1
            assert f"votes.csv, {message}" in result.stderr


@pytest.mark.usefixtures("few_lines_at_once")
def test_a_contradiction_in_a_later_part_names_its_first_cell_and_counts_all(
    images_only: Path, whole_download: Download, tmp_path: Path
) -> None:
    rows = whole_download.rows
    other = [rows[0], *([row[0], "0.5", *row[2:]] for row in reversed(rows[11:]))]
    one, two = write_rows(tmp_path / "one.csv", rows), write_rows(tmp_path / "two.csv", other)
    result = pack(images_only, tmp_path / "out", "--labels", one, "--labels", two)
    assert result.exit_code == 1
    assert (
        f"id {rows[11][0]}, column Class1.1: {float(rows[11][1]):.9g} in {one}, but 0.5 in {two}" in result.stderr
    )
    assert "(20 such cells)" in result.stderr


@pytest.mark.usefixtures("few_lines_at_once")
def test_a_file_named_twice_far_apart_in_a_catalogue_is_an_error(
    images_only: Path, whole_download: Download, tmp_path: Path
) -> None:
    rows = whole_download.rows
    files = ["file", *(f"{TRAIN_FOLDER}/{row[0]}.jpg" for row in rows[1:])]
    files[25] = files[3]
    named = write_rows(tmp_path / "c.csv", [[*row, file] for row, file in zip(rows, files, strict=True)])
    result = pack(images_only, tmp_path / "out", "--catalogue", named)
    assert result.exit_code == 1
    assert f"line 26: file {files[3]} appears twice (first in line 4)" in result.stderr


SURVEY = {"a": (0.4, 0.6, 0.5, 0.5), "b": (0.2, 0.8, 0.25, 0.75)}
"""Fractions of the voters of each question, by id."""


def survey_of(folder: Path, kind: str) -> Path:
    """Images, a tree and a table of what `kind` says: "all" or "question"."""
    (folder / "train").mkdir()
    (folder / "tree.toml").write_text(SMALL_TREE)
    rows = [["id", "smooth", "disk", "two", "more"]]
    for seed, (name, (smooth, disk, two, more)) in enumerate(SURVEY.items()):
        (folder / "train" / f"{name}.jpg").write_bytes(jpeg(seed))
        of = disk if kind == "all" else 1
        rows.append([name, *map(str, (smooth, disk, two * of, more * of))])
    return write_rows(folder / "votes.csv", rows)


def pack_survey(folder: Path, *options: object) -> Result:
    tree = ("--tree", folder / "tree.toml", "--labels", folder / "votes.csv")
    return pack(folder / "train", folder / "out", *tree, *options)


def test_fractions_of_a_questions_own_voters_become_fractions_of_all(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    for kind in ("all", "question"):
        folder = tmp_path_factory.mktemp(kind)
        survey_of(folder, kind)
        result = pack_survey(folder, "--fractions-of", kind)
        assert result.exit_code == 0, result.stderr
        votes = votes_in(folder / "out")
        for name, (smooth, disk, two, more) in SURVEY.items():
            np.testing.assert_allclose(votes[name], [smooth, disk, two * disk, more * disk], err_msg=kind)


def test_fractions_of_the_other_kind_are_rejected_with_the_sum_and_both_options(
    tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for kind, asked, total in (("question", "all", "1, expected 0.6"), ("all", "question", "0.6, expected 1")):
        with subtests.test(kind=kind, asked=asked):
            folder = tmp_path_factory.mktemp(kind)
            survey_of(folder, kind)
            result = pack_survey(folder, "--fractions-of", asked)
            assert result.exit_code == 1
            for says in (f"answers sum to {total}", "--fractions-of all", "--fractions-of question"):
                assert says in result.stderr


def test_a_table_with_semicolons_decimal_commas_and_comments_packs_to_the_same_bytes(
    whole_download: Download, packed: Path, tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for suffix in [".csv", ".csv.gz", ".txt"]:
        with subtests.test(suffix=suffix):
            folder = tmp_path_factory.mktemp("case")
            source = whole_download.write_folder(folder / "source")
            text = whole_download.table().replace(",", ";").replace(".", ",")
            header, _, body = text.partition("\n")
            text = f"sep=;\n# votes\n{header.replace(',', '.')}\n{body}"
            (source / f"{TABLE}.csv").unlink()
            path = (folder if suffix == ".txt" else source) / f"{TABLE}{suffix}"
            path.write_bytes(gzip.compress(text.encode()) if suffix == ".csv.gz" else text.encode())
            result = pack(source, folder / "out", *(("--labels", path) if suffix == ".txt" else ()))
            assert result.exit_code == 0, result.stderr
            assert contents(folder / "out") == contents(packed)
