"""Tables as other programs write them."""

import bz2
import gzip
import io
import lzma
import os
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galaxy_zoo.cells import read_cells
from galaxy_zoo.errors import LabelError
from galaxy_zoo.labels import read_votes
from galaxy_zoo.tree import DecisionTree

TABLE = "id,smooth,disk,two,more\n100008,0.25,0.75,0.5,0.25\n100023,1,0,0,0\n"
WRITTEN = {
    "semicolons with decimal commas": TABLE.replace(",", ";").replace(".", ","),
    "semicolons with decimal points": TABLE.replace(",", ";"),
    "tabs": TABLE.replace(",", "\t"),
    "tabs with decimal commas": TABLE.replace(",", "\t").replace(".", ","),
    "blank lines first": f"\n \n{TABLE}",
    "a line that names the separator": f"sep=,\n{TABLE}",
    "Excel's line, semicolons and decimal commas": "sep=;\n" + TABLE.replace(",", ";").replace(".", ","),
    "Excel's line in quotes": '"sep=;"\n' + TABLE.replace(",", ";"),
    "comments": f"# a survey, 2024\n#\n{TABLE}",
    "comments, a byte order mark and Windows' line ends": "\ufeff# a; b, c\n".replace("\n", "\r\n")
    + TABLE.replace("\n", "\r\n"),
}


def cells(data: bytes, lines_at_once: int | None = None) -> list[tuple[int, list[list[str]]]]:
    parts = read_cells(io.BytesIO(data), "votes.csv", lines_at_once=lines_at_once)
    return [(line, part.fillna("").to_numpy().tolist()) for line, part in parts]


def test_a_table_is_read_as_other_programs_write_it(shapes: DecisionTree, subtests: pytest.Subtests) -> None:
    for how, text in WRITTEN.items():
        for compress in [bytes, gzip.compress, bz2.compress, lzma.compress]:
            with subtests.test(how=how, compress=compress.__module__):
                file = io.BytesIO(compress(text.encode()))
                votes = read_votes(file, shapes)
                assert votes.index.tolist() == ["100008", "100023"]
                assert votes.to_numpy().tolist() == [[0.25, 0.75, 0.5, 0.25], [1, 0, 0, 0]]


UNREADABLE = [
    ("# one\n" + TABLE.replace("0,0,0", "0,0,0,0"), "line 4: 6 cells, but the lines before it have 5; "),
    ("# one\n" + TABLE.replace("0,0,0", "0,0,0,0"), "'100023,1,0,0,0,0'"),
    (TABLE.replace("100023", '"100023'), "line 3: a quote begins that never ends: '\"100023,1,0,0,0'"),
    ("# nothing\n", "no header follows"),
    ("", "it is empty"),
]


def test_a_line_that_cannot_be_read_is_shown_and_no_error_is_of_pandas(subtests: pytest.Subtests) -> None:
    for text, says in UNREADABLE:
        with subtests.test(text=text):
            with pytest.raises(LabelError) as caught:
                cells(text.encode(), lines_at_once=1)
            assert says in str(caught.value)
            assert "C error" not in str(caught.value)


def test_the_line_of_a_bad_cell_counts_what_comes_before_the_header(shapes: DecisionTree) -> None:
    with pytest.raises(LabelError, match=r"line 5, column disk: 'no' is not a number"):
        read_votes(io.BytesIO(f"sep=,\n# two\n{TABLE}".replace("1,0,0,0", "1,no,0,0").encode()), shapes)


DAMAGED = [
    (b"\x28\xb5\x2f\xfdabc", "unzstd it first"),
    (b"PK\x03\x04abc", "its compressed data is damaged"),
    (gzip.compress(TABLE.encode() * 99)[:-40], "its compressed data is damaged"),
    (lzma.compress(TABLE.encode() * 99)[:-40], "its compressed data is damaged"),
    (b"BZh9" + bytes(99), "its compressed data is damaged"),
]


def test_data_that_cannot_be_decompressed_is_named_for_what_it_is(subtests: pytest.Subtests) -> None:
    for data, says in DAMAGED:
        with subtests.test(data=data), pytest.raises(LabelError, match=says):
            cells(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_table_or_a_label_error_of_one_line(data: bytes) -> None:
    try:
        cells(data)
    except LabelError as error:
        assert str(error).startswith("votes.csv")
        assert "\n" not in str(error)


def test_parts_are_the_whole_table(subtests: pytest.Subtests) -> None:
    for lines_at_once in [1, 2, 3]:
        with subtests.test(lines_at_once=lines_at_once):
            [(_, whole)] = cells(TABLE.encode())
            parts = cells(TABLE.encode(), lines_at_once)
            assert [row for _, part in parts for row in part] == whole
            assert [line for line, part in parts for _ in part[:1]] == [
                2 + whole.index(part[0]) for _, part in parts
            ]


def test_the_one_csv_of_a_zip_is_read_and_several_are_refused(shapes: DecisionTree) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("__MACOSX/votes.csv", "nothing")
        archive.writestr("votes.csv", TABLE)
    packed.seek(0)
    assert read_votes(packed, shapes).equals(read_votes(io.BytesIO(TABLE.encode()), shapes))
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("more.csv", TABLE)
    packed.seek(0)
    with pytest.raises(LabelError, match="a zip with 2 CSV files"):
        read_votes(packed, shapes)


def test_a_pipe_is_refused_before_anyone_waits_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "votes.csv")
    with pytest.raises(LabelError, match="a pipe or a device, not a file"):
        list(read_cells(tmp_path / "votes.csv", "votes.csv"))
