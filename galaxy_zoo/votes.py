"""Rules of vote fractions over a decision tree, and the score.

A table of votes has one row a galaxy and one column an answer of the tree; a missing vote is NaN.
"""

import io
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from galaxy_zoo.tree import DecisionTree

TOLERANCE = 0.005
"""Largest distance of a question's answers from the votes of its parent: eight values rounded to three decimals are off
by at most 0.004. Kaggle's own rows are within 2e-6."""

Floats = NDArray[np.floating]
VoteKind = Literal["all", "question", "counts"]
"""What a table holds: fractions of all voters, fractions of the voters of each question, or numbers of voters."""


@dataclass(frozen=True)
class Violation:
    """A question of one row whose answers do not sum to the votes of its parent."""

    row: int
    question: str
    total: float
    expected: float

    def __str__(self) -> str:
        return f"question {self.question!r}: answers sum to {self.total:.6g}, expected {self.expected:.6g}"


def parent_votes(votes: Floats, tree: DecisionTree) -> Floats:
    """Return for each question the votes of its parent answer, 1 if it has none.

    Args:
        votes: shape (rows, answers).

    Returns:
        Shape (rows, questions); NaN if the parent's vote is missing.
    """
    ones = np.ones(len(votes), dtype=votes.dtype)
    return np.stack([ones if p is None else votes[:, p] for p in tree.parents], axis=1)


def question_totals(votes: Floats, tree: DecisionTree) -> Floats:
    """Return the sum of the answers of each question, shape (rows, questions); NaN if one is missing."""
    return np.stack([votes[:, columns].sum(axis=1) for columns in tree.slices], axis=1)


def check_votes(votes: Floats, tree: DecisionTree, *, tolerance: float = TOLERANCE) -> list[Violation]:
    """Find the questions whose answers do not sum to the votes of their parent, row by row.

    Questions with a missing answer or parent are not checked.

    Args:
        votes: shape (rows, answers), fractions in [0, 1] or NaN.
    """
    totals, expected = question_totals(votes, tree), parent_votes(votes, tree)
    off = np.abs(totals - expected) > tolerance  # NaN compares false
    return [
        Violation(int(row), tree.questions[q].name, float(totals[row, q]), float(expected[row, q]))
        for row, q in zip(*np.nonzero(off), strict=True)
    ]


def normalise_votes(votes: Floats, tree: DecisionTree) -> Floats:
    """Make votes obey the tree: each question to a sum of 1, then times the votes of its parent.

    Parents come first, so each factor is already rescaled itself. A question whose answers are all zero stays
    zero. Missing votes stay missing and make the questions under them missing.

    Source: Dieleman, Willett & Dambre 2015, MNRAS 450, 1441 (their output constraints).
    """
    result = np.array(votes, dtype=np.float64)
    for index in tree.order:
        columns, parent = tree.slices[index], tree.parents[index]
        total = result[:, columns].sum(axis=1, keepdims=True)
        result[:, columns] /= np.where(total == 0, 1.0, total)
        if parent is not None:
            result[:, columns] *= result[:, parent, None]
    return result


def fractions_of_counts(counts: Floats, tree: DecisionTree) -> Floats:
    """Turn voter counts into votes: each answer's share of its question, times the votes of the parent.

    Args:
        counts: shape (rows, answers), at least 0, or NaN.

    Source: as `normalise_votes`.
    """
    shares = np.array(counts, dtype=np.float64)
    for columns in tree.slices:
        total = shares[:, columns].sum(axis=1, keepdims=True)
        shares[:, columns] /= np.where(total == 0, np.nan, total)
    return fractions_of_all(shares, tree)


