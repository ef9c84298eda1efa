"""List every file below a folder or in an archive, with all that is needed to read it."""

import os
import re
import stat
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from galaxy_zoo.errors import SourceError
from galaxy_zoo.remote import AnyPath, RemotePath, is_url, path_of
from shard_tool.source.archives import Archive, ArchiveMember, list_members, read_member, state_of
from shard_tool.source.scratch import open_scratch
from shard_tool.source.tars import TAR_SUFFIXES, list_tar, tar_at

UNFINISHED_NAME = ".fetch"
"""Folder in which `shard_tool fetch` keeps incomplete files."""
ARCHIVE_SUFFIXES = (".zip", *TAR_SUFFIXES)
SPLIT_NAME = re.compile(r"\.(z\d\d|\d{3}|part\d+\.rar)$")
DECOMPRESSED_BY = {
    ".fz": "funpack",
    **dict.fromkeys((".gz", ".tgz", ".z"), "gzip -d"),
    **dict.fromkeys((".bz2", ".tbz", ".tbz2"), "bzip2 -d"),
    **dict.fromkeys((".xz", ".txz"), "xz -d"),
    **dict.fromkeys((".zst", ".tzst"), "zstd -d"),
    ".lz4": "lz4 -d",
    ".7z": "7z x",
    ".rar": "unrar x",
}
"""Suffix of files that are not read -> command that decompresses them."""
ZIPS_AT_ONCE = 4
"""Number of tables of contents held in memory."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of SOURCE: at `path` (on the disk, or the URL of an object), or the `member` of an `archive`.

    shown: path below SOURCE, through folders and zips, with "/"; its name in messages. changed_ns: version of an object
    in a store.
    """

    shown: str
    path: str
    num_bytes: int
    changed_ns: int
    archive: Archive | None = None
    member: ArchiveMember | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # without this, a dataclass with slots takes four times as long to pickle
        return StoredFile, (self.shown, self.path, self.num_bytes, self.changed_ns, self.archive, self.member)

    @property
    def name(self) -> str:
        """Name without folder or archive."""
        return self.shown.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """Name without its suffix, which is the id of an image."""
        return self.name.rpartition(".")[0]

    @property
    def folder(self) -> str:
        """Folder or archive that holds it, below SOURCE."""
        return self.shown.rpartition("/")[0] or "."

    @property
    def is_in_deflated(self) -> bool:
        """Whether it is in an archive that can only be inflated from its beginning."""
        return self.archive is not None and self.archive.inner is not None and self.archive.inner.deflated

    def read(self) -> bytes:
        """Return the bytes of the file.

        Raises:
            ImageError: it is a damaged member of a zip.
            SourceError: the file, or its zip, cannot be read or has changed.
        """
        if self.archive is not None and self.member is not None:
            return read_member(self.archive, self.member)
        try:
            if not is_url(self.path):
                with open(self.path, "rb", 0) as file:  # noqa: PTH123 - a Path takes longer than reading the file
                    data, changed_ns = file.read(), os.fstat(file.fileno()).st_mtime_ns
            else:
                data, changed_ns = RemotePath(self.path).read_at(0, self.num_bytes), self.changed_ns
        except OSError as error:
            raise SourceError(
                f"{path_of(self.path)}: cannot be read ({error.strerror}); make it readable and pack again"
            ) from error
        if (len(data), changed_ns) != (self.num_bytes, self.changed_ns):
            raise SourceError(f"{path_of(self.path)}: has changed since it was listed; pack again")
        return data


def walk(source: AnyPath) -> Iterator[StoredFile]:
    """Yield every file of a folder, zip or tar, and of archives in it, in no particular order.

    Raises:
        SourceError: there is no such folder or zip, or a zip is damaged or suspicious.
    """
    zips, tars, inner_zips = [], [], []
    for file in _outer_files(source):
        if not file.shown.lower().endswith(ARCHIVE_SUFFIXES):
            yield file
        elif is_zip(file.shown):
            zips.append(file)
        else:
            tars.append(file)
    for member in _list_zips(zips):
        if is_zip(member.shown):
            inner_zips.append(member)
        else:
            yield member
    yield from _list_zips(inner_zips)
    for tar in tars:
        yield from _list_tar(tar)


def _outer_files(source: AnyPath) -> Iterator[StoredFile]:
    """Yield the files of a folder, or SOURCE itself if it is an archive."""
    try:
        is_dir, is_file = source.is_dir(), source.is_file()
        if is_dir:
            yield from _list_store(source) if isinstance(source, RemotePath) else _walk_folder(source)
    except OSError as error:
        raise SourceError(f"{source}: cannot be read ({error.strerror})") from error
    if is_dir:
        return
    if not is_file:
        raise SourceError(f"{source}: there is no such folder or zip")
    if not (is_zip(source.name) or _is_tar(source.name)):
        why = why_not_opened(source.name) or "neither a folder nor a .zip or .tar; give one that holds the images"
        raise SourceError(f"{source}: {why}")
    yield file_at(path_text(source), source.name)


