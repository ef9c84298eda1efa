"""How long a GPU had nothing to do between the steps of an epoch, and why."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, Protocol

import torch

Cause = Literal["loader", "host"]

GAPS_AT_ONCE = 50
"""Gaps are measured this many at a time, and at least this many steps late, when the device is long past them."""


class Clock(Protocol):
    """The clocks of this process and of a device that works behind it."""

    def now(self) -> float:
        """Return the time here in seconds."""

    def mark(self) -> Any:
        """Return the moment at which the device has done all it was given so far."""

    def seconds(self, start: Any, end: Any) -> float:
        """Return the seconds between two moments; wait until the device has reached them."""


class CudaClock:
    """Moments of a GPU are events in the current stream."""

    def now(self) -> float:
        """Return the time here in seconds."""
        return time.perf_counter()

    def mark(self) -> torch.cuda.Event:
        """Record an event."""
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def seconds(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        """Return the seconds between two events; wait for the second."""
        end.synchronize()
        return float(start.elapsed_time(end)) / 1e3


class IdleTime:
    """Sums the time from the end of each step on the device to the beginning of the next.

    While the device is behind, the next step begins when the one before ends. Within a replayed step it never waits;
    gaps between the kernels of an ordinary step are not seen.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.begin_epoch()

    def begin_epoch(self) -> None:
        """Start anew, with a gap before the first step."""
        self._gaps: list[tuple[Cause, Any, Any]] = []
        self._sums: dict[Cause, float] = {"loader": 0.0, "host": 0.0}
        self._ended, self._ended_here, self._waited_s = self._clock.mark(), self._clock.now(), 0.0

    @contextmanager
    def step(self, waited_s: float) -> Iterator[None]:
        """Launch a step within the block.

        Args:
            waited_s: seconds of this epoch that the process has waited for batches so far. If they are more than half
                of the time since the last step, the gap is the loader's, otherwise that of the rest of the process.
        """
        passed = self._clock.now() - self._ended_here
        cause: Cause = "loader" if 2 * (waited_s - self._waited_s) > passed else "host"
        self._gaps.append((cause, self._ended, self._clock.mark()))
        yield
        self._ended, self._ended_here, self._waited_s = self._clock.mark(), self._clock.now(), waited_s
        if len(self._gaps) == 2 * GAPS_AT_ONCE:
            self._fold(GAPS_AT_ONCE)

    def finish(self) -> None:
        """Measure all gaps so far. This waits for the device."""
        self._fold(len(self._gaps))

    def seconds(self, cause: Cause) -> float:
        """Return the seconds without work of the gaps measured so far."""
        return self._sums[cause]

    def _fold(self, count: int) -> None:
        for cause, start, end in self._gaps[:count]:
            self._sums[cause] += self._clock.seconds(start, end)
        del self._gaps[:count]
