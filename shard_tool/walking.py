"""Every file below a folder or in an archive, in the order of their paths, with what it takes to read each."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from galaxy_zoo.errors import SourceError
from shard_tool.archives import Archive, Member, archive_at, list_members, read_member
from shard_tool.tars import TAR_SUFFIXES, list_tar, tar_at

ARCHIVE_SUFFIXES = (".zip", *TAR_SUFFIXES)
ZIPS_AT_ONCE = 4
"""How many tables of contents are held in memory."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of SOURCE: at `path` on the disk, or the `member` of an `archive`.

    `shown` is the path below SOURCE, through folders and zips, with "/"; what messages call it.
    """

    shown: str
    path: str
    num_bytes: int
    changed_ns: int
    archive: Archive | None = None
    member: Member | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # by itself a dataclass with slots takes four times as long to pickle
        return StoredFile, (self.shown, self.path, self.num_bytes, self.changed_ns, self.archive, self.member)

    @property
    def name(self) -> str:
        """The file's own name, which is the same in a folder and in a zip."""
        return self.shown.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The name without its suffix: the id of an image."""
        return self.name.rpartition(".")[0]

    @property
    def folder(self) -> str:
        """The folder or zip it is in, below SOURCE."""
        return self.shown.rpartition("/")[0] or "."

    def read(self) -> bytes:
        """The bytes of the file.

        Raises:
            ImageError: it is a damaged member of a zip.
            SourceError: it, or the zip, cannot be read.
        """
        if self.archive is not None and self.member is not None:
            return read_member(self.archive, self.member)
        try:
            with open(self.path, "rb", 0) as file:  # noqa: PTH123 - a Path takes longer than the reading
                return file.read()
        except OSError as error:
            raise SourceError(
                f"{self.path}: cannot be read ({error.strerror}); mend that and pack again"
            ) from error


def walk(source: Path) -> Iterator[StoredFile]:
    """Every file of a folder, zip or tar, also those in archives in it, in no particular order.

    Raises:
        SourceError: there is no such folder or zip, or a zip is damaged or not to be trusted.
    """
    zips, tars, inner_zips = [], [], []
    for file in _walk_outside(source):
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


def _walk_outside(source: Path) -> Iterator[StoredFile]:
    """The files on the disk."""
    if source.is_dir():
        yield from _walk_folder(source)
    elif source.is_file():
        file = file_at(str(source), source.name)
        if not (is_zip(file.name) or _is_tar(file.name)):
            raise SourceError(f"{source}: neither a folder nor a .zip or .tar; give one that holds the images")
        yield file
    else:
        raise SourceError(f"{source}: there is no such folder or zip")


def _walk_folder(folder: Path) -> Iterator[StoredFile]:
    """A file at a time, however many a folder holds."""
    seen: set[tuple[int, int]] = set()
    waiting = [""]
    while waiting:
        below = waiting.pop()
        root = f"{folder}/{below}"
        try:
            status = os.stat(root)  # noqa: PTH116 - a string, as scandir takes and gives them
            if (status.st_dev, status.st_ino) in seen:  # a link that leads back
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(root) as entries:
                for entry in entries:
                    shown = f"{below}{entry.name}"
                    if entry.is_dir():
                        waiting.append(f"{shown}/")
                    else:
                        yield _stored(entry.path, shown, entry.stat)
        except OSError as error:
            raise SourceError(f"{error.filename}: cannot be read ({error.strerror})") from error


def file_at(path: str, shown: str) -> StoredFile:
    """The file at a path of the disk.

    Raises:
        SourceError: it cannot be read.
    """
    return _stored(path, shown, Path(path).stat)


def _stored(path: str, shown: str, stat: Callable[[], os.stat_result]) -> StoredFile:
    try:
        status = stat()
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror}); remove or mend it") from error
    return StoredFile(shown, path, status.st_size, status.st_mtime_ns)


def is_zip(name: str) -> bool:
    """Whether a file of that name is a zip."""
    return name.lower().endswith(".zip")


def _is_tar(name: str) -> bool:
    return name.lower().endswith(TAR_SUFFIXES)


def _list_zips(zips: list[StoredFile]) -> Iterator[StoredFile]:
    with ThreadPoolExecutor() as pool:  # zlib inflates outside the interpreter lock
        for start in range(0, len(zips), ZIPS_AT_ONCE):
            for members in pool.map(_list_zip, zips[start : start + ZIPS_AT_ONCE]):
                yield from members


def _list_zip(file: StoredFile) -> list[StoredFile]:
    archive = archive_at(file.path)
    if file.member is not None:
        archive = Archive(archive.path, archive.num_bytes, archive.changed_ns, file.member)
    return _members(file, archive, list_members(archive))


def _list_tar(file: StoredFile) -> list[StoredFile]:
    archive = tar_at(file.path)
    return _members(file, archive, list_tar(archive))


def _members(file: StoredFile, archive: Archive, members: list[Member]) -> list[StoredFile]:
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
