"""Progress bars of trainings and predictions, with speed and the share of time spent waiting for batches."""

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from galaxy_zoo.progress import progress
from galaxy_zoo.text import shown
from pipeline.loader import Batch
from training.idle import CudaClock, IdleTime
from training.ranks import ALONE, Ranks
from training.start import StartTimer
from training.watch import LossWatch

T = TypeVar("T")

REFRESH_S, FORECAST_AFTER_S = 1.0, 10.0


class Stopwatch:
    """Measures the time since it was created, and `waited_s`, the seconds that a loop waited for its batches."""

    def __init__(self) -> None:
        self._started, self.waited_s = time.perf_counter(), 0.0

    @property
    def seconds(self) -> float:
        """Seconds since the start, above 0."""
        return max(time.perf_counter() - self._started, 1e-9)

    @property
    def waited(self) -> float:
        """Share of the time spent waiting, from 0 to 1."""
        return self.waited_s / self.seconds

    def timed(self, batches: Iterable[T]) -> Iterator[T]:
        """Yield the batches; count the time until each batch, and until the end, as waiting."""
        source = iter(batches)
        while True:
            asked = time.perf_counter()
            batch = next(source, None)
            self.waited_s += time.perf_counter() - asked
            if batch is None:
                return
            yield batch


class Forecast:
    """Estimates once how long a training will take, from the steps after the first, which includes compilation.

    Args:
        total: number of steps of the training, `done` of them before now.
    """

    def __init__(self, total: int, done: int) -> None:
        self._total, self._done = total, done
        self._first: tuple[int, float] | None = None
        self._is_told = False

    def after_step(self) -> str:
        """Count a step, and return the forecast when it is time, else ""."""
        self._done, now = self._done + 1, time.perf_counter()
        if self._first is None:
            self._first = self._done, now
        first, began = self._first
        if self._is_told or now - began < FORECAST_AFTER_S or self._done == first:
            return ""
        self._is_told, left = True, self._total - self._done
        return f"about {_duration((now - began) / (self._done - first) * left)} for the remaining {left:,} steps"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


@dataclass(frozen=True)
class EpochSums:
    """Sums over an epoch so far, by all ranks that train together.

    loss_sums: for each member the sum of its loss over the samples; empty before the first step.
    """

    samples: int = 0
    loss_sums: tuple[float, ...] = ()


