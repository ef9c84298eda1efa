"""The rules of votes over a tree, and the score."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from galaxy_zoo.tree import load_tree
from galaxy_zoo.votes import (
    Floats,
    Violation,
    check_votes,
    classes_by,
    fractions_of_counts,
    mean_votes,
    normalise_votes,
    parent_votes,
    question_totals,
    rmse,
)

GZ2 = load_tree("gz2-kaggle")
FRACTIONS = st.just(0.0) | st.floats(1e-3, 1)
COUNTS = st.integers(1, 5)


@st.composite
def answered(draw: st.DrawFn) -> Floats:
    """Votes in [0, 1] over the challenge's tree, at least one above 0 in every question."""
    rows = draw(COUNTS)
    votes = draw(hnp.arrays(np.float64, (rows, len(GZ2.columns)), elements=FRACTIONS))
    for columns in GZ2.slices:
        votes[votes[:, columns].sum(axis=1) == 0, columns.start] = 1
    return votes


@st.composite
def with_missing(draw: st.DrawFn) -> Floats:
    votes = draw(answered())
    votes[draw(hnp.arrays(np.bool_, votes.shape))] = np.nan
    return votes


def test_a_real_galaxy_obeys_the_tree_to_a_millionth(galaxy_100008: Floats) -> None:
    assert check_votes(galaxy_100008, GZ2, tolerance=1e-6) == []
    assert np.abs(normalise_votes(galaxy_100008, GZ2) - galaxy_100008).max() < 1e-6


def test_a_real_galaxy_with_one_vote_changed_breaks_the_tree_there(
    galaxy_100008: Floats, subtests: pytest.Subtests
) -> None:
    for column in range(37):
        with subtests.test(column=column):
            changed = galaxy_100008.copy()
            changed[0, column] += 0.01
            question = next(q.name for q, s in zip(GZ2.questions, GZ2.slices, strict=True) if column < s.stop)
            broken = [violation.question for violation in check_votes(changed, GZ2)]
            children = [q.name for q in GZ2.questions if q.parent == GZ2.columns[column]]
            assert broken == [question, *children]


def test_a_violation_says_row_question_total_and_expected(galaxy_100008: Floats) -> None:
    votes = np.repeat(galaxy_100008, 3, axis=0)
    votes[2, 13] += 0.5  # Class6.1
    assert check_votes(votes, GZ2)[0] == Violation(2, "odd", pytest.approx(1.5), 1.0)
    assert str(Violation(2, "odd", 1.5, 1.0)) == "question 'odd': answers sum to 1.5, expected 1"


def test_votes_rounded_to_three_decimals_still_obey_the_tree() -> None:
    votes = normalise_votes(np.random.default_rng(0).random((2000, 37)), GZ2)
    assert check_votes(votes.round(3), GZ2) == []


@given(answered())
def test_normalised_votes_obey_every_constraint(votes: Floats) -> None:
    assert check_votes(normalise_votes(votes, GZ2), GZ2, tolerance=1e-12) == []


@given(with_missing())
def test_normalising_twice_changes_nothing(votes: Floats) -> None:
    once = normalise_votes(votes, GZ2)
    np.testing.assert_allclose(normalise_votes(once, GZ2), once, rtol=0, atol=1e-12, equal_nan=True)


@given(with_missing())
def test_a_missing_vote_makes_its_question_and_those_under_it_missing_and_no_other(votes: Floats) -> None:
    missing = np.isnan(normalise_votes(votes, GZ2))
    expected = np.isnan(votes)
    for index in GZ2.order:
        columns, parent = GZ2.slices[index], GZ2.parents[index]
        expected[:, columns] |= expected[:, columns].any(axis=1, keepdims=True)
        if parent is not None:
            expected[:, columns] |= expected[:, parent, None]
    np.testing.assert_array_equal(missing, expected)


@given(with_missing())
def test_questions_with_a_missing_vote_are_not_checked(votes: Floats) -> None:
    unknown = np.isnan(question_totals(votes, GZ2) - parent_votes(votes, GZ2))
    names = [q.name for q in GZ2.questions]
    assert not any(unknown[v.row, names.index(v.question)] for v in check_votes(votes, GZ2))


def test_a_question_without_votes_stays_zero_and_so_do_those_under_it(galaxy_100008: Floats) -> None:
    votes = galaxy_100008.copy()
    votes[:, GZ2.slices[3]] = 0  # spiral: no answer has a vote
    result = normalise_votes(votes, GZ2)
    assert not result[:, [7, 8, *range(28, 37)]].any()