def fractions_of_all(shares: Floats, tree: DecisionTree) -> Floats:
    """Turn fractions of the voters of each question into votes: times the votes of the parent.

    A question that nobody answered gets zeros if its parent has no votes, else missing votes, since nothing is known.

    Args:
        shares: shape (rows, answers), in [0, 1] or NaN.

    Source: as `normalise_votes`.
    """
    votes = np.array(shares, dtype=np.float64)
    for columns in tree.slices:
        nobody = votes[:, columns].sum(axis=1) == 0
        votes[nobody, columns] = np.nan
    for index in tree.order:
        columns, parent = tree.slices[index], tree.parents[index]
        if parent is not None:
            votes[:, columns] *= votes[:, parent, None]
            votes[votes[:, parent] == 0, columns] = 0.0
    return votes


def classes_by(votes: Floats, tree: DecisionTree, question: int) -> NDArray[np.int64]:
    """Return for each galaxy the answer of one question with the most votes (the first of equals), counted from 0.

    It is -1 if a vote of that question is missing or nobody was asked the question.

    Args:
        votes: shape (galaxies, answers).
    """
    some = votes[:, tree.slices[question]]
    known = some.sum(axis=1) > 0  # NaN compares false
    return np.where(known, np.argmax(np.where(known[:, None], some, 0), axis=1), -1)


def rmse(predicted: ArrayLike, votes: ArrayLike) -> float:
    """Return Kaggle's score: the square root of the mean over all galaxies and all answers of the squared error.

    It is neither the mean of the answers' RMSEs nor the mean of the batches' RMSEs. Missing votes (NaN) in
    `votes` are left out of the mean.

    Args:
        predicted: shape (galaxies, answers).
        votes: the same shape.

    Raises:
        ValueError: the shapes differ, no vote is present, or a prediction is missing.

    Source: the challenge's "Evaluation" page.
    """
    got, true = np.asarray(predicted, np.float64), np.asarray(votes, np.float64)
    if got.shape != true.shape:
        raise ValueError(f"predictions of shape {got.shape} do not fit votes of shape {true.shape}")
    present = ~np.isnan(true)
    if not present.any():
        raise ValueError("no vote is present; nothing to score")
    if np.isnan(got).any():
        raise ValueError("a prediction is NaN")
    return float(np.sqrt(np.mean((got[present] - true[present]) ** 2)))


def mean_votes(votes: Floats) -> Floats:
    """Return the mean of each answer over the rows where it is present, shape (answers,); NaN if it never is."""
    present = ~np.isnan(votes)
    count = present.sum(axis=0)
    total = np.where(present, votes, 0).sum(axis=0, dtype=np.float64)
    means: Floats = np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
    return means


CLASS_EXTENSION = "votes.cls"
"""Extension, in an index, of the component that holds a sample's class; in the tar it is `.cls`."""


def one_hot(text: bytes, num_answers: int) -> NDArray[np.float32]:
    """Return the votes of a class, given as WebDataset writes it: digits, counted from 0.

    Returns:
        float32, shape (answers,): 1 for the answer that is the class, 0 for the others.

    Raises:
        ValueError: it is not a class of a question of so many answers.
    """
    number = text.strip()
    if not (number.isdigit() and len(number) <= len(str(num_answers)) and int(number) < num_answers):
        shown = text[:20].decode("ascii", "backslashreplace")
        raise ValueError(f"the class is {shown!r}, and the tree has the answers 0 to {num_answers - 1}")
    votes = np.zeros(num_answers, np.float32)
    votes[int(number)] = 1
    return votes


NPY_HEADER_BYTES = 128
"""Length of the .npy header of a one-dimensional array of usual length."""


@cache
def npy_header(num_answers: int) -> bytes:
    """Return the .npy header of `num_answers` float32 values, which a loader compares instead of parsing.

    Source: numpy.lib.format, version 1.0.
    """
    file = io.BytesIO()
    np.save(file, np.zeros(num_answers, "<f4"), allow_pickle=False)
    header = file.getvalue()[: -4 * num_answers]
    assert len(header) == NPY_HEADER_BYTES
    return header
