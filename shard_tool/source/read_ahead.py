"""Hide the latency of stores: request files before they are needed."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from threading import Event

from galaxy_zoo.remote import REQUESTS_AT_ONCE, RemotePath, is_url
from galaxy_zoo.stores import until
from shard_tool.source.files import StoredFile

FILES_AHEAD = 2 * REQUESTS_AT_ONCE


@contextmanager
def reading(files: Sequence[StoredFile]) -> Iterator[Callable[[int], bytes]]:
    """Yield a function that reads the file with a number; ask for numbers in order, from 0.

    A store answers many requests in the time of one, so threads read its files ahead. This gains nothing on a disk; a
    zip in a deflated zip, or a host with one connection, serves only one reader.

    Raises:
        ImageError, SourceError: raised by the function, as by `StoredFile.read`.
    """
    is_ahead = all(is_url(file.path) and not file.is_in_deflated for file in files)
    if not (files and is_ahead and RemotePath(files[0].path).takes_many_at_once):
        yield lambda number: files[number].read()
        return
    waiting: deque[Future[bytes]] = deque()
    rest = iter(files)
    is_over = Event()
    with until(is_over.is_set), ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:

        def read(number: int) -> bytes:  # noqa: ARG001 - numbers come in order
            while len(waiting) < FILES_AHEAD and (file := next(rest, None)) is not None:
                waiting.append(pool.submit(copy_context().run, file.read))
            return waiting.popleft().result()

        try:
            yield read
        finally:
            is_over.set()
            pool.shutdown(cancel_futures=True)
