"""Kaggle's submission: written, read back, refused, and warned about."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from galaxy_zoo import submission
from galaxy_zoo.errors import SubmissionError
from galaxy_zoo.submission import read_ids, read_submission, sorted_ids, warnings_about, write_submission
from galaxy_zoo.tree import DecisionTree, load_tree
from galaxy_zoo.votes import Floats, normalise_votes

RNG = np.random.default_rng(0)
SHAPES = """id,smooth,disk,two,more
99,0.25,0.75,0.5,0.25
100,1,0,0,0
"""


def predictions(rows: int) -> Floats:
    return RNG.random((rows, 37))


def lawful(rows: int) -> Floats:
    """Predictions that obey the tree."""
    return normalise_votes(predictions(rows), load_tree("gz2-kaggle"))


def test_a_submission_reads_back_sorted_by_id_and_to_eight_decimals(gz2: DecisionTree, tmp_path: Path) -> None:
    ids, predicted = [str(each) for each in RNG.permutation(np.arange(90, 110))], predictions(20)
    write_submission(tmp_path / "s.csv", ids, predicted, gz2)
    table = read_submission(tmp_path / "s.csv", gz2, expected_ids=ids)
    assert table.index.tolist() == sorted(ids, key=int)
    np.testing.assert_allclose(table.loc[ids].to_numpy(), predicted, rtol=0, atol=0.51e-8)


def test_the_file_is_kaggles_to_the_letter(gz2: DecisionTree, tmp_path: Path) -> None:
    predicted = np.full((2, 37), 1e-7, dtype=np.float32)
    predicted[:, 0] = 1
    write_submission(tmp_path / "s.csv", ["100", "99"], predicted, gz2)
    header, *rows = (tmp_path / "s.csv").read_text().splitlines()
    assert header == f"GalaxyID,{','.join(gz2.columns)}"
    assert rows == [f"{each},1.00000000{',0.00000010' * 36}" for each in (99, 100)]


@given(st.lists(st.text("0123456789", min_size=1, max_size=25), unique=True))
def test_ids_of_any_length_ascend_by_number_and_leading_zeros_count_last(ids: list[str]) -> None:
    assert sorted_ids(ids) == sorted(ids, key=lambda each: (int(each), each))


def test_ids_that_are_not_all_numbers_ascend_by_text() -> None:
    assert sorted_ids(["J99", "99", "J100", "100"]) == ["100", "99", "J100", "J99"]


def test_a_prediction_outside_0_to_1_is_refused_and_nothing_is_written(
    gz2: DecisionTree, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    for value in [-0.01, 1.01, np.nan, np.inf]:
        with subtests.test(value=value):
            predicted = predictions(2)
            predicted[0, 3] = value
            with pytest.raises(SubmissionError, match=rf"id 200, Class2\.1: predicted {value}, .*1 such values"):
                write_submission(tmp_path / "s.csv", ["200", "100"], predicted, gz2)
            assert not list(tmp_path.iterdir())


def test_rounding_errors_are_clipped(shapes: DecisionTree, tmp_path: Path) -> None:
    write_submission(tmp_path / "s.csv", ["1"], np.array([[-5e-7, 1 + 5e-7, 0, 1]]), shapes)
    assert read_submission(tmp_path / "s.csv", shapes).to_numpy().tolist() == [[0, 1, 0, 1]]


def test_ids_that_do_not_fit_the_predictions_are_refused(gz2: DecisionTree, tmp_path: Path) -> None:
    for ids, rows, says in (
        (["7", "8", "7"], 3, "id 7 is predicted twice"),
        (["1", "2", "3"], 2, re.escape("shape (2, 37) for 3 ids")),
    ):
        with pytest.raises(SubmissionError, match=says):
            write_submission(tmp_path / "s.csv", ids, predictions(rows), gz2)


REFUSED = [
    ("id,smooth,disk", "id,disk,smooth", "column 2 of the header is not the tree's; write id,smooth,disk,two"),
    ("more\n99,0.25", "more,extra\n99,0.25,1", "column 6 of the header is not the tree's"),
    (SHAPES, "smooth,id,disk,two,more\n0.5,99,0.5,0,0\n", "column 1 of the header is not the tree's"),
    (",more", "", "line 2: 5 cells, but the lines before it have 4"),
    ("99,", "101,", "ids are not ascending; sort the rows by id"),
    ("99,", "100,", "id 100 appears twice"),
    ("0.75", "1.75", "line 2, column disk: 1.75 is outside"),
    ("0.75", "nan", "line 2, column disk: the vote is missing"),
    ("99,", "98,", "1 ids are missing: 99"),
    ("100,1,0,0,0\n", "100,1,0,0,0\n101,1,0,0,0\n", "1 ids are unknown: 101"),
]


def test_a_submission_kaggle_would_refuse_is_refused_with_its_reason(
    shapes: DecisionTree, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    for old, new, says in REFUSED:
        with subtests.test(old=old, new=new):
            path = tmp_path / "s.csv"
            assert old in SHAPES
            path.write_text(SHAPES.replace(old, new, 1))
            with pytest.raises(SubmissionError, match=says) as caught:
                read_submission(path, shapes, expected_ids=["99", "100"])
            assert str(caught.value).startswith(str(path))


def test_a_missing_submission_is_named(shapes: DecisionTree, tmp_path: Path) -> None:
    with pytest.raises(SubmissionError, match=r"none\.csv: there is no such file"):
        read_submission(tmp_path / "none.csv", shapes)


def test_how_many_rows_are_taken_at_once_changes_neither_file_nor_warnings(
    gz2: DecisionTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids, predicted = [str(each) for each in RNG.permutation(100)], predictions(100)
    write_submission(tmp_path / "whole.csv", ids, predicted, gz2)
    warnings = warnings_about(predicted, gz2, np.full(37, 0.3))
    monkeypatch.setattr(submission, "ROWS_AT_ONCE", 7)
    write_submission(tmp_path / "parts.csv", ids, predicted, gz2)
    assert (tmp_path / "parts.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert warnings_about(predicted, gz2, np.full(37, 0.3)) == warnings


def test_many_missing_ids_are_counted_and_the_lowest_named(shapes: DecisionTree, tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text(SHAPES)
    expected = [str(each) for each in range(95, 111)]
    with pytest.raises(SubmissionError, match=r"14 ids are missing: 95, 96, 97, 98, 101, \.\.\. \(14 in all\)"):
        read_submission(path, shapes, expected_ids=expected)


def test_without_a_reason_there_is_no_warning(gz2: DecisionTree) -> None:
    predicted = lawful(500)
    assert warnings_about(predicted, gz2, predicted.mean(axis=0) + 0.05) == []
    assert warnings_about(predicted, gz2, np.full(37, np.nan)) == []  # the mean of the training votes is unknown
    assert warnings_about(lawful(1), gz2) == []  # one galaxy alone is not called constant


def test_predictions_near_zero_everywhere_give_both_warnings(gz2: DecisionTree) -> None:
    """The published submission whose columns were all near 1e-4."""
    constant, far, _ = warnings_about(lawful(500) * 1e-4, gz2, np.full(37, 0.3))
    assert constant.startswith("nearly the same for every galaxy")
    assert constant.endswith("Class1.1, Class1.2, Class1.3, Class2.1, Class2.2, ... (37 in all)")
    assert far.startswith("column means far from the training votes: Class1.1 0.000 (training 0.300), ")


def test_one_broken_column_is_named_alone(gz2: DecisionTree) -> None:
    predicted = lawful(500)
    training_mean = predicted.mean(axis=0)
    predicted[:, 9] = 0.9
    constant, far, broken = warnings_about(predicted, gz2, training_mean)
    assert constant.endswith(": Class5.1")
    assert re.fullmatch(r"column means .*: Class5\.1 0\.900 \(training 0\.\d{3}\)", far)
    assert re.fullmatch(
        r"answers do not sum .* parent: 'bulge prominence' of \d+ galaxies \(off by 0\.\d+ on average\)", broken
    )


SPELLED_MISSING = ["id\nNA\nnull\n1\n", "NA\nnull\n1\n", "name,id\nnan,NA\n,null\nNone,1\n"]


def test_ids_that_spell_a_missing_value_are_ids(
    shapes: DecisionTree, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    for text in SPELLED_MISSING:
        with subtests.test(text=text):
            (tmp_path / "ids.csv").write_text(text)
            assert read_ids(tmp_path / "ids.csv", shapes) == ["NA", "null", "1"]
