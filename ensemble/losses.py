"""Losses of predicted against true votes, both float32, shape (batch, answers); a missing true vote is NaN.

Each loss is a scalar: a mean over the votes or galaxies present in the batch, 0 if none are present.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from galaxy_zoo.tree import DecisionTree

LossFunction = Callable[[Tensor, Tensor], Tensor]
"""Takes predicted and true votes, returns a scalar."""

TINY = 1e-30
"""Keeps logarithms finite."""


class Loss(Protocol):
    """Description of a loss in a recipe."""

    def build(self, tree: DecisionTree) -> LossFunction:
        """Build the loss for the answers of `tree`."""


@dataclass(frozen=True)
class Mse:
    """Mean squared error."""

    def build(self, tree: DecisionTree) -> LossFunction:  # noqa: ARG002
        """Build the loss."""
        return mse


@dataclass(frozen=True)
class Rmse:
    """Root of the mean squared error of the batch; its slope at 0 is finite."""

    def build(self, tree: DecisionTree) -> LossFunction:  # noqa: ARG002
        """Build the loss."""
        return lambda predicted, votes: (mse(predicted, votes) + 1e-12).sqrt()


@dataclass(frozen=True)
class Bce:
    """Binary cross-entropy with the votes as targets."""

    def build(self, tree: DecisionTree) -> LossFunction:  # noqa: ARG002
        """Build the loss."""
        return bce


@dataclass(frozen=True)
class Hierarchical:
    """Sum over the questions of their binary cross-entropies."""

    def build(self, tree: DecisionTree) -> LossFunction:
        """Build the loss."""
        return lambda predicted, votes: torch.stack([bce(predicted[:, q], votes[:, q]) for q in tree.slices]).sum()


@dataclass(frozen=True)
class CrossEntropy:
    """Sum over the questions of the cross-entropy of their answers.

    It compares the shares within a question and weights a galaxy by the question's votes, so with one question and
    one-hot votes it is the usual cross-entropy. The head's votes must be above 0.
    """

    def build(self, tree: DecisionTree) -> LossFunction:
        """Build the loss."""
        return lambda predicted, votes: _sum_over_questions(_cross_entropy, predicted, votes, tree)


@dataclass(frozen=True)
class DirichletMultinomial:
    """Negative log-likelihood of the voter counts under the concentrations of head "dirichlet".

    The multinomial coefficient is left out, since no weight changes it. voters: number of voters of each galaxy,
    used to turn votes into counts.

    Source: Walmsley et al. 2022, MNRAS 509, 3966, equation 3; about 44 voters: the challenge's votes.
    """

    voters: float = 44.0

    def __post_init__(self) -> None:
        """Raise ValueError if `voters` is not positive."""
        if not self.voters > 0:
            raise ValueError(f"voters must be above 0, not {self.voters}")

    def build(self, tree: DecisionTree) -> LossFunction:
        """Build the loss."""
        return lambda concentrations, votes: _sum_over_questions(
            _dirichlet_multinomial, concentrations, self.voters * votes, tree
        )


LOSSES: dict[str, type[Loss]] = {
    "mse": Mse,
    "rmse": Rmse,
    "bce": Bce,
    "hierarchical": Hierarchical,
    "cross_entropy": CrossEntropy,
    "dirichlet_multinomial": DirichletMultinomial,
}


def mse(predicted: Tensor, votes: Tensor) -> Tensor:
    """Return the mean squared error over the votes present."""
    return _mean((predicted - votes.nan_to_num()).square(), ~votes.isnan())


def bce(predicted: Tensor, votes: Tensor) -> Tensor:
    """Return the mean binary cross-entropy over the votes present."""
    return _mean(F.binary_cross_entropy(predicted, votes.nan_to_num(), reduction="none"), ~votes.isnan())


def _cross_entropy(predicted: Tensor, votes: Tensor) -> Tensor:
    """Return the loss of one question for each galaxy, shape (batch,)."""
    shares = predicted / predicted.sum(dim=1, keepdim=True).clamp(min=TINY)
    return -(votes * shares.clamp(min=TINY).log()).sum(dim=1)


def _dirichlet_multinomial(concentrations: Tensor, counts: Tensor) -> Tensor:
    """Return the loss of one question for each galaxy, shape (batch,)."""
    total, everyone = concentrations.sum(dim=1), counts.sum(dim=1)
    answers = (concentrations + counts).lgamma() - concentrations.lgamma()
    return (total + everyone).lgamma() - total.lgamma() - answers.sum(dim=1)


def _sum_over_questions(loss: LossFunction, predicted: Tensor, votes: Tensor, tree: DecisionTree) -> Tensor:
    """Return the sum over questions of the mean loss of the galaxies that have all votes of the question."""
    known, present = votes.nan_to_num(), ~votes.isnan()
    means = [_mean(loss(predicted[:, q], known[:, q]), present[:, q].all(dim=1)) for q in tree.slices]
    return torch.stack(means).sum()


def _mean(losses: Tensor, present: Tensor) -> Tensor:
    """Return the mean of `losses` where `present`, without synchronising with the host.

    `losses` must be finite everywhere: a masked NaN would still reach the gradients.
    """
    return torch.where(present, losses, 0.0).sum() / present.sum().clamp(min=1)
