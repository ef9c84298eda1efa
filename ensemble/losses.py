"""Losses of predicted votes, both of shape (batch, answers), float32. Missing votes (NaN) do not count.

Each is a mean over the votes present in the batch, and 0 where there is none.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

LossFunction = Callable[[Tensor, Tensor], Tensor]


class Loss(Protocol):
    """The description of a loss in a recipe; calling it gives a scalar."""

    def __call__(self, predicted: Tensor, votes: Tensor) -> Tensor:
        """The loss of a batch."""


@dataclass(frozen=True)
class Mse:
    """Mean squared error."""

    def __call__(self, predicted: Tensor, votes: Tensor) -> Tensor:
        """See `Loss`."""
        return _mean_present((predicted - votes.nan_to_num()).square(), votes)


@dataclass(frozen=True)
class Rmse:
    """Root of the mean squared error of the batch."""

    def __call__(self, predicted: Tensor, votes: Tensor) -> Tensor:
        """See `Loss`. The root's slope is kept finite at 0."""
        return (Mse()(predicted, votes) + 1e-12).sqrt()


@dataclass(frozen=True)
class Bce:
    """Binary cross-entropy with the votes as targets."""

    def __call__(self, predicted: Tensor, votes: Tensor) -> Tensor:
        """See `Loss`."""
        return _mean_present(F.binary_cross_entropy(predicted, votes.nan_to_num(), reduction="none"), votes)


LOSSES: dict[str, type[Loss]] = {"mse": Mse, "rmse": Rmse, "bce": Bce}


def _mean_present(losses: Tensor, votes: Tensor) -> Tensor:
    """The mean of `losses` where `votes` is not NaN; without a host synchronisation.

    `losses` must be finite everywhere: a NaN that is masked here would still reach the gradients.
    """
    present = ~votes.isnan()
    return torch.where(present, losses, 0.0).sum() / present.sum().clamp(min=1)
