"""Files and folders of a store (`s3://`, `gs://`, any URL that fsspec reads), with the part of pathlib used here.

`galaxy_zoo.stores` opens the stores, retries requests that fail for a moment, and turns errors into those of the disk.
"""

import errno
import io
import os
import secrets
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeVar

from galaxy_zoo.byte_range import ByteRange
from galaxy_zoo.stores import host_of, open_store, patiently

T = TypeVar("T")

UPLOAD_S, SLOWEST_BYTES_PER_S = 60.0, 100_000
"""An upload fails after `UPLOAD_S` plus the time that its bytes take at the slowest rate: aiohttp waits without limit
until a store accepts the upload (Expect: 100-continue) or takes more bytes."""
PART_BYTES = 16 * 2**20
"""Size of a part of a multipart upload."""
BUFFER_BYTES = 8 * 2**20
REQUESTS_AT_ONCE = 16

WHOLE_OR_NOTHING = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"}
"""Stores in which a file appears only once its upload is complete; in others it is uploaded under another name, then
renamed."""
VERSION_KEYS = ("etag", "md5hash", "generation", "lastmodified", "last_modified", "mtime", "updated", "created")


def is_url(path: str) -> bool:
    """Return whether a path is in a store; pathlib never leaves two slashes in a path on the disk."""
    return "://" in path


@dataclass(frozen=True, slots=True)
class Status:
    """Status of a file or folder in a store; `version` changes whenever the file does."""

    is_dir: bool
    st_size: int
    version: int


@dataclass(frozen=True, slots=True)
class RemotePath:
    """A file or folder of a store.

    listed: its status from a listing, which saves a request. retry_s: how long to retry failing requests, in seconds;
    None: as the environment says.
    """

    url: str
    listed: Status | None = field(default=None, compare=False, repr=False)
    retry_s: float | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return self.url.partition("?")[0]  # a query may be a signature

    def __truediv__(self, name: str) -> "RemotePath":
        return RemotePath(f"{self.url.rstrip('/')}/{name}")

    @property
    def name(self) -> str:
        """Last part of the path."""
        return str(self).rstrip("/").rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """Suffix of the name, with its dot."""
        return Path(self.name).suffix

    def with_suffix(self, suffix: str) -> "RemotePath":
        """Return the path with another suffix."""
        return RemotePath(self.url.removesuffix(self.suffix) + suffix)

    def absolute(self) -> "RemotePath":
        """Return the path itself; URLs are absolute."""
        return self

    def stat(self) -> Status:
        """Return its status, from the store or from the listing that it came from.

        Raises:
            FileNotFoundError: there is no such file or folder.
        """
        return self.listed or _status(self._call(lambda store, path: store.info(path)))

    def exists(self) -> bool:
        """Return whether there is such a file or folder."""
        return self._status_or_none() is not None

    def is_dir(self) -> bool:
        """Return whether it is a folder, that is, whether there are files below it."""
        status = self._status_or_none()
        return status is not None and status.is_dir

    def is_file(self) -> bool:
        """Return whether it is a file."""
        status = self._status_or_none()
        return status is not None and not status.is_dir

    def is_symlink(self) -> bool:
        """Return False; stores have no links."""
        return False

    def iterdir(self) -> Iterator["RemotePath"]:
        """Yield the files and folders in the folder; nothing if it is missing, since stores have no empty folders.

        Raises:
            FileNotFoundError: there is no such bucket.
        """
        try:
            found = self._call(lambda store, path: store.ls(path, detail=True))
        except FileNotFoundError:
            self.check_bucket()
            return
        yield from self._listed(found)

    def check_bucket(self) -> None:
        """Check that the bucket of this path exists, if the store has buckets; raise FileNotFoundError if not."""
        if self._protocol in WHOLE_OR_NOTHING and not self._call(_has_bucket):
            raise FileNotFoundError(errno.ENOENT, "there is no such bucket", str(self))

    def files(self) -> Iterator["RemotePath"]:
        """Yield every file below the folder."""
        yield from self._listed(self._call(lambda store, path: store.find(path, detail=True)).values())

    def relative_to(self, folder: "RemotePath") -> str:
        """Return the path relative to a folder, with "/"."""
        return self.url.removeprefix(folder.url.rstrip("/") + "/")

    def read_bytes(self) -> bytes:
        """Return the bytes of the file."""
        return self._call(lambda store, path: bytes(store.cat_file(path)))

    def read_text(self) -> str:
        """Return the whole file, decoded as UTF-8."""
        return self.read_bytes().decode()

    def read_at(self, offset: int, size: int) -> bytes:
        """Return a slice of the file with one request; the slice must lie within the file."""
        if not size:
            return b""
        return self._call(lambda store, path: bytes(store.cat_file(path, start=offset, end=offset + size)))

    def open(self, mode: Literal["rb"] = "rb") -> io.BufferedReader:  # noqa: ARG002 - pathlib's interface
        """Open the file for reading, with requests of a few MiB."""
        return io.BufferedReader(ByteRange(self.read_at, self.stat().st_size), BUFFER_BYTES)

    def unlink(self) -> None:
        """Remove the file, if it is there."""
        try:
            self._call(lambda store, path: store.rm_file(path))
        except FileNotFoundError:
            return

    def rmdir(self) -> None:
        """Remove the folder, which must be empty; do nothing in stores that have no empty folders."""
        if self._protocol not in WHOLE_OR_NOTHING:
            self._call(lambda store, path: store.rmdir(path))

    @contextmanager
    def atomic_write(self) -> Iterator[BinaryIO]:
        """Open a temporary file and upload it, whole or not at all, when the block ends without an error.

        The temporary file has no name in $TMPDIR, so nothing is left of it, however the process ends.
        """
        with tempfile.TemporaryFile() as file:
            try:
                yield file
                file.flush()
            except OSError as error:
                error.filename = error.filename or tempfile.gettempdir()
                raise
            self._upload(f"/proc/self/fd/{file.fileno()}")

    def _upload(self, local: str) -> None:
        def upload(store: Any, path: str) -> None:
            if self._protocol not in WHOLE_OR_NOTHING:
                store.makedirs(path.rpartition("/")[0], exist_ok=True)
                temporary = f"{path}.{secrets.token_hex(4)}.part"  # another process may be writing the same file
                store.put_file(local, temporary)
                store.mv(temporary, path)
                return
            longest_s = UPLOAD_S + Path(local).stat().st_size / SLOWEST_BYTES_PER_S
            try:
                store.put_file(local, path, chunksize=PART_BYTES, timeout=longest_s)
            except FileNotFoundError as error:
                if _has_bucket(store, path):
                    raise ConnectionError("it lost the parts that were uploaded") from error
                raise

        self._call(upload)

    @property
    def _protocol(self) -> str:
        return self.url.partition("://")[0]

    @property
    def takes_many_at_once(self) -> bool:
        """Whether several threads may send requests at once."""
        return bool(self._store.async_impl)

    @property
    def _store(self) -> Any:
        """The store, opened by fsspec; once for each thread if it has a single connection, like FTP."""
        store = open_store(self._protocol, self._place, os.getpid(), 0)
        if store.async_impl:
            return store
        return open_store(self._protocol, self._place, os.getpid(), threading.get_ident())

    @property
    def _place(self) -> str:
        """Host or bucket, whichever the URL begins with."""
        return self.url.partition("://")[2].partition("/")[0]

    def _status_or_none(self) -> Status | None:
        try:
            return self.stat()
        except FileNotFoundError:
            return None

    def _listed(self, infos: Iterable[Mapping[str, Any]]) -> Iterator["RemotePath"]:
        store = self._store
        root = f"{self._protocol}://{self._place}/" if host_of(store, self.url) else f"{self._protocol}://"
        own = store._strip_protocol(self.url).strip("/")
        for info in infos:
            name = str(info["name"]).strip("/")
            if name != own and not info["name"].endswith("/"):  # an empty file with that name stands for a folder
                yield RemotePath(f"{root}{name}", _status(info))

    def _call(self, function: Callable[[Any, str], T]) -> T:
        """Return `function(store, path)`; retry while the store does not answer."""
        store = self._store
        path = store._strip_protocol(self.url)
        return patiently(lambda: function(store, path), str(self), self.retry_s)


