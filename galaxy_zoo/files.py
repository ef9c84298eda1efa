"""Atomic writes, locks, checks of outputs, and checksums."""

import errno
import fcntl
import hashlib
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TextIO

from galaxy_zoo.errors import OutputError
from galaxy_zoo.remote import AnyPath, RemotePath

TEMPORARY_SUFFIX = ".part"
STREAMS = ("/dev/fd/", "/proc/self/fd/", "/dev/stdin")
"""Beginnings of the paths of streams that this process was started with."""


@contextmanager
def atomic_write(path: AnyPath, *, is_contested: bool = False) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path`; rename it to `path` when the block ends without an error.

    The data is on the disk before the name appears. On an error the temporary file is removed. A file in a store is
    uploaded instead of renamed.

    Args:
        is_contested: other processes may be writing the same file, so use a unique temporary name. The last process
            to finish wins.

    Raises:
        OSError: the folder cannot be written, the disk is full, or the store refuses the file.
    """
    if isinstance(path, RemotePath):
        with path.atomic_write() as file:
            yield file
        return
    own = f".{secrets.token_hex(4)}" if is_contested else ""
    temporary = path.with_name(f"{path.name}{own}{TEMPORARY_SUFFIX}")
    try:
        temporary.unlink(missing_ok=True)  # left by a killed process, or a planted link
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and str(error.filename) in {"None", str(temporary)}:
            error.filename = str(path)  # the name the user knows; a full disk gives none
        raise


@contextmanager
def open_lock(path: Path) -> Iterator[TextIO]:
    """Open the file `path` for a lock; create it if it is missing, and never change its content.

    Raises:
        OutputError: it is a symbolic link, which could point to any file.
        OSError: it cannot be written.
    """
    try:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666), "r+")
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise OutputError(f"{path} is a symbolic link, not a lock file; remove it") from error
    with file:
        yield file


@contextmanager
def exclusive(path: Path, *, busy: str) -> Iterator[None]:
    """Hold an exclusive lock on the file `path`, which is created if missing and never removed.

    The system releases the lock when the process ends, however it ends.

    Raises:
        OutputError: another process holds the lock (the message is `busy`), or `path` is a symbolic link.
        OSError: `path` cannot be written.
    """
    with open_lock(path) as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(busy) from error
        yield


@contextmanager
def in_turn(path: Path, *, note: str, on_wait: Callable[[str], object]) -> Iterator[None]:
    """Wait for an exclusive lock on the file `path`, created if missing; hold it within the block.

    Args:
        note: what processes that wait for this one are told.
        on_wait: called once, with the note of the process that holds the lock, if this one has to wait.

    Raises:
        OutputError: `path` is a symbolic link.
        OSError: `path` cannot be written.
    """
    with open_lock(path) as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait(file.read())
            fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        file.seek(0)
        file.truncate()
        file.write(note)
        file.flush()
        yield


@contextmanager
def in_use(path: Path) -> Iterator[None]:
    """Hold a shared lock on the file `path`; it excludes only holders of `exclusive` and `in_turn`.

    Raises:
        OutputError: `path` is a symbolic link.
        OSError: `path` cannot be written.
    """
    with open_lock(path) as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_SH)
        yield


def cache_folder() -> Path:
    """Return the folder of this project's caches: $XDG_CACHE_HOME/galaxy-zoo, or ~/.cache/galaxy-zoo."""
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


def check_outputs(outputs: Iterable[AnyPath], inputs: Iterable[AnyPath]) -> None:
    """Check, before any work, that no output is an input and that no two outputs are the same file.

    Files are compared, not names: links are followed, and different spellings of a path are the same file.

    Raises:
        OutputError: an output is an input, or two outputs are the same.
    """
    written: dict[object, AnyPath] = {}
    for path in outputs:
        if (other := written.setdefault(_identity(path), path)) is not path:
            raise OutputError(f"{other} and {path} are the same file, and both would be written; name another one")
    for path in inputs:
        if (output := written.get(_identity(path))) is not None:
            same = f"{output}" if str(output) == str(path) else f"{output}, the same file as {path},"
            raise OutputError(f"{same} is read by this command; name another output")


def _identity(path: AnyPath) -> object:
    """Return a value that two paths share exactly if they lead, or would lead, to the same file."""
    if not isinstance(path, Path):
        return str(path)
    try:
        found = path.stat()
    except OSError:
        return str(path.resolve())
    return found.st_dev, found.st_ino


def write_text(path: AnyPath, text: str, *, is_contested: bool = False) -> None:
    """Write `text` to `path` as UTF-8, whole or not at all; `is_contested`: as for `atomic_write`."""
    with atomic_write(path, is_contested=is_contested) as file:
        file.write(text.encode())


def is_utf8(path: AnyPath) -> bool:
    """Return whether a path is UTF-8, as libraries that are not Python's need it."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def is_special(path: AnyPath) -> bool:
    """Return whether a path is a pipe, a socket or a device, which could be read for ever."""
    return isinstance(path, Path) and path.exists() and not (path.is_file() or path.is_dir())


def may_wait(path: AnyPath) -> bool:
    """Return whether reading a path could wait for ever: it is special, and not a stream that a shell opened.

    `<(command)` in a shell is such a stream, /dev/fd/N, whose other end is open already.
    """
    return is_special(path) and not str(path).startswith(STREAMS)


def kind_of(path: AnyPath) -> str:
    """Return in words what lies at a path where a file should be."""
    if path.is_dir():
        return "a folder, not a file"
    if is_special(path):
        return "a pipe, a socket or a device, not a file"
    return "a link to nothing" if isinstance(path, Path) and path.is_symlink() else "missing"


def sha256_of(path: AnyPath) -> str:
    """Return the sha256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
