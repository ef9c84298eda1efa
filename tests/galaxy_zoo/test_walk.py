"""Down the tree by the answers with the most votes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from galaxy_zoo.tree import DecisionTree, load_tree
from galaxy_zoo.votes import Floats, normalise_votes
from galaxy_zoo.walk import describe_walk, walk


def test_the_walk_of_the_first_galaxy_of_the_challenge(gz2: DecisionTree, galaxy_100008: Floats) -> None:
    assert describe_walk(galaxy_100008[0], gz2) == (
        "features or disk 0.62 -> not edge-on 1.00 -> no bar 0.94 -> spiral 0.68 -> obvious 0.83 -> "
        "tight 0.67 -> can't tell 0.78"
    )


def test_shares_are_of_those_asked_and_votes_of_everybody(shapes: DecisionTree) -> None:
    first, second = walk(np.array([0.2, 0.8, 0.6, 0.2]), shapes)
    assert (first.question, first.answer, first.votes, first.share) == ("shape", "a disk", 0.8, 0.8)
    assert (second.question, second.answer, second.votes) == ("arms", "two", 0.6)
    assert second.share == pytest.approx(0.75)


@given(st.integers(0, 2**32 - 1))
def test_each_step_hangs_from_the_one_chosen_before_and_shares_multiply_to_votes(seed: int) -> None:
    tree = load_tree("gz2-kaggle")
    votes = normalise_votes(np.random.default_rng(seed).random((1, 37)), tree)[0]
    by_name = {question.name: question for question in tree.questions}
    chosen: dict[str | None, float] = {None: 1.0}
    for step in walk(votes, tree):
        question = by_name[step.question]
        assert step.votes == pytest.approx(step.share * chosen[question.parent])
        chosen[question.columns[question.answers.index(step.answer)]] = step.votes
