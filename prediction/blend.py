"""Blends of an ensemble: a weight of 0 or more for each member; they sum to 1, so that a blend still obeys the tree.

A blend is fitted on galaxies that the members have not seen. It can still over-fit, so every kind of blend is scored
twice: on the galaxies it was fitted on, and cross-fitted, that is, each fifth of them by a blend fitted on the others.

Everything is computed from the products of the members' errors, summed over answers: the squared error of the blend
w is w' G w for G[i, j] = sum of error_i * error_j. So trying a blend costs the same for any number of galaxies.

A weight belongs to a column of members: a member of one run or, if the same member was trained on several folds, all of
its trainings together. Together they have held out more galaxies than one fold.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import nnls

from galaxy_zoo.errors import RunError
from galaxy_zoo.scores import Comparison, paired_bootstrap
from galaxy_zoo.votes import Floats
from prediction.members import TrainedMember
from prediction.passes import Block
from prediction.request import Blend

NUM_FOLDS = 5
LINES_SHOWN = 20
SUM_PENALTY = 1e3
"""Cost of a deviation of the sum of weights from 1, relative to the error of the average member."""

Weights = NDArray[np.float64]
Fit = Callable[[Floats], Weights]
"""Takes the error products, shape (members, members), returns weights, shape (members,)."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A blend fitted on held-out galaxies.

    fitted_rmse: RMSE on the galaxies it was fitted on. held_out_rmse: cross-fitted RMSE, which over-fitting raises.
    against_uniform: comparison of its cross-fitted predictions with the uniform mean of all members.
    """

    weights: Weights
    fitted_rmse: float
    held_out_rmse: float
    against_uniform: Comparison


@dataclass(frozen=True)
class Curve:
    """RMSE of the uniform mean of the first k members for k = 1, 2, ..., shape (members,).

    order: members in the order they were chosen. held_out_rmse: cross-fitted RMSE; each fifth has its own order.
    """

    order: tuple[int, ...]
    fitted_rmse: Floats
    held_out_rmse: Floats


def mean_of(chosen: Sequence[int], count: int) -> Weights:
    """Return the weights of the uniform mean of some of `count` members."""
    weights = np.zeros(count)
    weights[list(chosen)] = 1 / len(chosen)
    return weights


def uniform(products: Floats) -> Weights:
    """Return the same weight for every member."""
    return mean_of(range(len(products)), len(products))


def best_k(products: Floats) -> Weights:
    """Return equal weights for the first k members of `greedy_order`, for the k with the least error."""
    order = greedy_order(products)
    errors = [_error(products, mean_of(order[:k], len(order))) for k in range(1, len(order) + 1)]
    return mean_of(order[: int(np.argmin(errors)) + 1], len(order))


def optimal_weights(products: Floats) -> Weights:
    """Return the weights with the least error, by non-negative least squares with a sum of 1."""
    scale = np.trace(products) / len(products) or 1.0
    values, vectors = np.linalg.eigh(products / scale)
    roots = np.sqrt(values.clip(0))[:, None] * vectors.T  # roots' roots = products
    penalty = np.full((1, len(products)), SUM_PENALTY)
    weights, _ = nnls(np.concatenate([roots, penalty]), np.append(np.zeros(len(roots)), SUM_PENALTY))
    result: Weights = weights / weights.sum()
    return result


BLENDS: dict[Blend, Fit] = {"uniform": uniform, "best-k": best_k, "weights": optimal_weights}


def greedy_order(products: Floats) -> tuple[int, ...]:
    """Return the members in greedy order: each is the one that lowers the error of the mean the most."""
    order: list[int] = []
    left = list(range(len(products)))
    while left:
        errors = [_error(products, mean_of([*order, each], len(products))) for each in left]
        order.append(left.pop(int(np.argmin(errors))))
    return tuple(order)


class HeldOutPredictions:
    """Predictions of galaxies that no member has seen, with their true votes.

    Args:
        predictions: shape (members, galaxies, answers).
        true: shape (galaxies, answers), missing votes are NaN.

    Raises:
        ValueError: no vote is present, or there are fewer galaxies than folds.
    """

    def __init__(self, predictions: Floats, true: Floats) -> None:
        if len(true) < NUM_FOLDS or np.isnan(true).all():
            raise ValueError(f"{len(true)} galaxies with votes; a blend is fitted on at least {NUM_FOLDS}")
        self._predictions, self._true = predictions, true
        self._fold = np.arange(len(true)) % NUM_FOLDS  # samples are shuffled when packed
        present = ~np.isnan(true)
        self._counts = np.array([present[self._fold == fold].sum() for fold in range(NUM_FOLDS)])
        self._products = np.stack([self._products_of(self._fold == fold) for fold in range(NUM_FOLDS)])

    def fit(self, method: Fit) -> Fitted:
        """Fit a blend on all the galaxies, and cross-fit it."""
        weights = method(self._products.sum(axis=0))
        crossed = np.stack([method(self._without(fold)) for fold in range(NUM_FOLDS)])
        blended = self._blend(crossed[self._fold])
        everybody = self._blend(np.broadcast_to(uniform(weights), (len(self._true), len(weights))))
        return Fitted(
            weights=weights,
            fitted_rmse=self._rmse(np.broadcast_to(weights, crossed.shape)),
            held_out_rmse=self._rmse(crossed),
            against_uniform=paired_bootstrap(blended, everybody, self._true),
        )

    def curve(self) -> Curve:
        """Return the scores of the uniform means of the best k members."""
        order = greedy_order(self._products.sum(axis=0))
        orders = [greedy_order(self._without(fold)) for fold in range(NUM_FOLDS)]
        counts = range(1, len(order) + 1)
        fitted = [self._rmse(np.stack([mean_of(order[:k], len(order))] * NUM_FOLDS)) for k in counts]
        held_out = [self._rmse(np.stack([mean_of(each[:k], len(order)) for each in orders])) for k in counts]
        return Curve(order, np.array(fitted), np.array(held_out))

    def _products_of(self, rows: NDArray[np.bool_]) -> Floats:
        true = self._true[rows]
        errors = [np.nan_to_num(each[rows] - true).ravel() for each in self._predictions]
        matrix = np.stack(errors).astype(np.float64)
        products: Floats = matrix @ matrix.T
        return products

    def _without(self, fold: int) -> Floats:
        products: Floats = self._products.sum(axis=0) - self._products[fold]
        return products

    def _rmse(self, weights: Floats) -> float:
        """Return the RMSE of blends whose weights, shape (folds, members), are those of each fold."""
        total = sum(_error(products, each) for products, each in zip(self._products, weights, strict=True))
        return float(np.sqrt(total / self._counts.sum()))

    def _blend(self, weights: Floats) -> Floats:
        """Return blended votes; weights have shape (galaxies, members)."""
        votes: Floats = np.einsum("gm,mga->ga", weights, self._predictions)
        return votes


def _error(products: Floats, weights: Weights) -> float:
    """Return the squared error, over all answers, of the blend of some members."""
    return float(weights @ products @ weights)


def columns_of(members: Sequence[TrainedMember]) -> list[tuple[int, ...]]:
    """Return the columns: numbers of members that differ only in the fold they were trained on."""
    columns: dict[str, list[int]] = {}
    for number, member in enumerate(members):
        run = member.run
        begun_as = [run.identity["init_from"], run.weights_sha256]
        same = json.dumps([run.recipe.table, run.seed, member.index, run.pretrained, begun_as], sort_keys=True)
        columns.setdefault(same, []).append(number)
    return [tuple(column) for column in columns.values()]


def held_out_votes(
    blocks: Iterable[Block], columns: Sequence[Sequence[int]], true: pd.DataFrame
) -> HeldOutPredictions:
    """Return the predictions of all columns for the galaxies that each of them holds out.

    Args:
        blocks: predictions by members that have not seen the galaxies.
        true: true votes by id.

    Raises:
        RunError: there are no such galaxies, or too few.
    """
    predictions, votes = [], []
    for block in blocks:
        rows = [[at for at, member in enumerate(block.members) if member in column] for column in columns]
        if all(rows):
            predictions.append(np.stack([block.mean[some].mean(axis=0) for some in rows]))
            votes.append(true.loc[block.ids.tolist()].to_numpy())
    hint = "blend with --blend uniform, or train all members with the same --fold, or each of them with every fold"
    if not predictions:
        raise RunError(f"no galaxy is held out from all members, so no blend can be fitted; {hint}")
    try:
        return HeldOutPredictions(np.concatenate(predictions, axis=1), np.concatenate(votes))
    except ValueError as error:
        raise RunError(f"{error}; {hint}") from error


def member_weights(columns: Sequence[Sequence[int]], column_weights: Weights, num_members: int) -> Weights:
    """Return the weights of members: the members of a column share its weight equally."""
    weights = np.zeros(num_members)
    for column, weight in zip(columns, column_weights.tolist(), strict=True):
        weights[list(column)] = weight / len(column)
    return weights


def describe_blends(held_out: HeldOutPredictions, blends: dict[Blend, Fitted], names: Sequence[str]) -> list[str]:
    """Return lines of text: scores of the blends, then scores by number of members. names: names of the columns."""
    lines = ["blend      fitted   cross-fitted   cross-fitted minus uniform"]
    for name, fitted in blends.items():
        against = f"{fitted.against_uniform.difference.value:+.5f}" if name != "uniform" else ""
        interval = fitted.against_uniform.difference
        spread = f" ({interval.low:+.5f} to {interval.high:+.5f})" if against else ""
        lines.append(f"{name:<10} {fitted.fitted_rmse:.5f}  {fitted.held_out_rmse:.5f}        {against}{spread}")
    curve = held_out.curve()
    lines.append("members    fitted   cross-fitted   added")
    for k, (member, fit, held) in enumerate(
        zip(curve.order, curve.fitted_rmse, curve.held_out_rmse, strict=True), 1
    ):
        if k <= LINES_SHOWN:
            lines.append(f"{k:<10} {fit:.5f}  {held:.5f}        {names[member]}")
    return lines
