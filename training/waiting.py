"""How long a loop waits for its batches."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def watched(batches: Iterable[T], add_wait_s: Callable[[float], None]) -> Iterator[T]:
    """The same batches; `add_wait_s` is told the seconds until each came, and until there were no more."""
    source = iter(batches)
    while True:
        asked = time.perf_counter()
        batch = next(source, None)
        add_wait_s(time.perf_counter() - asked)
        if batch is None:
            return
        yield batch
