import numpy as np
import pytest

from galaxy_zoo.tree import load_tree
from galaxy_zoo.votes import normalise_votes, rmse
from training.scores import scores

TREE = load_tree("gz2-kaggle")


def test_right_answers_are_counted_where_a_question_was_asked() -> None:
    votes = np.zeros((3, 37))
    votes[:, 0], votes[:, 14], votes[:, 15] = 1, 1, [1, 1, 0]  # smooth, not odd, round
    votes[2, 16] = 1
    found = scores(np.eye(37)[[0, 0, 0]] + np.eye(37)[[14] * 3] + np.eye(37)[[15] * 3], votes, TREE)
    assert found["accuracy/smooth or disk"] == 1
    assert found["accuracy/roundness"] == pytest.approx(2 / 3)
    assert found["accuracy"] == pytest.approx(8 / 9)
    assert "accuracy/arm count" not in found  # nobody was asked


def test_squared_errors_of_the_questions_make_up_the_score() -> None:
    rng = np.random.default_rng(0)
    votes, predicted = (normalise_votes(rng.random((20, 37)), TREE) for _ in range(2))
    found = scores(predicted, votes, TREE)
    sizes = [len(question.columns) for question in TREE.questions]
    total = sum(found[f"rmse/{q.name}"] ** 2 * size for q, size in zip(TREE.questions, sizes, strict=True))
    assert found["rmse"] == rmse(predicted, votes) == pytest.approx(np.sqrt(total / 37))


def test_missing_votes_are_left_out() -> None:
    votes = np.full((4, 37), np.nan)
    votes[:2, :3] = [1, 0, 0]
    found = scores(np.full((4, 37), 0.5), votes, TREE)
    assert found["rmse"] == 0.5
    assert set(found) == {"rmse", "rmse/smooth or disk", "accuracy/smooth or disk", "accuracy"}
