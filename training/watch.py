"""Check and sum every loss without making a GPU wait: losses are copied to the host while the next steps run."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from galaxy_zoo.errors import RunError

STEPS = 20
"""On a GPU losses are checked in groups of this many steps, one group late; on a CPU after every step."""
SHOWN_IDS = 8


@dataclass(frozen=True)
class _Group:
    """Losses being copied to the host, shape (steps, members), and the ids of the batch of each step."""

    first_step: int
    ids: list[NDArray[np.str_]]
    losses: Tensor
    copied: torch.cuda.Event | None


class LossWatch:
    """Checks and sums losses; keeps the ids of each step until its losses are known to be finite.

    sums: for each member the sum of its losses over the samples of the steps checked so far.
    """

    def __init__(self, members: Sequence[int], device: torch.device) -> None:
        self._members, self._on_gpu = members, device.type == "cuda"
        self.mean = math.nan
        self.begin("", 0, [0.0] * len(members))

    def begin(self, label: str, step: int, sums: Sequence[float]) -> None:
        """Start an epoch at a step, counted from 0. sums: the sums over the steps before."""
        self._label, self._next, self.sums = label, step, list(sums)
        self._ids: list[NDArray[np.str_]] = []
        self._losses: list[list[Tensor]] = []
        self._under_way: _Group | None = None

    def add(self, ids: NDArray[np.str_], losses: list[Tensor]) -> None:
        """Add the losses of a step, a scalar for each member.

        Raises:
            RunError: a loss of this step or of one before is not finite.
        """
        self._ids.append(ids)
        self._losses.append(losses)
        if len(self._ids) == STEPS or not self._on_gpu:
            self._hand_over()

    def finish(self) -> None:
        """Check all remaining losses. This waits for the device.

        Raises:
            RunError: a loss is not finite; the message names the step and the samples.
        """
        if self._ids:
            self._hand_over()
        self._examine()

    def _hand_over(self) -> None:
        self._examine()
        losses = torch.stack([loss for step in self._losses for loss in step]).view(len(self._losses), -1)
        copied = None
        if self._on_gpu:
            host = torch.empty(losses.shape, dtype=losses.dtype, pin_memory=True)
            losses = host.copy_(losses, non_blocking=True)
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record()
        self._under_way = _Group(self._next, self._ids, losses, copied)
        self._next += len(self._ids)
        self._ids, self._losses = [], []
        if copied is None:
            self._examine()

    def _examine(self) -> None:
        group, self._under_way = self._under_way, None
        if group is None:
            return
        if group.copied is not None:
            group.copied.synchronize()  # those steps finished long ago, so this hardly waits
        if not group.losses.isfinite().all():
            self._complain(group)
        self.mean = float(group.losses.mean())
        for ids, losses in zip(group.ids, group.losses.tolist(), strict=True):
            self.sums = [total + loss * len(ids) for total, loss in zip(self.sums, losses, strict=True)]

    def _complain(self, group: _Group) -> None:
        step, member = (~group.losses.isfinite()).nonzero()[0].tolist()
        ids = group.ids[step]
        shown = ", ".join(ids[:SHOWN_IDS]) + (", ..." if len(ids) > SHOWN_IDS else "")
        raise RunError(
            f"{self._label}, step {group.first_step + step + 1}: the loss of member {self._members[member]} is "
            f"{group.losses[step, member]:g} on {shown}; the last checkpoint is from before this step; look at these "
            "images (shard_tool preview), or train again with a lower learning rate"
        )
