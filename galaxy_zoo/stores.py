"""Open the stores that fsspec reads, retry requests that fail for a moment, and turn errors into those of the disk.

Errors are `OSError`s with the URL as `filename` and one line as `strerror`. Requests that fail for a reason that may
pass (no answer, too many requests) are retried for `SHARD_TOOL_RETRY_S` seconds (default 60).

Credentials and endpoints come from the environment or profile that the store's own tools use, never from a URL.
"""

import errno
import os
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, TypeVar

from galaxy_zoo.errors import InputError

T = TypeVar("T")
_is_over: ContextVar[Callable[[], bool]] = ContextVar("is_over", default=lambda: False)

RETRY_VARIABLE = "SHARD_TOOL_RETRY_S"
DEFAULT_RETRY_S = 60.0
LONGEST_WAIT_S = 10.0
POLL_S = 0.2

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    # `patiently` retries, also after a silence; and many S3 servers send the checksum of the whole file with a slice
    "s3": {
        "config_kwargs": {
            "response_checksum_validation": "when_required",
            "retries": {"total_max_attempts": 1},
            "connect_timeout": 10,
            "read_timeout": 30,
        }
    }
}
PERMANENT = (FileNotFoundError, PermissionError, FileExistsError, IsADirectoryError, NotADirectoryError)
PERMANENT_NUMBERS = {
    errno.EINVAL,
    errno.EPERM,
    errno.ENOSYS,
    errno.ENAMETOOLONG,
    errno.ENOTEMPTY,
    errno.EMSGSIZE,
    errno.ENOSPC,
    getattr(errno, "EREMCHG", errno.EINVAL),
}
"""Numbers of the `OSError`s that s3fs raises for permanent failures."""
TRANSIENT_NAMES = {
    "ConnectionError",
    "HTTPClientError",
    "IncompleteReadError",
    "ClientError",
    "ResponseParserError",
}
"""Names of transient errors of botocore and aiohttp that are not `OSError`s."""
NO_CREDENTIALS_NAMES = {
    "NoCredentialsError",
    "PartialCredentialsError",
    "ProfileNotFound",
    "DefaultCredentialsError",
}
SIGNATURE = re.compile(r"\?[^\s'\"]+")
"""The query of a URL in an error; it may hold a signature that grants access to the file."""


@lru_cache
def open_store(protocol: str, place: str, process: int, thread: int) -> Any:  # noqa: ARG001 - a key of the cache: a connection belongs to one process and thread
    """Open the store of a protocol with fsspec, at the host `place` if its URLs name a host.

    Raises:
        InputError: fsspec does not know the protocol, or lacks a package or a setting for it.
    """
    try:
        import fsspec  # noqa: PLC0415 - not needed for folders on the disk, and slow to import

        known = fsspec.config.conf.get(protocol, {})
        options: dict[str, Any] = {
            name: {**value, **known.get(name, {})} for name, value in OPTIONS.get(protocol, {}).items()
        }
        options |= host_of(fsspec.get_filesystem_class(protocol), f"{protocol}://{place}")
        store = fsspec.filesystem(protocol, use_listings_cache=False, skip_instance_cache=True, **options)
        if protocol in OPTIONS:
            store.retries = 1  # s3fs itself would retry five times for each of our attempts
        return store
    except ImportError as error:
        package = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs"}.get(protocol)
        hint = f"install it with: pip install {package}" if package else str(error).rstrip(".")
        raise InputError(
            f"{protocol}://: reading and writing it needs a package that is missing; {hint}"
        ) from error
    except ValueError as error:
        raise InputError(f"{protocol}://: fsspec knows no such protocol; name a folder, s3:// or gs://") from error
    except TypeError as error:  # some stores need a host, which only their own configuration may name here
        raise InputError(
            f"{protocol}://: needs settings that a URL does not give here ({error}); "
            "put them into fsspec's configuration, ~/.config/fsspec/*.json"
        ) from error


def host_of(store: Any, url: str) -> dict[str, Any]:
    """Return the host, port and user that a URL names for `store`; empty if the URL names a bucket."""
    found = store._get_kwargs_from_urls(url)
    return {name: found[name] for name in ("host", "port", "username", "user") if found.get(name)}


def patiently(function: Callable[[], T], url: str, limit_s: float | None = None) -> T:
    """Return the result of `function`; retry while it fails for a reason that may pass.

    Args:
        url: the path that errors name.
        limit_s: how long to retry, in seconds; None: as the environment says.

    Raises:
        OSError: it failed for that long, or for a permanent reason.
    """
    limit_s = _retry_s() if limit_s is None else limit_s
    failed_at, wait_s = None, 0.2
    while True:
        try:
            return function()
        except Exception as error:
            now = time.monotonic()
            failed_at = failed_at or now
            is_hopeless = not _is_transient(error) or _is_over.get()()
            if is_hopeless or now + wait_s > failed_at + limit_s:
                raise _plain(error, url, tried_s=now - failed_at) from error
        _wait(wait_s * random.uniform(0.5, 1))
        wait_s = min(2 * wait_s, LONGEST_WAIT_S)


@contextmanager
def until(is_over: Callable[[], bool]) -> Iterator[None]:
    """Stop retrying within the block as soon as `is_over()` of this or of an enclosing block is true."""
    outer = _is_over.get()
    token = _is_over.set(lambda: is_over() or outer())
    try:
        yield
    finally:
        _is_over.reset(token)


def _wait(seconds: float) -> None:
    end = time.monotonic() + seconds
    while not _is_over.get()() and (left := end - time.monotonic()) > 0:
        time.sleep(min(left, POLL_S))


def _retry_s() -> float:
    text = os.environ.get(RETRY_VARIABLE, "")
    try:
        return float(text or DEFAULT_RETRY_S)
    except ValueError as error:
        raise InputError(f"{RETRY_VARIABLE}={text}: not a number of seconds") from error


def _is_transient(error: Exception) -> bool:
    if isinstance(error, FileNotFoundError) and isinstance(error.__cause__, OSError):
        return _is_transient(error.__cause__)  # fsspec reports a silent host as a missing file
    if isinstance(error, OSError):
        return not isinstance(error, PERMANENT) and error.errno not in PERMANENT_NUMBERS
    return any(kind.__name__ in TRANSIENT_NAMES for kind in type(error).__mro__)


def _plain(error: Exception, url: str, *, tried_s: float) -> OSError:
    """Return an error of a store as an `OSError` with number, one line of text and URL."""
    detail = SIGNATURE.sub("?...", " ".join(str(error).split()))[:300]
    if isinstance(error, FileNotFoundError) and not _is_transient(error):
        return FileNotFoundError(errno.ENOENT, "there is no such file, folder or bucket", url)
    if type(error).__name__ in NO_CREDENTIALS_NAMES:
        return PermissionError(
            errno.EACCES, f"no credentials ({detail}); give them where the store's own tools look for them", url
        )
    if isinstance(error, PermissionError):
        return PermissionError(errno.EACCES, f"access denied ({detail}); check credentials and rights", url)
    for_s = f" for {tried_s:.0f} s" if _is_transient(error) else ""
    number = error.errno if isinstance(error, OSError) and error.errno else errno.EIO
    return OSError(number, f"the store fails{for_s} ({type(error).__name__}: {detail})", url)
