from dataclasses import replace

import numpy as np
import pytest

from evaluation.classes import (
    _accuracies,
    _draw_confusion,
    accuracy_table,
    class_table,
    confusion_table,
    first_question,
)
from evaluation.evidence import Evidence, Scored
from evaluation.theme import styled
from galaxy_zoo.tree import load_tree

ANSWERS = ("smooth", "disk", "star")
TRUE, PREDICTED = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 2])


def test_confusions_are_counted_by_true_class() -> None:
    table = confusion_table(TRUE, PREDICTED, ANSWERS).set_index("true")
    assert table.loc["smooth"].tolist() == [2, 1, 0]
    assert table.loc["disk"].tolist() == [0, 1, 1]
    assert table.loc["star"].tolist() == [0, 0, 0]


def test_a_class_without_galaxies_has_dashes_for_shares() -> None:
    with styled():
        drawn = _draw_confusion(TRUE, PREDICTED, ANSWERS)
    assert drawn.svg.count(">–</text>") == len(ANSWERS)
    assert drawn.alt.endswith("smooth 67%, disk 50%, star –.")


def test_precision_recall_and_f1_are_those_of_the_confusions() -> None:
    table = class_table(TRUE, PREDICTED, ANSWERS).set_index("class")
    assert table.loc["smooth", "precision"] == 1
    assert table.loc["smooth", "recall"] == pytest.approx(2 / 3)
    assert table.loc["disk", "F1"] == pytest.approx(0.5)
    assert np.isnan(table.loc["star", "recall"])  # there is no star, so no share of stars
    assert table.loc["mean of classes", "recall"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert table["galaxies"].tolist() == [3, 2, 0, 5]


def test_galaxies_without_votes_for_the_first_question_have_no_class() -> None:
    tree = load_tree("galaxy10")
    votes, predicted = np.eye(10)[[3, 4, 5]], np.eye(10)[[3, 3, 3]]
    votes[1, 7] = np.nan
    true, guessed = first_question(votes, predicted, tree)
    assert true.tolist() == [3, 5]
    assert guessed.tolist() == [3, 3]


def test_of_a_tree_of_one_question_every_class_has_its_accuracy(evidence: Evidence) -> None:
    tree = load_tree("galaxy10")
    votes, predicted = np.eye(10)[[3, 3, 5]], np.eye(10)[[3, 4, 5]]
    [first] = evidence.predictions
    one_view = replace(first, validation=predicted[None, None])
    scored = Scored(evidence.validation.galaxies, votes)
    table = accuracy_table(replace(evidence, tree=tree, validation=scored, predictions=(one_view,))).set_index(
        "of"
    )
    assert table.loc["In-between Round Smooth"].tolist() == [0.5, 2]
    assert table.loc["Barred Spiral"].tolist() == [1, 1]
    assert len(table) == 10


def test_a_question_is_judged_where_most_were_asked_it() -> None:
    tree = load_tree("gz2-kaggle")
    votes, predicted = np.zeros((3, 37)), np.zeros((3, 37))
    votes[:, 1] = 0.9, 0.8, 0.1  # features or disk, so the third was hardly asked whether it is edge-on
    votes[:, 3:5] = [[0.9, 0], [0.2, 0.6], [0.1, 0]]
    predicted[:, 3:5] = [[0.5, 0.1], [0.5, 0.1], [0, 0.5]]
    assert _accuracies(votes, predicted, tree, 1, "validation") == {"validation": 0.5, "validation galaxies": 2}
    assert _accuracies(votes, predicted, tree, 2, "validation")["validation galaxies"] == 1
