"""Files that are either whole or not there, locks, and checksums."""

import fcntl
import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from galaxy_zoo.errors import OutputError
from galaxy_zoo.remote import AnyPath, RemotePath

TEMPORARY_SUFFIX = ".part"


@contextmanager
def atomic_write(path: AnyPath, *, is_contested: bool = False) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path`; rename it to `path` when the block ends without an error.

    The data is on the disk before the name appears. On an error the temporary file is removed. What is to become an
    object of a store is uploaded instead of renamed.

    Args:
        is_contested: others may be writing the same file at this moment, so the temporary name is one that nobody
            else has. The last one to end wins.

    Raises:
        OSError: the folder cannot be written, the disk is full, or the store does not take it.
    """
    if isinstance(path, RemotePath):
        with path.atomic_write() as file:
            yield file
        return
    own = f".{secrets.token_hex(4)}" if is_contested else ""
    temporary = path.with_name(f"{path.name}{own}{TEMPORARY_SUFFIX}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and str(error.filename) in {"None", str(temporary)}:
            error.filename = str(path)  # the one the user knows; writing to a full disk names none
        raise


@contextmanager
def exclusive(path: Path, *, busy: str) -> Iterator[None]:
    """Hold an exclusive lock on the file `path`, which is made where it is missing and stays.

    The lock goes with the process, however it ends.

    Raises:
        OutputError: another process holds it; `busy` says what that means.
        OSError: `path` cannot be written.
    """
    with path.open("w") as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(busy) from error
        yield


@contextmanager
def in_turn(path: Path, *, note: str, on_wait: Callable[[str], object]) -> Iterator[None]:
    """Hold an exclusive lock on the file `path`, which is made where it is missing, after all who came before.

    Args:
        note: what those are told who have to wait for this one.
        on_wait: is told the note of the one that has to be waited for, once.

    Raises:
        OSError: `path` cannot be written.
    """
    with path.open("a+") as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            on_wait(file.read())
            fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        file.truncate(0)
        file.write(note)
        file.flush()
        yield


@contextmanager
def in_use(path: Path) -> Iterator[None]:
    """Hold a lock on the file `path` that others may share, but for whoever has it by `exclusive` or `in_turn`.

    Raises:
        OSError: `path` cannot be written.
    """
    with path.open("a") as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_SH)
        yield


def cache_folder() -> Path:
    """Where this project keeps what it can make or fetch again: $XDG_CACHE_HOME/galaxy-zoo, or ~/.cache/galaxy-zoo."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "galaxy-zoo"


def check_can_write(path: Path) -> None:
    """Check, before long work, that a file can be written at `path`.

    Raises:
        OutputError: it is a folder, or its folder is missing or read-only.
    """
    if path.is_dir():
        raise OutputError(f"{path} is a folder; name a file in it")
    if not path.absolute().parent.is_dir():
        raise OutputError(f"{path}: the folder {path.absolute().parent} is missing; make it first")
    if not os.access(path.absolute().parent, os.W_OK):
        raise OutputError(f"{path}: the folder {path.absolute().parent} is read-only; name another one")


def write_text(path: AnyPath, text: str, *, is_contested: bool = False) -> None:
    """Write `text` as UTF-8 to `path`, whole or not at all; `is_contested` as for `atomic_write`."""
    with atomic_write(path, is_contested=is_contested) as file:
        file.write(text.encode())


def sha256_of(path: AnyPath) -> str:
    """The sha256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
