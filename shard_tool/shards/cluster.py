"""Run the tasks of `parallel` on the workers of a running Dask cluster; a lost worker costs only its current shards.

The workers read SOURCE and write OUT themselves, under the same paths as here; only tasks and their results go through
the scheduler. A thread has two tasks at a time, so neither the scheduler nor this process ever holds them all.

A task ends at its next image once it is not wanted any more: it was cancelled, the process that submitted it is gone,
or its worker has lost the scheduler. Tasks may run in several threads of one worker.

Source: Dask.distributed, "Worker State Machine" and "Why did my worker die?", https://distributed.dask.org.
"""

import logging
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

import click
import cv2
import numpy as np
import simplejpeg

from galaxy_zoo.errors import InputError, OutputError
from galaxy_zoo.remote import AnyPath
from galaxy_zoo.version import __version__
from shard_tool.shards.journal import Journal
from shard_tool.shards.parallel import Stopped, Tick

if TYPE_CHECKING:
    from distributed import Client, Future, Worker, as_completed

T = TypeVar("T")
R = TypeVar("R")

CONNECT_S = 20
WORKERS_S = 60
"""Time to wait for the first worker, and for another one after the last was lost."""
ASK_S = 2
POLL_S = 0.1
TASKS_A_THREAD = 2
"""One task runs and one waits, so a thread never waits for the scheduler."""

KEPT = "finished work is kept, so run the same command again (pack and append with --resume)"


class Cluster:
    """A running cluster, as `connected` returns it."""

    def __init__(self, client: "Client", address: str) -> None:
        """Take a connected client; `address` is the scheduler's."""
        self._client = client
        self._address = address

    def check_sees(self, path: AnyPath) -> None:
        """Check that workers see the same file, or folder with the same journal, at `path`; raise InputError if not."""
        mine = _look(path)
        for worker, theirs in self._ask(_look, path).items():
            if theirs != mine:
                what = "is another file or folder there" if theirs else "is not there"
                raise InputError(
                    f"{path} {what} on worker {worker}: it must be on a file system that all workers share, under "
                    "the same path"
                )

    def check_workers(self) -> None:
        """Check that workers have the same version of this package and its libraries; raise InputError if not."""
        mine = _versions()
        for worker, theirs in self._ask(_versions).items():
            _check_versions(mine, theirs, worker)

    def run(
        self, function: Callable[[T, Tick], R], tasks: Iterable[T], count: Callable[[int], object]
    ) -> Iterator[R]:
        """Yield results as they come; call `count` with the number of images of each. Errors name a task by its `str`.

        Raises:
            OutputError: a task killed several workers in turn, or the cluster is gone.
        """
        from distributed import as_completed  # noqa: PLC0415 - an extra that most packs do not need
        from distributed.protocol.pickle import dumps  # noqa: PLC0415

        names: dict[Future, str] = {}
        done = as_completed(loop=self._client.loop)
        todo, batch_name, versions = iter(tasks), uuid4().hex, _versions()
        try:
            while True:
                room = TASKS_A_THREAD * self._num_threads() - len(names)
                for task in islice(todo, max(0, room)):
                    key = f"{task}-{batch_name}"
                    # bytes, which the scheduler passes on as they are; it would unpickle and pickle objects
                    packed = dumps((function, task))
                    future = self._client.submit(_run, packed, versions, key=key, pure=False)
                    names[future] = str(task)
                    done.add(future)
                if not names:
                    return
                for future in self._next_batch(done):
                    result, num_images = self._result(future, names.pop(future))
                    count(num_images)
                    yield result
        finally:
            if names and self._client.status == "running":
                self._client.cancel(list(names), force=True)

    def _ask(self, function: Callable[..., R], *arguments: object) -> Mapping[str, R]:
        """Return the result of `function` on each worker.

        Raises:
            InputError: a worker cannot run it, since it lacks this package.
        """
        answers: dict[str, R | Exception] = self._client.run(function, *arguments, on_error="return")
        good: dict[str, R] = {}
        for worker, answer in answers.items():
            if isinstance(answer, Exception):
                raise InputError(_lacks(worker, answer)) from answer
            good[worker] = answer
        return good

    def _num_threads(self) -> int:
        """Return the number of threads of all workers, which may change at any time.

        Raises:
            OutputError: there was no worker for `WORKERS_S`, or the scheduler is gone.
        """
        deadline = time.monotonic() + WORKERS_S
        while True:
            try:
                threads: dict[str, int] = self._client.nthreads()
            except (OSError, CancelledError) as error:
                raise self._gone() from error
            if threads:
                return sum(threads.values())
            if time.monotonic() > deadline:
                raise OutputError(
                    f"{self._address}: no worker is left, and none has come in {WORKERS_S} s; start workers; {KEPT}"
                )
            time.sleep(ASK_S)

    def _next_batch(self, done: "as_completed") -> Iterable["Future"]:
        """Wait for at least one future that is done; return all that are."""
        ask_at = time.monotonic() + ASK_S
        while not done.has_ready():
            time.sleep(POLL_S)
            if time.monotonic() > ask_at:
                self._num_threads()
                ask_at = time.monotonic() + ASK_S
        return list(done.next_batch(block=False))

    def _result(self, future: "Future", name: str) -> tuple[Any, int]:
        """Return the result of a task and its number of images."""
        from distributed import KilledWorker  # noqa: PLC0415

        try:
            done: tuple[Any, int] = future.result()
        except CancelledError as error:
            raise self._gone() from error
        except KilledWorker as error:
            raise OutputError(
                f"{name}: {error.allowed_failures + 1} workers died while they had it, the last one "
                f"{error.last_worker.address}, perhaps out of memory (see its log); give them more; {KEPT}"
            ) from error
        except ImportError as error:
            raise InputError(f"{_lacks('that joined later', error)}; {KEPT}") from error
        except OSError as error:
            if future.status == "error":  # the task itself failed
                raise
            raise self._gone() from error
        return done

    def _gone(self) -> OutputError:
        return OutputError(f"{self._address}: the scheduler is gone; start the cluster again; {KEPT}")


