"""Write files beside the training: one thread, one piece of work at a time, in order."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self


class Writer:
    """Runs work in a thread of its own, and raises its errors in the thread that handed it over.

    At the end of its block the work under way is finished, also after an error or Ctrl-C.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "writer")
        self._under_way: Future[None] | None = None

    def start(self, work: Callable[[], None]) -> None:
        """Start work once the work before is finished, and raise an error of the latter."""
        self.finish()
        self._under_way = self._pool.submit(work)

    def check(self) -> None:
        """Raise the error of work that has failed meanwhile; do not wait."""
        if self._under_way is not None and self._under_way.done():
            self.finish()

    def finish(self) -> None:
        """Wait for the work under way, and raise its error."""
        work, self._under_way = self._under_way, None
        if work is not None:
            work.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.finish()
        self._pool.shutdown()
