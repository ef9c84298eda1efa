"""Every file below a folder or in an archive, in the order of their paths, with what it takes to read each."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from galaxy_zoo.errors import SourceError
from shard_tool.archives import Archive, Member, archive_at, list_members, read_member
from shard_tool.fetching import UNFINISHED_NAME
from shard_tool.tars import TAR_SUFFIXES, list_tar, tar_at


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
            return Path(self.path).read_bytes()
        except OSError as error:
            raise SourceError(
                f"{self.path}: cannot be read ({error.strerror}); mend that and pack again"
            ) from error


def walk(source: Path) -> list[StoredFile]:
    """Every file of a folder, zip or tar, also those in archives in it, sorted by where they are.

    Raises:
        SourceError: there is no such folder or zip, or a zip is damaged or not to be trusted.
    """
    if source.is_dir():
        found = list(_walk_folder(source))
    elif source.is_file():
        found = [file_at(str(source), source.name)]
        if not (is_zip(found[0].name) or _is_tar(found[0].name)):
            raise SourceError(f"{source}: neither a folder nor a .zip or .tar; give one that holds the images")
    else:
        raise SourceError(f"{source}: there is no such folder or zip")
    tars, found = split_off(found, lambda f: _is_tar(f.name))
    zips, files = split_off(found, lambda f: is_zip(f.name))
    inner_zips, members = split_off(_list_zips(zips), lambda f: is_zip(f.name))
    files += members + _list_zips(inner_zips) + [member for tar in tars for member in _list_tar(tar)]
    return sorted(files, key=lambda file: file.shown)


def _walk_folder(folder: Path) -> Iterator[StoredFile]:
    seen: set[tuple[int, int]] = set()
    for root, folders, names in os.walk(folder, followlinks=True, onerror=_raise):
        status = Path(root).stat()
        if (status.st_dev, status.st_ino) in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = [name for name in folders if name != UNFINISHED_NAME]
        below = os.path.relpath(root, folder)
        for name in names:
            yield file_at(os.path.join(root, name), name if below == "." else f"{below}/{name}")  # noqa: PTH118


def _raise(error: OSError) -> None:
    raise SourceError(f"{error.filename}: cannot be read ({error.strerror})") from error


def file_at(path: str, shown: str) -> StoredFile:
    """The file at a path of the disk.

    Raises:
        SourceError: it cannot be read.
    """
    try:
        status = Path(path).stat()
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror}); remove or mend it") from error
    return StoredFile(shown, path, status.st_size, status.st_mtime_ns)


def is_zip(name: str) -> bool:
    """Whether a file of that name is a zip."""
    return name.lower().endswith(".zip")


def _is_tar(name: str) -> bool:
    return name.lower().endswith(TAR_SUFFIXES)


def _list_zips(zips: list[StoredFile]) -> list[StoredFile]:
    with ThreadPoolExecutor() as pool:  # zlib inflates outside the interpreter lock
        return [member for members in pool.map(_list_zip, zips) for member in members]


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


def split_off(
    files: list[StoredFile], is_chosen: Callable[[StoredFile], bool]
) -> tuple[list[StoredFile], list[StoredFile]]:
    """Those that are chosen, and the others."""
    return [f for f in files if is_chosen(f)], [f for f in files if not is_chosen(f)]
