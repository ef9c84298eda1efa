"""How a prediction goes: a progress bar with galaxies a second and the share of time spent waiting for batches."""

import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from tqdm import tqdm

from galaxy_zoo.console import progress
from training.waiting import watched


class _Sized(Protocol):
    @property
    def ids(self) -> Any: ...


T = TypeVar("T", bound=_Sized)


class Pace:
    """The bar of `total` galaxies, where it `is_shown`."""

    def __init__(self, label: str, total: int, *, is_shown: bool) -> None:
        self._bar: tqdm[Any] = progress(total=total, unit="galaxy", desc=label) if is_shown else tqdm(disable=True)
        self._started = time.perf_counter()
        self._waited_s = 0.0

    def watch(self, batches: Iterable[T]) -> Iterator[T]:
        """The same batches; the time until each comes is counted as waiting."""
        for batch in watched(batches, self._add_wait_s):
            yield batch
            share = self._waited_s / (time.perf_counter() - self._started)
            self._bar.set_postfix_str(f"data wait {share:.1%}", refresh=False)
            self._bar.update(len(batch.ids))

    def _add_wait_s(self, seconds: float) -> None:
        self._waited_s += seconds

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
