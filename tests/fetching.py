"""Processes that fetch shards into a cache: what tests start, and kill."""

import os
import signal
import sys
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from galaxy_zoo.remote import path_of
from pipeline import cache
from pipeline.cache import Cache, open_set


def start_fetching(url: str, folder: Path, *splits: str, copies: int | None = None) -> BaseProcess:
    """Fetch in a process of its own, with this one's environment; in the middle of copy `copies` it is killed.

    What it says is appended to FOLDER.log.
    """
    processes = get_context("forkserver")
    processes.set_forkserver_preload(["pipeline.cache", "s3fs"])  # imported once
    process = processes.Process(target=_fetch, args=(url, folder, splits, copies, dict(os.environ)))
    process.start()
    return process


def _fetch(
    url: str, folder: Path, splits: tuple[str, ...], copies: int | None, environment: dict[str, str]
) -> None:
    os.environ.update(environment)
    sys.stderr = folder.with_name(f"{folder.name}.log").open("a")
    copy, done = cache._copy, 0

    def counting(source: Any, file: Any, note: Callable[[int], None]) -> str:
        nonlocal done
        done += 1
        if done == copies:
            file.write(b"half a shard")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        return copy(source, file, note)

    cache._copy = counting  # type: ignore[assignment]
    with open_set(path_of(url), Cache(folder)) as source:
        source.need(*splits)