AnyPath = Path | RemotePath


def path_of(text: str) -> AnyPath:
    """Return the path that a user named, on the disk (also by `file://`) or in a store.

    Raises:
        ValueError: the path is empty; or the URL holds a password, names nothing, or joins several by "::".
    """
    protocol, separator, rest = text.partition("://")
    if not text:
        raise ValueError("the path is empty; name a file or folder, or '.' for this one")
    if not separator:
        return Path(text)
    if "::" in text:
        raise ValueError("URLs joined by '::' are not read; name the file itself")
    if ":" in rest.partition("/")[0].rpartition("@")[0]:
        raise ValueError("a URL with a password is not read; give it where the store's own tools look for it")
    if protocol in {"file", "local"}:
        if not rest.startswith("/"):
            raise ValueError(f"{protocol}:// takes a path from the root on, as file:///data/images")
        return Path(rest)
    if not rest.strip("/"):
        raise ValueError("the URL names no bucket, host or file")
    return RemotePath(text.rstrip("/"))


def remove_files(paths: Iterable[RemotePath]) -> None:
    """Remove files, several at a time if the store allows it."""
    paths = list(paths)
    at_once = REQUESTS_AT_ONCE if all(path.takes_many_at_once for path in paths[:1]) else 1
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(RemotePath.unlink, paths))


def _has_bucket(store: Any, path: str) -> bool:
    return bool(store.exists(path.lstrip("/").partition("/")[0] or path))


def _status(info: Mapping[str, Any]) -> Status:
    said = {key.lower(): value for key, value in info.items() if value is not None}
    version = next((str(said[key]).strip('"') for key in VERSION_KEYS if key in said), "")
    digest = blake2b(version.encode(), digest_size=7).digest()
    return Status(info["type"] == "directory", int(info["size"] or 0), int.from_bytes(digest))
