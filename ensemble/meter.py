"""How training goes: a progress bar with loss, images/s and the share of time spent waiting for data."""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor
from tqdm import tqdm

from galaxy_zoo.console import progress

T = TypeVar("T")

REFRESH_S = 1.0


class Meter:
    """Counts steps, images and waiting time; the losses stay on the device until somebody looks."""

    def __init__(self, members: int, device: torch.device) -> None:
        self._members, self._device = members, device
        self._bar: tqdm[Any] = tqdm(disable=True)
        self.begin_epoch("", 0, None)

    @contextmanager
    def bar(self, steps: int, *, done: int) -> Iterator[None]:
        """Show a progress bar of `steps` steps, `done` of which are done."""
        with progress(total=steps, done=done, unit="step") as self._bar:
            yield

    def begin_epoch(self, label: str, seen: int, loss_sums: list[float] | None) -> None:
        """Start to count an epoch; with the samples seen and sums of losses so far if half-way."""
        self._bar.set_description(label, refresh=False)
        self._samples = self._seen_before = seen
        self._losses = torch.zeros(self._members, dtype=torch.float64)
        if loss_sums:
            self._losses += torch.tensor(loss_sums, dtype=torch.float64)
        self._losses = self._losses.to(self._device)
        self._started = self._shown = time.perf_counter()
        self._waited_s = 0.0

    def watch(self, batches: Iterable[T]) -> Iterator[T]:
        """The same batches; the time until each comes is counted as waiting."""
        source = iter(batches)
        while True:
            asked = time.perf_counter()
            batch = next(source, None)
            self._waited_s += time.perf_counter() - asked
            if batch is None:
                return
            yield batch

    def add(self, samples: int, losses: list[Tensor]) -> None:
        """Count a step: the samples of the batch and the loss of each member."""
        self._losses += torch.stack(losses).double() * samples
        self._samples += samples
        self._bar.update()
        if time.perf_counter() - self._shown > REFRESH_S:
            self._shown = time.perf_counter()
            status = f"loss {sum(self.mean_losses()) / self._members:.5f}, {self}"
            self._bar.set_postfix_str(status, refresh=False)

    def loss_sums(self) -> list[float]:
        """For each member the sum of its loss over the samples of this epoch. Waits for the device."""
        return [float(value) for value in self._losses.tolist()]

    def mean_losses(self) -> list[float]:
        """For each member its mean loss over the samples of this epoch. Waits for the device."""
        return [total / max(1, self._samples) for total in self.loss_sums()]

    def speed(self) -> dict[str, float]:
        """Of this epoch: images a second (of all members), share of the time waited for data, seconds."""
        seconds = max(time.perf_counter() - self._started, 1e-9)
        images = self._members * (self._samples - self._seen_before)
        return {"images_per_s": images / seconds, "data_wait": self._waited_s / seconds, "seconds": seconds}

    def __str__(self) -> str:
        speed = self.speed()
        return f"{speed['images_per_s']:.0f} img/s, data wait {speed['data_wait']:.1%}, {speed['seconds']:.0f} s"

    def write(self, line: str) -> None:
        """Print a line above the bar."""
        tqdm.write(line, file=sys.stderr)
