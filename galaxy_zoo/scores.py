"""The uncertainty of scores: RMSE by question and by answer, with bootstrap intervals over galaxies.

Tables of votes have one row per galaxy and one column per answer; missing votes (NaN) do not count. A score is always
`galaxy_zoo.votes.rmse`: the root of the mean over all votes present, never a mean of RMSEs.

A bootstrap draws as many galaxies as there are, with replacement, and scores them. An interval holds the middle 95 % of
such scores (percentile interval): it shows how far the score would move with other galaxies of the same kind, but not
with another training seed.

Source: Efron & Tibshirani 1993, An Introduction to the Bootstrap, ch. 13.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from galaxy_zoo.tree import DecisionTree
from galaxy_zoo.votes import Floats, rmse

ALL_COLUMNS = slice(None)
_CHUNK_BYTES = 2**25
"""Memory for the galaxy counts of the resamples that are scored at once."""


@dataclass(frozen=True)
class Resampling:
    """Settings of the bootstrap: number of resamples, their seed, and fraction of their scores in an interval."""

    resamples: int = 1000
    seed: int = 0
    confidence: float = 0.95

    def __post_init__(self) -> None:
        """Raise ValueError if a value is out of range."""
        if self.resamples < 1 or not 0 < self.confidence < 1:
            raise ValueError(f"{self.resamples} resamples, confidence {self.confidence}: no interval")


DEFAULT = Resampling()


@dataclass(frozen=True)
class Interval:
    """A score with its interval; NaN if no vote is present."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.5f} ({self.low:.5f} to {self.high:.5f})"


@dataclass(frozen=True)
class Comparison:
    """Comparison of two sets of predictions of the same galaxies.

    difference: RMSE of the first minus RMSE of the second; negative if the first is better.
    share_better: fraction of the resamples in which the first is better.
    """

    difference: Interval
    share_better: float


def rmse_by_question(predicted: ArrayLike, true: ArrayLike, tree: DecisionTree) -> Floats:
    """Return the RMSE over the answers of each question, shape (questions,); NaN if no vote is present.

    Args:
        predicted: shape (galaxies, answers).
        true: the same shape.

    Raises:
        ValueError: the shapes differ, or a prediction is missing.
    """
    return _roots(_errors(predicted, true, tree.slices).sum(axis=1))


def scores_by_name(predicted: Floats, true: Floats, tree: DecisionTree) -> dict[str, float]:
    """Return `rmse` and `accuracy` over all questions, and `rmse/QUESTION` and `accuracy/QUESTION` for each question.

    Questions for which no galaxy has votes are left out.

    Args:
        predicted: shape (galaxies, answers).
        true: the same shape.
    """
    scores = {"rmse": rmse(predicted, true)}
    num_right, num_asked = 0, 0
    by_question = rmse_by_question(predicted, true, tree)
    for question, columns, error in zip(tree.questions, tree.slices, by_question.tolist(), strict=True):
        if not np.isnan(error):
            scores[f"rmse/{question.name}"] = error
        answered = true[:, columns].sum(axis=1) > 0  # false if a vote is missing
        if answered.any():
            right = predicted[answered, columns].argmax(axis=1) == true[answered, columns].argmax(axis=1)
            scores[f"accuracy/{question.name}"] = float(right.mean())
            num_right, num_asked = num_right + int(right.sum()), num_asked + len(right)
    return scores | ({"accuracy": num_right / num_asked} if num_asked else {})


def bootstrap_interval(
    predicted: ArrayLike, true: ArrayLike, *, columns: slice = ALL_COLUMNS, how: Resampling = DEFAULT
) -> Interval:
    """Return the RMSE over some columns (default: all) with its interval.

    Args:
        predicted: shape (galaxies, answers).
        true: the same shape.

    Raises:
        ValueError: the shapes differ, or a prediction is missing.
    """
    [interval] = _intervals(_errors(predicted, true, [columns]), how)
    return interval


def bootstrap_by_question(
    predicted: ArrayLike, true: ArrayLike, tree: DecisionTree, *, how: Resampling = DEFAULT
) -> list[Interval]:
    """Return the RMSE of each question with its interval, all from the same resamples."""
    return _intervals(_errors(predicted, true, tree.slices), how)