@contextmanager
def connected(address: str | None, path: AnyPath) -> Iterator[Cluster | None]:
    """Connect to the cluster whose scheduler is at `address`, and check its workers; yield None without an address.

    Raises:
        InputError: distributed is not installed, nothing answers, no worker comes, or one lacks this version or `path`.
    """
    if address is None:
        yield None
        return
    try:
        from distributed import Client  # noqa: PLC0415 - an extra that most packs do not need
        from distributed.comm import get_address_host_port  # noqa: PLC0415
    except ImportError as error:
        raise InputError("--scheduler needs Dask; install it with: pip install distributed") from error
    _silence()
    try:
        get_address_host_port(address)  # a client with a malformed address would wait for itself to close
        client = Client(address, timeout=CONNECT_S, set_as_default=False)
    # Dask reads the answer of another kind of server as a length in bytes
    except (OSError, ValueError, MemoryError) as error:
        raise InputError(
            f"{address}: no Dask scheduler answers ({str(error).splitlines()[0]}); start one with: dask scheduler"
        ) from error
    with client:
        _wait_for_worker(client, address)
        cluster = Cluster(client, address)
        cluster.check_workers()
        cluster.check_sees(path)
        yield cluster


def _silence() -> None:
    """Keep Dask's log, with its tracebacks, off the terminal; anything important in it becomes an error here."""
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] in {"distributed", "tornado"}:  # Dask gives several loggers handlers
            logging.getLogger(name).handlers[:] = [logging.NullHandler()]


def _wait_for_worker(client: "Client", address: str) -> None:
    if not client.nthreads():
        click.echo(f"{address}: waiting up to {WORKERS_S} s for a worker", err=True)
    try:
        client.wait_for_workers(1, timeout=WORKERS_S)
    except TimeoutError as error:
        raise InputError(
            f"{address}: no worker has come in {WORKERS_S} s; start some with: dask worker {address}"
        ) from error


def _run(packed: bytes, versions: dict[str, str]) -> tuple[Any, int]:
    """Run a task on a worker; return its result and number of images. packed: the pickled function and task."""
    from distributed import Reschedule, get_worker  # noqa: PLC0415
    from distributed.protocol.pickle import loads  # noqa: PLC0415

    worker = get_worker()
    key = worker.get_current_task()
    _check_versions(versions, _versions(), worker.address)  # this worker may have joined after the check
    function, task = loads(packed)
    num_images = 0

    def tick() -> None:
        nonlocal num_images
        num_images += 1
        if not _is_wanted(worker, key):
            raise Stopped

    try:
        result = function(task, tick)
    except Stopped as stopped:
        raise Reschedule from stopped  # no effect if the task is not wanted any more
    return result, num_images


def _is_wanted(worker: "Worker", key: Any) -> bool:
    """Return whether the scheduler still wants what this worker computes under a key."""
    state = worker.state.tasks.get(key)
    return state is not None and state.state == "executing" and worker.status.name not in {"closing", "closed"}


def _look(path: AnyPath) -> str | None:
    """Return a value to compare a path with: the fence of a folder, the size of a file, None if missing."""
    try:
        return f"folder {Journal(path).fence()}" if path.is_dir() else f"file {path.stat().st_size}"
    except OSError:
        return None


def _versions() -> dict[str, str]:
    """Return the versions that must be the same everywhere, by name; other libraries may give other pixels."""
    return {
        "galaxy-zoo-pipeline": __version__,
        "Python": ".".join(platform.python_version_tuple()[:2]),
        "NumPy": np.__version__,
        "OpenCV": cv2.__version__,
        "simplejpeg": simplejpeg.__version__,
    }


def _check_versions(mine: Mapping[str, str], theirs: Mapping[str, str], worker: str) -> None:
    for name, wanted in mine.items():
        if theirs[name] != wanted:
            raise InputError(
                f"worker {worker} has {name} {theirs[name]}, here it is {wanted}; install the same on all of them"
            )


def _lacks(worker: str, error: Exception) -> str:
    return f"worker {worker} cannot run this ({error}); install galaxy-zoo-pipeline {__version__} on all of them"
