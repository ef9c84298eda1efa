"""Run tasks in processes of this machine, or elsewhere by an `Executor`, and count their images meanwhile.

A task runs as `function(task, tick)` and calls `tick()` after every image, which counts it and raises `Stopped` if the
run is to end. The processes inherit nothing, so they work the same however they are started.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import chain, islice
from multiprocessing import forkserver, resource_tracker
from typing import Any, Protocol, TypeVar

from tqdm import tqdm

from galaxy_zoo.errors import OutputError
from galaxy_zoo.progress import progress
from galaxy_zoo.stores import until

T = TypeVar("T")
R = TypeVar("R")
Tick = Callable[[], object]

POLL_S = 0.1
TASKS_AHEAD = 2
"""Tasks handed out to a worker at once, including the one it works on."""

_counter: Any = None
_is_stopping: Any = None


class Stopped(Exception):  # noqa: N818 - not an error: the run was asked to end
    """Raised by `tick` when the run is to end."""


class Executor(Protocol):
    """Runs tasks elsewhere."""

    def run(
        self, function: Callable[[T, Tick], R], tasks: Iterable[T], count: Callable[[int], object]
    ) -> Iterator[R]:
        """Yield results as they come; call `count` with the number of images done since its last call."""


def run_tasks(
    function: Callable[[T, Tick], R],
    tasks: Iterable[T],
    *,
    workers: int,
    total: int,
    description: str,
    executor: Executor | None = None,
) -> Iterator[R]:
    """Yield results as they come, in any order, and show progress over `total` images on stderr.

    Tasks are drawn from the iterable when needed, so at most two a worker are in memory. If one fails, the others end
    at their next image and its error is raised. An `executor` replaces the `workers` processes of this machine.
    """
    with progress(total=total or None, desc=description, unit="images") as bar:
        if executor is not None:
            yield from executor.run(function, tasks, bar.update)
            return
        remaining = iter(tasks)
        first = list(islice(remaining, 2))
        if min(workers, len(first)) > 1:
            yield from _in_processes(function, chain(first, remaining), workers, bar)
        else:
            for task in chain(first, remaining):
                yield function(task, bar.update)


def _in_processes(
    function: Callable[[T, Tick], R], tasks: Iterator[T], workers: int, bar: "tqdm[Any]"
) -> Iterator[R]:
    prepare_workers(workers)
    pool, counter, is_stopping = _pool(workers)
    with pool:
        waiting: set[Future[R]] = set()
        try:
            while True:
                for task in islice(tasks, TASKS_AHEAD * workers - len(waiting)):
                    with _ctrl_c_waits():
                        waiting.add(pool.submit(_run, function, task))
                if not waiting:
                    break
                done, waiting = wait(waiting, POLL_S, FIRST_COMPLETED)
                bar.update(counter.value - bar.n)
                for future in done:
                    yield future.result()
        except BrokenProcessPool as error:
            raise OutputError(
                "a worker process was killed, perhaps out of memory; finished work is kept: "
                "run the command again with fewer --workers"
            ) from error
        finally:
            is_stopping.value = 1
            pool.shutdown(cancel_futures=True)


def _pool(workers: int) -> tuple[ProcessPoolExecutor, Any, Any]:
    """Return a pool and the values its processes share: the number of images done, and whether to stop.

    Raises:
        OutputError: there is no space for its locks.
    """
    context = _context()
    try:
        counter, is_stopping = context.Value("q", 0), context.RawValue("b", 0)
        return ProcessPoolExecutor(workers, context, _start_worker, (counter, is_stopping)), counter, is_stopping
    except OSError as error:
        raise OutputError(
            f"/dev/shm: {error.strerror or error}; processes keep the locks they share there: make room in it (a "
            "container gets more by: docker run --shm-size 1g)"
        ) from error


@contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """Delay Ctrl-C until the block ends.

    A pool that is interrupted while starting a process does not know about that process: nobody waits for it, and it
    fails with a traceback once the values it shares with this one are gone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(signal.SIGINT)


def prepare_workers(workers: int) -> None:
    """Start the server that workers are forked from, while the caller still plans their tasks."""
    if workers > 1 and _context().get_start_method() == "forkserver":
        # Ctrl-C reaches all processes, and a server that is still importing would print a traceback. It inherits the
        # mask, and so do the workers, which the parent asks to stop. The tracker, once started, unblocks it
        resource_tracker.ensure_running()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _context() -> Any:
    """Return a context that forks processes from a clean server: fast, and safe whatever threads this process has."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["shard_tool.shards.packer"])
    return context


def _start_worker(counter: Any, is_stopping: Any) -> None:
    global _counter, _is_stopping
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets Ctrl-C too and asks the workers to stop
    _counter, _is_stopping = counter, is_stopping
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Exit at once if the parent is killed, so that a resumed run has the folder to itself."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run(function: Callable[[T, Tick], R], task: T) -> R:
    if _is_stopping.value:
        raise Stopped
    with until(lambda: bool(_is_stopping.value)):
        return function(task, _tick)


def _tick() -> None:
    with _counter.get_lock():
        _counter.value += 1
    if _is_stopping.value:
        raise Stopped
