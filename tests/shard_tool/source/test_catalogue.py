"""A catalogue of ids, files and votes."""

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kaggle_download import contents, jpeg, pack, packed_samples, rejected, zip_of

from galaxy_zoo.manifest import read_manifest

TREE = 'name = "shapes"\n[[question]]\nname = "shape"\ncolumns = ["round", "flat"]\n'
FILES = {f"field{i % 3}/cut{i}.jpg": jpeg(i) for i in range(9)}


def table() -> pd.DataFrame:
    share = np.round(np.linspace(0, 1, 9), 3)
    return pd.DataFrame(
        {
            "galaxy": [f"J{i:03d}" for i in range(9)],
            "path": [f"./{name}" if i % 2 else name for i, name in enumerate(FILES)],
            "ra": np.linspace(0, 360, 9),
            "round": share,
            "flat": np.round(1 - share, 3),
        }
    )


@pytest.fixture
def survey(tmp_path: Path) -> Path:
    (tmp_path / "tree.toml").write_text(TREE)
    for name, data in FILES.items():
        (tmp_path / "cutouts" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cutouts" / name).write_bytes(data)
    table().to_csv(tmp_path / "galaxies.csv", index=False)
    return tmp_path


def run(
    survey: Path, out: str = "out", *options: object, catalogue: str = "galaxies.csv", source: str = "cutouts"
):
    columns = ("--id-column", "galaxy", "--file-column", "path", "--tree", survey / "tree.toml")
    return pack(survey / source, survey / out, "--catalogue", survey / catalogue, *columns, *options)


def test_each_file_of_a_catalogue_is_packed_with_its_id_and_votes(survey: Path) -> None:
    result = run(survey)
    assert result.exit_code == 0, result.stderr
    samples = packed_samples(survey / "out", "train")
    rows = table().set_index("galaxy")
    assert {name: sample["jpg"] for name, sample in samples.items()} == dict(
        zip(rows.index, FILES.values(), strict=True)
    )
    for name, sample in samples.items():
        expected = rows.loc[name, ["round", "flat"]].to_numpy(np.float32)
        np.testing.assert_array_equal(np.load(io.BytesIO(sample["votes.npy"])), expected)
    assert list(read_manifest(survey / "out").splits) == ["train"]


def test_folder_or_zip_and_csv_or_parquet_pack_to_the_same_bytes(survey: Path) -> None:
    pytest.importorskip("pyarrow")
    assert run(survey).exit_code == 0
    (survey / "cutouts.zip").write_bytes(zip_of(FILES))
    plain = table()
    plain.astype({"round": "float32", "flat": "float64"}).to_parquet(survey / "plain.parquet")
    plain.astype({"galaxy": "category"}).to_parquet(survey / "categories.parquet")
    for out, catalogue, source in (
        ("zip", "galaxies.csv", "cutouts.zip"),
        ("plain", "plain.parquet", "cutouts"),
        ("categories", "categories.parquet", "cutouts.zip"),
    ):
        result = run(survey, out, catalogue=catalogue, source=source)
        assert result.exit_code == 0, result.stderr
        assert contents(survey / out) == contents(survey / "out")


def test_a_catalogue_in_source_is_not_listed_as_ignored(survey: Path) -> None:
    table().to_csv(survey / "cutouts" / "galaxies.csv", index=False)
    (survey / "cutouts" / "notes.txt").write_text("mine")
    result = run(survey, catalogue="cutouts/galaxies.csv")
    assert result.exit_code == 0
    assert "ignored: notes.txt: no image" in result.stderr
    assert "galaxies.csv" not in result.stderr


def test_whole_numbers_counts_and_missing_values_of_a_parquet_are_read(survey: Path) -> None:
    pytest.importorskip("pyarrow")
    frame = table().assign(galaxy=np.arange(9), round=[3, None, *range(7)], flat=[1.0, None, *([np.nan] * 7)])
    frame.to_parquet(survey / "counts.parquet")
    result = run(survey, "out", "--counts", "--missing-votes", catalogue="counts.parquet")
    assert result.exit_code == 0, result.stderr
    votes = {
        name: np.load(io.BytesIO(s["votes.npy"])) for name, s in packed_samples(survey / "out", "train").items()
    }
    assert votes.keys() == {str(i) for i in range(9)}
    np.testing.assert_array_equal(votes["0"], np.float32([0.75, 0.25]))
    assert all(np.isnan(votes[str(i)]).all() for i in range(1, 9))


def test_ids_and_files_that_spell_a_missing_value_are_packed(survey: Path, subtests: pytest.Subtests) -> None:
    (survey / "cutouts" / "field0" / "cut0.jpg").rename(survey / "cutouts" / "NA.jpg")
    frame = table().replace({"J000": "NA", "J001": "nan", "J002": "null", "field0/cut0.jpg": "NA.jpg"})
    for suffix in ("csv", "parquet"):
        with subtests.test(suffix):
            if suffix == "csv":
                frame.to_csv(survey / "words.csv", index=False)
            else:
                pytest.importorskip("pyarrow")
                frame.to_parquet(survey / "words.parquet")
            result = run(survey, suffix, catalogue=f"words.{suffix}")
            assert result.exit_code == 0, result.stderr
            assert {"NA", "nan", "null", "J003"} < packed_samples(survey / suffix, "train").keys()


def test_rows_without_a_file_and_files_without_a_row_are_rejected(survey: Path) -> None:
    (survey / "cutouts" / "field0" / "cut0.jpg").rename(survey / "cutouts" / "J000.jpg")
    result = run(survey)
    assert result.exit_code == 1
    assert [(row["id"], row["file"], row["reason"]) for row in rejected(survey / "out")] == [
        ("J000", "J000.jpg", "no row with this file in galaxies.csv"),
        ("J000", "galaxies.csv", "no image for this row of votes"),
    ]
    assert len(packed_samples(survey / "out", "train")) == 8


def test_an_id_that_cannot_be_a_name_in_a_shard_is_rejected(survey: Path) -> None:
    table().replace({"J003": "=J003"}).to_csv(survey / "galaxies.csv", index=False)
    result = run(survey)
    assert result.exit_code == 1
    assert "=J003 (cut3.jpg): a spreadsheet would run this id" in result.stderr
    assert len(rejected(survey / "out")) == 1


BAD: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "no ids": (lambda t: t.drop(columns="galaxy"), "no column 'galaxy'; name the right one with --id-column"),
    "no files": (lambda t: t.drop(columns="path"), "no column 'path'; name the right one with --file-column"),
    "no votes": (lambda t: t.drop(columns=["round", "flat"]), "2 of the 2 columns of tree 'shapes' are missing"),
    "a column less": (lambda t: t.drop(columns="flat"), "pass --missing-votes"),
    "an id twice": (lambda t: t.replace({"J003": "J001"}), "line 5: id J001 appears twice (first in line 3)"),
    "a file twice": (
        lambda t: t.replace({"./field0/cut3.jpg": "field0/cut0.jpg"}),
        "line 5: file field0/cut0.jpg appears twice (first in line 2)",
    ),
    "an empty file": (lambda t: t.replace({"field2/cut2.jpg": None}), "line 4, column path: the file is empty"),
    "a vote of 2": (lambda t: t.replace({"round": {1.0: 2.0}}), "line 10, column round: 2 is outside [0, 1]"),
    "other files": (lambda t: t.assign(path="/data/" + t["path"]), "these are relative to SOURCE"),
    "no row": (lambda t: t.iloc[:0], "none of the files of"),
}