class Meter:
    """Counts the steps, images, losses and waiting time of an epoch.

    "Data wait" is the share of time lost to the loader: on a CPU, while this process waits for a batch; on a GPU, while
    the device is idle because it does. "Host wait" is the rest of the share of time in which a GPU is idle between
    steps.

    Args:
        members: numbers of the members trained here.
        team: ranks that train them together.
        start: told when the first batch has come and when the first step is done.
    """

    def __init__(
        self, members: Sequence[int], device: torch.device, team: Ranks = ALONE, start: StartTimer | None = None
    ) -> None:
        self._members, self._team, self.start = members, team, start or StartTimer()
        self._bar: tqdm[Any] = tqdm(disable=True)
        self._forecast: Forecast | None = None
        self._watch, self._has_stepped = LossWatch(members, device), False
        self._idle = IdleTime(CudaClock()) if device.type == "cuda" else None
        self.begin_epoch("")

    @contextmanager
    def bar(self, steps: int, *, done: int, is_shown: bool) -> Iterator[None]:
        """Show a progress bar of `steps` steps, `done` of them finished, within the block."""
        if not is_shown:
            yield
            return
        with progress(total=steps, done=done, unit="steps") as self._bar:
            self._forecast = Forecast(steps, done)
            yield

    def begin_epoch(
        self, label: str, *, step: int = 0, sums: EpochSums | None = None, num_training: int | None = None
    ) -> None:
        """Start to count an epoch at `step`.

        Args:
            sums: sums over the steps before.
            num_training: number of members that have not stopped; default: all.
        """
        self._num_training = len(self._members) if num_training is None else num_training
        self._bar.set_description(label, refresh=False)
        before = sums if sums is not None and self._team.is_first else EpochSums()  # only one rank counts them
        self._samples = self._seen_before = before.samples
        self._watch.begin(label, step, before.loss_sums or (0.0,) * len(self._members))
        self._stopwatch, self._shown = Stopwatch(), time.perf_counter()
        if self._idle is not None:
            self._idle.begin_epoch()

    def step(self) -> AbstractContextManager[None]:
        """Return a block in which a step is launched."""
        return nullcontext() if self._idle is None else self._idle.step(self._stopwatch.waited_s)

    def timed(self, batches: Iterable[T]) -> Iterator[T]:
        """Yield the batches; count the time until each one as waiting."""
        for batch in self._stopwatch.timed(batches):
            self.start.end("first batch")
            yield batch

    def add(self, ids: NDArray[np.str_], losses: list[Tensor]) -> None:
        """Count a step: the samples of the batch and the loss of each member.

        Raises:
            RunError: a loss is not finite.
        """
        if not self._has_stepped:
            self._has_stepped = True
            torch.stack(losses).cpu()  # wait for the device, this once
            self.start.end("first step")
        self._watch.add(ids, losses)
        self._samples += len(ids)
        self._bar.update()
        if self._forecast is not None and (words := self._forecast.after_step()):
            self.write(words)
        if time.perf_counter() - self._shown > REFRESH_S:
            self._shown = time.perf_counter()
            loss = self._watch.mean * len(self._members) / max(1, self._num_training)  # that of the stopped is 0
            self._bar.set_postfix_str(f"loss {loss:.5f}, {self}", refresh=False)

    def sums(self) -> EpochSums:
        """Return the sums over this epoch so far. This waits for the device.

        Raises:
            RunError: a loss is not finite.
        """
        self._watch.finish()
        if self._idle is not None:
            self._idle.finish()
        [samples] = self._team.sum_numbers(self._samples)
        loss_sums = self._team.all_reduce(torch.tensor(self._watch.sums, dtype=torch.float64))
        return EpochSums(samples, tuple(loss_sums.tolist()))

    def mean_losses(self) -> list[float]:
        """Return for each member its mean loss over the samples of this epoch. This waits for the device.

        Raises:
            RunError: a loss is not finite.
        """
        sums = self.sums()
        return [total / max(1, sums.samples) for total in sums.loss_sums]

    def speed(self) -> dict[str, float]:
        """Return images per second (summed over the members here), shares of waiting, and seconds of this epoch."""
        seconds, waits = self._stopwatch.seconds, {"data_wait": self._stopwatch.waited}
        if self._idle is not None:
            waits = {
                "data_wait": self._idle.seconds("loader") / seconds,
                "host_wait": self._idle.seconds("host") / seconds,
            }
        images = self._num_training * (self._samples - self._seen_before) * self._team.world_size
        return {"images_per_s": images / seconds, **waits, "seconds": seconds}

    def __str__(self) -> str:
        speed = self.speed()
        waits = "".join(
            f"{name.replace('_', ' ')} {speed[name]:.1%}, " for name in speed if name.endswith("_wait")
        )
        return f"{speed['images_per_s']:.0f} img/s, {waits}{speed['seconds']:.0f} s"

    def write(self, line: str) -> None:
        """Print a line above the bar."""
        tqdm.write(shown(line), file=sys.stderr)


class PredictionMeter:
    """The progress bar of a prediction of `total` galaxies, shown if `is_shown`."""

    def __init__(self, label: str, total: int, *, is_shown: bool) -> None:
        self._bar: tqdm[Any] = (
            progress(total=total, unit="galaxies", desc=label) if is_shown else tqdm(disable=True)
        )
        self._stopwatch = Stopwatch()

    def timed(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yield the batches; count the time until each one as waiting."""
        for batch in self._stopwatch.timed(batches):
            yield batch
            self._bar.set_postfix_str(f"data wait {self._stopwatch.waited:.1%}", refresh=False)
            self._bar.update(len(batch.ids))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