def test_normalising_leaves_its_input_as_it_was(galaxy_100008: Floats) -> None:
    votes = galaxy_100008 * 2
    before = votes.copy()
    normalise_votes(votes, GZ2)
    np.testing.assert_array_equal(votes, before)


def test_the_score_is_kaggles_and_neither_the_mean_of_columns_nor_of_batches() -> None:
    votes = np.zeros((4, 2))
    predicted = np.array([[0, 0], [0, 0], [0.4, 0], [0.4, 0.2]])
    mean_of_columns = np.mean([rmse(predicted[:, [c]], votes[:, [c]]) for c in range(2)])
    mean_of_batches = np.mean([rmse(predicted[s], votes[s]) for s in (slice(0, 2), slice(2, 4))])
    assert rmse(predicted, votes) == pytest.approx((0.36 / 8) ** 0.5)  # .2121
    assert mean_of_columns == pytest.approx((0.08**0.5 + 0.01**0.5) / 2)  # .1914
    assert mean_of_batches == pytest.approx(0.09**0.5 / 2)  # .1500


@given(st.data())
def test_the_score_leaves_out_exactly_the_missing_votes(data: st.DataObject) -> None:
    shape = (data.draw(COUNTS), 37)
    votes = data.draw(hnp.arrays(np.float64, shape, elements=st.floats(0, 1)))
    predicted = data.draw(hnp.arrays(np.float64, shape, elements=st.floats(0, 1)))
    present = data.draw(hnp.arrays(np.bool_, shape).filter(np.any))
    masked = np.where(present, votes, np.nan)
    assert rmse(predicted, masked) == pytest.approx(rmse(predicted[present], votes[present]))


UNSCORABLE = [
    (np.zeros((2, 37)), np.zeros((2, 36)), "do not fit"),
    (np.zeros((2, 37)), np.full((2, 37), np.nan), "no vote is present"),
    (np.full((2, 37), np.nan), np.zeros((2, 37)), "prediction is NaN"),
]


def test_what_cannot_be_scored_is_refused(subtests: pytest.Subtests) -> None:
    for predicted, votes, says in UNSCORABLE:
        with subtests.test(says), pytest.raises(ValueError, match=says):
            rmse(predicted, votes)


def test_mean_votes_are_over_the_votes_present() -> None:
    votes = np.array([[0.2, np.nan, np.nan], [0.4, 0.5, np.nan]], dtype=np.float32)
    np.testing.assert_allclose(mean_votes(votes), [0.3, 0.5, np.nan], rtol=1e-6)


@given(st.integers(0, 2**32 - 1))
def test_counts_with_voters_for_every_question_become_what_normalising_makes_of_them(seed: int) -> None:
    tree = load_tree("gz2-kaggle")
    counts = np.random.default_rng(seed).integers(1, 50, (3, len(tree.columns))).astype(np.float64)
    votes = fractions_of_counts(counts, tree)
    np.testing.assert_allclose(votes, normalise_votes(counts, tree), rtol=1e-12)
    assert check_votes(votes, tree, tolerance=1e-9) == []


@given(st.integers(0, 2**32 - 1))
def test_whatever_the_counts_their_fractions_obey_the_tree_or_are_missing(seed: int) -> None:
    tree = load_tree("gz2-kaggle")
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 2, (5, len(tree.columns))).astype(np.float64)
    counts[rng.random(counts.shape) < 0.05] = np.nan
    votes = fractions_of_counts(counts, tree)
    assert check_votes(votes, tree, tolerance=1e-9) == []
    assert not ((votes < 0) | (votes > 1)).any()


def test_the_class_of_a_galaxy_is_the_answer_with_the_most_votes_and_unknown_without_votes() -> None:
    votes = np.zeros((5, len(GZ2.columns)))
    votes[:, GZ2.slices[7]] = [
        [0, 1, 3, 0, 0, 0, 0],
        [2, 2, 0, 0, 0, 0, 0],
        [0] * 7,
        [np.nan, 1, 0, 0, 0, 0, 0],
        [0] * 7,
    ]
    votes[4, GZ2.slices[7].stop - 1] = 0.1
    assert classes_by(votes, GZ2, 7).tolist() == [2, 0, -1, -1, 6]
