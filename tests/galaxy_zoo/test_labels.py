"""Tables of votes: what is read, and how a bad cell is named."""

import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from galaxy_zoo.errors import LabelError
from galaxy_zoo.labels import MISSING_WORDS, read_votes, votes_of_cells
from galaxy_zoo.tree import DecisionTree, load_tree

SHAPES = """id,smooth,disk,two,more
100008,0.25,0.75,0.5,0.25
100023,1,0,0,0
"""


def read(text: str | bytes, tree: DecisionTree, *, allow_missing: bool = False) -> list[list[float]]:
    data = text.encode() if isinstance(text, str) else text
    return read_votes(io.BytesIO(data), tree, name="votes.csv", allow_missing=allow_missing).to_numpy().tolist()


def test_the_table_is_float64_by_text_ids_in_the_order_of_the_file(shapes: DecisionTree, tmp_path: Path) -> None:
    path = tmp_path / "votes.csv"
    path.write_text(SHAPES.replace("100023", "007"))
    votes = read_votes(path, shapes)
    assert votes.index.tolist() == ["100008", "007"]
    assert votes.columns.tolist() == list(shapes.columns)
    assert votes.to_numpy().tolist() == [[0.25, 0.75, 0.5, 0.25], [1, 0, 0, 0]]
    assert set(votes.dtypes) == {np.dtype(np.float64)}


READ = {
    "a byte order mark": ("\ufeff" + SHAPES, [[0.25, 0.75, 0.5, 0.25], [1, 0, 0, 0]]),
    "spaces after the commas": (SHAPES.replace(",", ", "), [[0.25, 0.75, 0.5, 0.25], [1, 0, 0, 0]]),
    "blank lines at the end": (SHAPES + "\n\n", [[0.25, 0.75, 0.5, 0.25], [1, 0, 0, 0]]),
    "columns in another order, beside others": (
        "name,more,two,disk,smooth,id\nM31,0.4,0.3,0.7,0.3,7\n",
        [[0.3, 0.7, 0.3, 0.4]],
    ),
    "scientific notation": ("id,smooth,disk,two,more\n1,2.5e-1,7.5E-01,0,1e-9\n", [[0.25, 0.75, 0, 1e-9]]),
    "rounding errors outside [0, 1]": ("id,smooth,disk,two,more\n1,1.0000001,-1e-17,0,-9e-7\n", [[1, 0, 0, 0]]),
}


def test_tables_are_read_as_people_write_them(shapes: DecisionTree, subtests: pytest.Subtests) -> None:
    for how, (text, votes) in READ.items():
        with subtests.test(how):
            assert read(text, shapes) == votes


@given(st.lists(st.floats(0, 1), min_size=37, max_size=37))
def test_every_float_comes_back_bit_for_bit(votes: list[float]) -> None:
    tree = load_tree("gz2-kaggle")
    assert read(f"GalaxyID,{','.join(tree.columns)}\n1,{','.join(map(repr, votes))}\n", tree) == [votes]


BAD_CELLS = [
    ("id,", "ID,", "no column 'id' (the ids, by tree 'shapes'); the header is ID, smooth, disk"),
    (
        ",more",
        ",mehr",
        "1 of the 4 columns of tree 'shapes' are missing: more; correct the header",
    ),
    ("two,more", "two,two", "column 'two' appears twice"),
    ("100023", "100008", "line 3: id 100008 appears twice (first in line 2); keep one row for each id"),
    ("100023", " 100008 ", "line 3: id 100008 appears twice"),
    ("100023", "", "line 3: the id is empty"),
    ("100023", "  ", "line 3: the id is empty"),
    ("100023", "\n100023", "line 3: the id is empty"),
    ("0.5", "half", "line 2, column two: 'half' is not a number"),
    ("100023,1,0", "100023,1,False", "line 3, column disk: 'False' is not a number"),
    ("100023,1", "100023,1.0.0", "line 3, column smooth: '1.0.0' is not a number"),
    ("0.5", "1.5", "line 2, column two: 1.5 is outside [0, 1]; votes are fractions (1 such cells)"),
    ("0.5", "1.00001", "line 2, column two: 1.00001 is outside [0, 1]"),
    ("0.5", "-2e-6", "line 2, column two: -2e-06 is outside [0, 1]"),
    ("100023,1,0", "100023,1,inf", "line 3, column disk: inf is outside [0, 1]"),
    ("0.5", "", "line 2, column two: the vote is missing (1 such cells); fill it in"),
    ("0,0,0\n", "0\n", "line 3, column two: the vote is missing (2 such cells)"),
    ("0,0,0\n", "0,0,0,0,0\n", "line 3: 7 cells, but the lines before it have 5"),
    (SHAPES, "", "not a CSV file"),
    (
        SHAPES,
        SHAPES.replace("\n", ",0.5\n").replace("more,0.5", "more"),
        "line 2: 6 cells, but the lines before it have 5; put a cell that holds a comma in quotes: '100008,0.25,",
    ),
]


