"""Ctrl-C and SIGTERM as a request to stop after the current step."""

import os
import signal
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Self


class Interrupt:
    """Within its block, the first SIGINT or SIGTERM sets `requested`; the second has its usual effect.

    Args:
        answer: line to write to stderr at once; empty: none.
    """

    def __init__(self, answer: str) -> None:
        self.requested = False
        self._answer = answer
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.requested = True
        self._restore()
        if self._answer:
            with suppress(OSError):
                os.write(2, f"\n{self._answer}\n".encode())  # sys.stderr may be in the middle of a write

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
