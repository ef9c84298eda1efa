"""How good predicted votes are: the score, and question by question."""

import numpy as np

from galaxy_zoo.scores import rmse_by_question
from galaxy_zoo.tree import DecisionTree
from galaxy_zoo.votes import Floats, rmse


def scores(predicted: Floats, votes: Floats, tree: DecisionTree) -> dict[str, float]:
    """The RMSE and the accuracy over all questions, and both of each question as `rmse/QUESTION`, `accuracy/QUESTION`.

    A question that no galaxy has votes for is left out.

    Args:
        predicted, votes: shape (galaxies, answers); votes may be missing (NaN).
    """
    result = {"rmse": rmse(predicted, votes)}
    right, asked = 0, 0
    by_question = rmse_by_question(predicted, votes, tree)
    for question, columns, error in zip(tree.questions, tree.slices, by_question.tolist(), strict=True):
        got, true = predicted[:, columns], votes[:, columns]
        if not np.isnan(error):
            result[f"rmse/{question.name}"] = error
        answered = true.sum(axis=1) > 0  # not where a vote is missing
        if answered.any():
            hits = got[answered].argmax(axis=1) == true[answered].argmax(axis=1)
            result[f"accuracy/{question.name}"] = float(hits.mean())
            right, asked = right + int(hits.sum()), asked + len(hits)
    return result | ({"accuracy": right / asked} if asked else {})
