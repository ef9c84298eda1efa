"""How training goes: a progress bar with loss, images/s and the share of time spent waiting for data."""

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from galaxy_zoo.console import progress
from training.ranks import ALONE, Ranks
from training.waiting import watched
from training.watch import LossWatch

T = TypeVar("T")

REFRESH_S = 1.0


@dataclass(frozen=True)
class Tally:
    """What was counted of an epoch by all ranks that train together.

    loss_sums: for each member the sum of its loss over the samples; empty before the first.
    """

    samples: int = 0
    loss_sums: tuple[float, ...] = ()


class Meter:
    """Counts steps, images and waiting time; the sums of losses stay on the device until an epoch ends.

    Args:
        members: the numbers of the members trained here.
    """

    def __init__(self, members: Sequence[int], device: torch.device, ranks: Ranks = ALONE) -> None:
        self._members, self._device, self._ranks = members, device, ranks
        self._bar: tqdm[Any] = tqdm(disable=True)
        self._watch = LossWatch(members, device)
        self.begin_epoch("")

    @contextmanager
    def bar(self, steps: int, *, done: int) -> Iterator[None]:
        """Show a progress bar of `steps` steps, `done` of which are done; on the first rank only."""
        if not self._ranks.is_first:
            yield
            return
        with progress(total=steps, done=done, unit="step") as self._bar:
            yield

    def begin_epoch(self, label: str, *, step: int = 0, tally: Tally | None = None) -> None:
        """Start to count an epoch; with what was counted before if at a later `step`."""
        self._bar.set_description(label, refresh=False)
        self._watch.begin(label, step)
        before = tally if tally is not None and self._ranks.writes else Tally()  # counted by one rank only
        self._samples = self._seen_before = before.samples
        sums = before.loss_sums or (0.0,) * len(self._members)
        self._losses = torch.tensor(sums, dtype=torch.float64, device=self._device)
        self._started = self._shown = time.perf_counter()
        self._waited_s = 0.0

    def watch(self, batches: Iterable[T]) -> Iterator[T]:
        """The same batches; the time until each comes is counted as waiting."""
        return watched(batches, self._add_wait_s)

    def _add_wait_s(self, seconds: float) -> None:
        self._waited_s += seconds

    def add(self, ids: NDArray[np.str_], losses: list[Tensor]) -> None:
        """Count a step: the samples of the batch and the loss of each member.

        Raises:
            RunError: a loss is no number.
        """
        stacked = torch.stack(losses)
        self._watch.add(ids, stacked)
        self._losses += stacked.double() * len(ids)
        self._samples += len(ids)
        self._bar.update()
        if time.perf_counter() - self._shown > REFRESH_S:
            self._shown = time.perf_counter()
            self._bar.set_postfix_str(f"loss {self._watch.mean:.5f}, {self}", refresh=False)

    def tally(self) -> Tally:
        """What was counted of this epoch. Waits for the device.

        Raises:
            RunError: a loss is no number.
        """
        self._watch.finish()
        [samples] = self._ranks.total(self._samples)
        return Tally(samples, tuple(self._ranks.sum(self._losses.clone()).tolist()))

    def mean_losses(self) -> list[float]:
        """For each member its mean loss over the samples of this epoch. Waits for the device.

        Raises:
            RunError: a loss is no number.
        """
        tally = self.tally()
        return [total / max(1, tally.samples) for total in tally.loss_sums]

    def speed(self) -> dict[str, float]:
        """Of this epoch: images a second (of all members here), share of the time waited for data, seconds."""
        seconds = max(time.perf_counter() - self._started, 1e-9)
        together = self._ranks.world_size if self._ranks.shares_data else 1
        images = len(self._members) * (self._samples - self._seen_before) * together
        return {"images_per_s": images / seconds, "data_wait": self._waited_s / seconds, "seconds": seconds}

    def __str__(self) -> str:
        speed = self.speed()
        return f"{speed['images_per_s']:.0f} img/s, data wait {speed['data_wait']:.1%}, {speed['seconds']:.0f} s"

    def write(self, line: str) -> None:
        """Print a line above the bar."""
        tqdm.write(line, file=sys.stderr)
