"""What fetches shards into a cache in processes that tests start, and kill."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from galaxy_zoo.remote import path_of
from pipeline import cache
from pipeline.cache import Cache, open_set


def fetch(url: str, folder: Path, split: str, dies_at: int | None = None) -> None:
    """Fetch a split; in the middle of the copy of that number be killed."""
    copy, done = cache._copy, 0

    def counting(source: Any, file: Any, note: Callable[[int], None]) -> str:
        nonlocal done
        done += 1
        if done == dies_at:
            file.write(b"half a shard")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        return copy(source, file, note)

    cache._copy = counting  # type: ignore[assignment]
    with open_set(path_of(url), Cache(folder)) as source:
        source.need(split)
