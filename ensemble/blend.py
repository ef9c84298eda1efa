"""Blends: the predictions of members and views to one."""

from collections.abc import Sequence

import torch
from torch import Tensor


def uniform_blend(predictions: Sequence[Tensor]) -> Tensor:
    """The mean of predictions of one shape."""
    return torch.stack(list(predictions)).mean(dim=0)