def paired_bootstrap(
    a: ArrayLike, b: ArrayLike, true: ArrayLike, *, columns: slice = ALL_COLUMNS, how: Resampling = DEFAULT
) -> Comparison:
    """Compare two sets of predictions on the same resamples, which is far more precise than comparing two intervals.

    Args:
        a, b: shape (galaxies, answers).
        true: the same shape.

    Raises:
        ValueError: the shapes differ, or a prediction is missing.
    """
    errors = np.concatenate([_errors(each, true, [columns]) for each in (a, b)], axis=2)
    first, second = _roots(errors.sum(axis=1))
    scores = _resampled(errors, how)
    differences = scores[:, 0] - scores[:, 1]
    better = np.nan if np.isnan(differences).all() else float(np.mean(differences[~np.isnan(differences)] < 0))
    return Comparison(_interval(float(first - second), differences, how), better)


def describe_scores(
    predicted: ArrayLike, true: ArrayLike, tree: DecisionTree, how: Resampling = DEFAULT
) -> list[str]:
    """Return lines of text: the RMSE overall and of each question, each with its interval."""
    galaxies = int((~np.isnan(np.asarray(true, np.float64))).any(axis=1).sum())
    overall = bootstrap_interval(predicted, true, how=how)
    lines = [
        f"RMSE {overall} of {galaxies:,} galaxies; in brackets {how.confidence:.0%} intervals from "
        f"{how.resamples:,} resamples of the galaxies"
    ]
    by_question = bootstrap_by_question(predicted, true, tree, how=how)
    width = max(len(question.name) for question in tree.questions)
    pairs = zip(tree.questions, by_question, strict=True)
    return lines + [f"  {question.name:<{width}}  {interval}" for question, interval in pairs]


def _errors(predicted: ArrayLike, true: ArrayLike, columns: Sequence[slice]) -> NDArray[np.float64]:
    """Return sums of squared errors and numbers of votes present, shape (2, galaxies, len(columns))."""
    got, wanted = np.asarray(predicted, np.float64), np.asarray(true, np.float64)
    if got.shape != wanted.shape or got.ndim != 2:
        raise ValueError(f"predictions of shape {got.shape} do not fit votes of shape {wanted.shape}")
    if np.isnan(got).any():
        raise ValueError("a prediction is NaN")
    present = ~np.isnan(wanted)
    squares = np.where(present, got - wanted, 0) ** 2
    pairs = [(squares[:, some].sum(axis=1), present[:, some].sum(axis=1)) for some in columns]
    return np.stack([np.stack(pair) for pair in pairs], axis=2).astype(np.float64)


def _roots(sums: NDArray[np.float64]) -> Floats:
    """Turn sums of squares and counts, shape (2, ...), into RMSEs of shape (...); NaN if the count is 0."""
    squares, counts = sums
    mean: Floats = np.divide(squares, counts, out=np.full(np.shape(counts), np.nan), where=counts > 0)
    return np.sqrt(mean)


def _intervals(errors: NDArray[np.float64], how: Resampling) -> list[Interval]:
    scores = _resampled(errors, how)
    values = _roots(errors.sum(axis=1)).tolist()
    return [_interval(value, scores[:, at], how) for at, value in enumerate(values)]


def _interval(value: float, scores: Floats, how: Resampling) -> Interval:
    scores = scores[~np.isnan(scores)]
    if not len(scores):
        return Interval(value, np.nan, np.nan)
    tail = (1 - how.confidence) / 2
    low, high = np.quantile(scores, [tail, 1 - tail]).tolist()
    return Interval(value, low, high)


def _resampled(errors: NDArray[np.float64], how: Resampling) -> Floats:
    """Return the RMSE of each resample, shape (resamples, columns); NaN if no vote is present."""
    num_galaxies, num_columns = errors.shape[1:]
    flat = errors.transpose(1, 0, 2).reshape(num_galaxies, -1)
    sums = np.concatenate([counts @ flat for counts in _draws(num_galaxies, how)])
    return _roots(sums.reshape(-1, 2, num_columns).swapaxes(0, 1))


def _draws(num_galaxies: int, how: Resampling) -> Iterator[NDArray[np.float64]]:
    """Yield how often each galaxy is drawn, shape (some resamples, galaxies), for `how.resamples` in all."""
    rng = np.random.default_rng(how.seed)
    at_once = max(1, _CHUNK_BYTES // (8 * max(1, num_galaxies)))
    for first in range(0, how.resamples, at_once):
        some = range(first, min(first + at_once, how.resamples))
        drawn = (rng.integers(num_galaxies, size=num_galaxies) for _ in some)
        yield np.stack([np.bincount(each, minlength=num_galaxies) for each in drawn]).astype(np.float64)
