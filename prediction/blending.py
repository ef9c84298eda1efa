"""From the predictions of members to those of the ensemble, with how far views and members disagree.

Which members a blend is fitted on: a member of one run, or, where the same member was trained on several folds, all
of its trainings together. Such a column of members has held out more galaxies than one fold.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from galaxy_zoo.errors import RunError
from galaxy_zoo.votes import Floats
from prediction.blend import BLENDS, Fitted, HeldOut, Weights
from prediction.passes import Block, TrainedMember

LINES_SHOWN = 20


@dataclass(frozen=True)
class Blended:
    """The ensemble's predictions of some galaxies, float32, each of shape (galaxies, answers).

    view_spread: standard deviation over the test-time views of a member, the root mean square over members.
    member_spread: standard deviation over members.
    """

    ids: NDArray[np.str_]
    votes: Floats
    view_spread: Floats
    member_spread: Floats


def blend_members(block: Block, weights: Weights) -> Blended:
    """Blend the members of a block by their weights, scaled to a sum of 1; `weights` are of all members."""
    mine = weights[list(block.members)]
    mine = mine / mine.sum()
    votes = np.tensordot(mine, block.mean, axes=1)
    between = np.tensordot(mine, (block.mean - votes) ** 2, axes=1)
    within = np.tensordot(mine, block.view_variance, axes=1)
    single = np.float32
    return Blended(
        block.ids, votes.astype(single), np.sqrt(within).astype(single), np.sqrt(between).astype(single)
    )


def columns_of(members: Sequence[TrainedMember]) -> list[tuple[int, ...]]:
    """Numbers of the members that differ in nothing but the fold they were trained on, in their first's order."""
    columns: dict[str, list[int]] = {}
    for number, member in enumerate(members):
        run = member.run
        same = json.dumps([run.recipe.table, run.seed, member.index, run.pretrained], sort_keys=True)
        columns.setdefault(same, []).append(number)
    return [tuple(column) for column in columns.values()]


def held_out_votes(blocks: Iterable[Block], columns: Sequence[Sequence[int]], true: pd.DataFrame) -> HeldOut:
    """The predictions of all columns for the galaxies that each of them holds out.

    Args:
        blocks: by members that have not seen the galaxies.
        true: votes by id.

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
        return HeldOut(np.concatenate(predictions, axis=1), np.concatenate(votes))
    except ValueError as error:
        raise RunError(f"{error}; {hint}") from error


def member_weights(columns: Sequence[Sequence[int]], column_weights: Weights, num_members: int) -> Weights:
    """The weights of members: a column's is shared out among its members."""
    weights = np.zeros(num_members)
    for column, weight in zip(columns, column_weights.tolist(), strict=True):
        weights[list(column)] = weight / len(column)
    return weights


def fit_blends(held_out: HeldOut) -> dict[str, Fitted]:
    """Every kind of blend, fitted and cross-fitted."""
    return {name: held_out.fit(method) for name, method in BLENDS.items()}


def describe_blends(held_out: HeldOut, blends: dict[str, Fitted], names: Sequence[str]) -> list[str]:
    """A table of the blends, and the curve of score against the number of members; `names` are of the columns."""
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