def test_a_bad_catalogue_ends_it_before_anything_is_written(survey: Path, subtests: pytest.Subtests) -> None:
    for kind, (spoil, message) in BAD.items():
        for form in ["csv", "parquet"]:
            with subtests.test(kind=kind, form=form):
                frame = spoil(table())
                if form == "csv":
                    frame.to_csv(survey / "bad.csv", index=False)
                else:
                    pytest.importorskip("pyarrow")
                    frame.to_parquet(survey / "bad.parquet")
                result = run(survey, catalogue=f"bad.{form}")
                assert result.exit_code == 1
                assert message in result.stderr
                assert f"bad.{form}" in result.stderr
                assert not (survey / "out").exists()


NO_CATALOGUES = [
    ("none.csv", None, "there is no such file"),
    ("none.parquet", None, "there is no such file"),
    ("empty.csv", b"", "not a CSV file"),
    ("empty.parquet", b"", "not a Parquet file"),
    ("noise.parquet", b"PAR1" + bytes(100) + b"PAR1", "not a Parquet file"),
    ("binary.csv", b"\xff\xfe\x00\x01" * 9, "not a CSV file"),
    ("pipe.csv", None, "pipe.csv: a pipe or a device, not a file"),
]


def test_what_is_no_catalogue_is_refused(survey: Path, subtests: pytest.Subtests) -> None:
    os.mkfifo(survey / "pipe.csv")
    for name, data, message in NO_CATALOGUES:
        with subtests.test(name=name):
            if name.endswith("parquet"):
                pytest.importorskip("pyarrow")
            if data is not None:
                (survey / name).write_bytes(data)
            result = run(survey, catalogue=name)
            assert result.exit_code == 1
            assert message in result.stderr
            assert not (survey / "out").exists()


def test_parquet_without_pyarrow_says_what_to_install(survey: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (survey / "galaxies.parquet").write_bytes(b"")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    result = run(survey, catalogue="galaxies.parquet")
    assert result.exit_code == 1
    assert "pip install pyarrow" in result.stderr