def why_not_opened(name: str) -> str | None:
    """Return why an archive of that name, too deep inside others or given as SOURCE, is not opened.

    Return None if the name is not that of an archive.
    """
    lower = name.lower()
    if SPLIT_NAME.search(lower):
        return "a part of a split archive; join the parts first"
    if lower.endswith(ARCHIVE_SUFFIXES):
        return "an archive inside another, which is not opened; unpack the outer one and pack the folder"
    if command := DECOMPRESSED_BY.get(Path(lower).suffix):
        file = quote(name.rpartition("/")[2])
        return f"compressed in a way that is not read here; decompress it first: {command} {file}"
    return None


def path_text(path: AnyPath) -> str:
    """Return a path as `StoredFile` keeps it; for an object, its whole URL."""
    return path.url if isinstance(path, RemotePath) else str(path)


def _list_store(folder: RemotePath) -> Iterator[StoredFile]:
    for path in folder.files():
        status = path.stat()
        yield StoredFile(path.relative_to(folder), path.url, status.st_size, status.version)


def check_unchanged(source: AnyPath, files: Iterable[StoredFile]) -> None:
    """Check that objects in a store are still those that were listed; do not check files on the disk.

    A file on the disk is checked for changes when it is read. An object may be replaced between two reads, so only a
    check at the end shows that all of SOURCE was read in one state.

    Raises:
        SourceError: an object has changed or vanished, or the store cannot be reached.
    """
    if not isinstance(source, RemotePath):
        return
    now = open_scratch("object (path TEXT PRIMARY KEY, num_bytes INTEGER, version INTEGER) WITHOUT ROWID")
    now.executemany(
        "INSERT INTO object VALUES (?, ?, ?)", ((f.path, f.num_bytes, f.changed_ns) for f in _outer_files(source))
    )
    for file in files:
        num_bytes = file.num_bytes if file.archive is None else file.archive.num_bytes
        found = now.execute("SELECT num_bytes, version FROM object WHERE path = ?", (file.path,)).fetchone()
        if found != (num_bytes, file.changed_ns):
            what = "changed" if found else "vanished"
            raise SourceError(f"{path_of(file.path)}: has {what} while it was packed; pack again with --overwrite")


def _walk_folder(folder: Path) -> Iterator[StoredFile]:
    """Yield the files of a folder one at a time, without listing them all in memory."""
    seen: set[tuple[int, int]] = set()
    waiting = [""]
    while waiting:
        below = waiting.pop()
        root = f"{folder}/{below}"
        try:
            status = os.stat(root)  # noqa: PTH116 - a string, as scandir takes and returns
            if (status.st_dev, status.st_ino) in seen:  # a link that leads back to a parent folder
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(root) as entries:
                for entry in entries:
                    shown = f"{below}{entry.name}"
                    if not entry.is_dir():
                        yield _entry_file(entry, shown)
                    elif entry.name != UNFINISHED_NAME:
                        waiting.append(f"{shown}/")
        except OSError as error:
            raise _unreadable(error.filename, error) from error


def _entry_file(entry: os.DirEntry[str], shown: str) -> StoredFile:
    try:
        status = entry.stat()
    except OSError as error:
        raise _unreadable(entry.path, error) from error
    if not stat.S_ISREG(status.st_mode):
        raise SourceError(f"{entry.path}: a pipe, socket or device, which may never end; remove it")
    return StoredFile(shown, entry.path, status.st_size, status.st_mtime_ns)


def file_at(path: str, shown: str) -> StoredFile:
    """Return the file at a path on the disk, or at a URL.

    Raises:
        SourceError: it cannot be read.
    """
    try:
        num_bytes, changed_ns = state_of(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    return StoredFile(shown, path, num_bytes, changed_ns)


def _unreadable(path: str, error: OSError) -> SourceError:
    return SourceError(f"{path_of(path)}: cannot be read ({error.strerror}); remove it or make it readable")


def is_zip(name: str) -> bool:
    """Return whether a file of that name is a zip."""
    return name.lower().endswith(".zip")


def _is_tar(name: str) -> bool:
    return name.lower().endswith(TAR_SUFFIXES)


def _list_zips(zips: list[StoredFile]) -> Iterator[StoredFile]:
    with ThreadPoolExecutor() as pool:  # zlib inflates outside the interpreter lock
        for start in range(0, len(zips), ZIPS_AT_ONCE):
            for members in pool.map(_list_zip, zips[start : start + ZIPS_AT_ONCE]):
                yield from members


def _list_zip(file: StoredFile) -> list[StoredFile]:
    archive = file.archive or Archive(file.path, file.num_bytes, file.changed_ns)
    if file.member is not None:
        archive = archive._replace(inner=file.member)
    return _members(file, archive, list_members(archive))


def _list_tar(file: StoredFile) -> list[StoredFile]:
    archive = tar_at(Archive(file.path, file.num_bytes, file.changed_ns))
    return _members(file, archive, list_tar(archive))


def _members(file: StoredFile, archive: Archive, members: list[ArchiveMember]) -> list[StoredFile]:
    return [
        StoredFile(
            f"{file.shown}/{member.name.removeprefix('./')}",
            file.path,
            member.size,
            archive.changed_ns,
            archive,
            member,
        )
        for member in members
    ]