def test_a_bad_table_is_refused_with_file_line_and_column(shapes: DecisionTree, subtests: pytest.Subtests) -> None:
    for old, new, says in BAD_CELLS:
        with subtests.test(old=old, new=new):
            assert old in SHAPES
            with pytest.raises(LabelError) as caught:
                read(SHAPES.replace(old, new, 1), shapes)
            assert str(caught.value).startswith("votes.csv")
            assert says in str(caught.value)


def test_what_is_no_text_in_utf_8_is_no_table(shapes: DecisionTree) -> None:
    for data, says in (
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", r"^votes\.csv: not a CSV file"),
        (SHAPES.encode("utf-16"), "save it as CSV in UTF-8"),
    ):
        with pytest.raises(LabelError, match=says):
            read(data, shapes)


def test_a_missing_file_is_named(shapes: DecisionTree, tmp_path: Path) -> None:
    path = tmp_path / "none.csv"
    with pytest.raises(LabelError, match=re.escape(f"{path}: there is no such file")):
        read_votes(path, shapes)


def test_absent_cells_and_columns_are_missing_votes_where_allowed(shapes: DecisionTree) -> None:
    text = "id,smooth,disk,two\n1,0.25,0.75,\n2,0.5,0.5,0.5\n"
    votes = np.array(read(text, shapes, allow_missing=True))
    np.testing.assert_array_equal(votes, [[0.25, 0.75, np.nan, np.nan], [0.5, 0.5, 0.5, np.nan]])


def test_words_for_a_missing_value_are_ids_in_the_column_of_ids_and_missing_votes_in_others(
    shapes: DecisionTree,
) -> None:
    rows = "".join(f"{word},{word},0.75,,0.5\n" for word in MISSING_WORDS)
    votes = read_votes(io.BytesIO(f"id,smooth,disk,two,more\n{rows}".encode()), shapes, allow_missing=True)
    assert votes.index.tolist() == list(MISSING_WORDS)
    np.testing.assert_array_equal(votes, [[np.nan, 0.75, np.nan, 0.5]] * len(MISSING_WORDS))


def test_a_count_beyond_any_survey_is_refused(shapes: DecisionTree) -> None:
    cells = pd.DataFrame([["7", "1", "1e308", "2", "3"]], columns=["id", "smooth", "disk", "two", "more"])
    with pytest.raises(LabelError, match=r"line 2, column disk: 1e\+308 is outside \[0, 1e\+09\]; counts are"):
        votes_of_cells(cells, shapes, "votes.csv", kind="counts")


NOT_FORGIVEN = [
    ("id,a,b\n1,0,1\n", "4 of the 4 columns of tree 'shapes' are missing: smooth, disk, two, more"),
    ("id,smooth,disk,two,more\n1,0.5,x,,\n", "line 2, column disk: 'x' is not a number"),
    ("id,smooth,disk,two,more\n1,0.5,2,,\n", "line 2, column disk: 2 is outside [0, 1]"),
    ("id,smooth,disk,two,more\n,0.5,0.5,,\n", "line 2: the id is empty"),
]


def test_allowing_missing_votes_forgives_nothing_else(shapes: DecisionTree, subtests: pytest.Subtests) -> None:
    for text, says in NOT_FORGIVEN:
        with subtests.test(text=text):
            with pytest.raises(LabelError) as caught:
                read(text, shapes, allow_missing=True)
            assert says in str(caught.value)


def test_only_the_first_of_many_missing_columns_are_listed() -> None:
    with pytest.raises(
        LabelError, match=r"36 of the 37 .*: Class1\.2, Class1\.3, Class2\.1, Class2\.2, Class3\.1, \.\.\.;"
    ):
        read("GalaxyID,Class1.1\n1,0.5\n", load_tree("gz2-kaggle"))
