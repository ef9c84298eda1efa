"""Read the members of a zip, of a zip inside a zip or of a tar, in any order, without unpacking to the disk.

An archive may come from anywhere, so its table of contents is checked before it is used. Members are read by
their offset: a worker needs no table of contents, only the few numbers in an `ArchiveMember`.
"""

import io
import os
import stat
import struct
import weakref
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from galaxy_zoo.byte_range import ByteRange, ReadAt
from galaxy_zoo.errors import ImageError, SourceError
from galaxy_zoo.remote import RemotePath, is_url, path_of
from shard_tool.images.formats import format_of
from shard_tool.source.seekable_deflate import SeekableDeflate

LARGEST_MEMBER_BYTES = 64 * 2**20
"""Far larger than any JPEG of a galaxy (Kaggle's mean is 13 kB); a larger member is a mistake or a zip bomb."""
LARGEST_TABLE_BYTES = 2**30
LARGEST_RATIO = 200
"""Largest compression ratio of an inner zip or a tar; JPEGs hardly shrink, a bomb shrinks a thousandfold."""

LOCAL_HEADER = struct.Struct("<4s22xHH")
"""Signature, and the lengths of the name and of the extra field. Source: PKWARE APPNOTE 6.3.10, section 4.3.7."""
HEAD_BYTES = 16
LARGEST_END_BYTES = 22 + 2**16 - 1
"""The record at the end of a zip, and the comment after it."""
EXTRA_BYTES = 128
"""Bytes read for the extra field of a local header, whose length is known only then; zips usually have 28."""
SMALLEST_BLOCK_BYTES = 2**16
LARGEST_BLOCK_BYTES = 2**23


class ArchiveMember(NamedTuple):
    """A file in an archive, with `stored_bytes` there and `size` bytes once inflated.

    offset: offset of its local header, or of its data if `has_header` is not set, as in a tar (which has no checksum
    either) or a gzip file.
    """

    name: str
    offset: int
    stored_bytes: int
    size: int
    crc: int | None
    deflated: bool
    has_header: bool = True


class Archive(NamedTuple):
    """A zip or tar file, or the archive that is its member `inner` (in a gzip file: all of it).

    num_bytes, changed_ns: state of the outer file, to notice changes; for an object in a store `changed_ns` is its
    version.
    """

    path: str
    num_bytes: int
    changed_ns: int
    inner: ArchiveMember | None = None

    @property
    def name(self) -> str:
        """Name for errors."""
        return self.path if self.inner is None else f"{self.path}/{self.inner.name}"


def state_of(path: str) -> tuple[int, int]:
    """Return the size of a file in bytes, and the time of its last change in ns or the version of an object.

    Raises:
        OSError: there is no such file, or it cannot be reached.
    """
    if is_url(path):
        said = RemotePath(path).stat()
        return said.st_size, said.version
    status = Path(path).stat()
    return status.st_size, status.st_mtime_ns


@lru_cache(maxsize=4)
def open_archive(archive: Archive) -> ReadAt:
    """Return a reader of slices of an archive. It stays open, to keep the snapshots of a deflated inner zip.

    Raises:
        SourceError: the file has changed since the archive was listed, or an inner zip is damaged.
    """
    whole = _open_object(archive) if is_url(archive.path) else _open_file(archive)
    inner = archive.inner
    if inner is None:
        return whole
    try:
        start = _data_offset(whole, inner)
    except ImageError as error:
        raise SourceError(f"{archive.name}: {error}; download it again") from error

    def stored(offset: int, size: int) -> bytes:
        return whole(start + offset, max(0, min(size, inner.stored_bytes - offset)))

    if not inner.deflated:
        return stored
    in_order = in_blocks(archive, stored, inner.stored_bytes)
    return SeekableDeflate(in_order, inner.size, name=archive.name).read_at


def in_blocks(archive: Archive, read_at: ReadAt, size: int) -> ReadAt:
    """Return a reader for many small reads in sequence, from one thread; `size` is the archive's, in bytes."""
    return Blocks(read_at, size).read_at if is_url(archive.path) else read_at


def list_members(archive: Archive) -> list[ArchiveMember]:
    """Return the files of a zip, in the order of its table of contents.

    Raises:
        SourceError: the file is not a complete zip, or a member is encrypted, a link, leads out of the archive, is far
            too large for an image or is compressed by a method other than deflate.
    """
    size = archive.num_bytes if archive.inner is None else archive.inner.size
    try:
        read_at = in_blocks(archive, open_archive(archive), size)
        _check_is_not_split(read_at, size, archive.name)
        with zipfile.ZipFile(io.BufferedReader(ByteRange(read_at, size))) as file:
            infos = [info for info in file.infolist() if not info.filename.endswith(("/", "\\"))]
    except (zipfile.BadZipFile, NotImplementedError, struct.error, UnicodeDecodeError) as error:
        check_format(read_at(0, HEAD_BYTES), "a zip", archive.name)
        raise SourceError(f"{archive.name}: not a whole zip file ({error}); download it again") from error
    return [_checked(info, archive.name) for info in infos]


def check_format(head: bytes, wanted: str, where: str) -> None:
    """Check that an archive which cannot be listed is not known, by its first bytes, to be something else.

    Raises:
        SourceError: it is; `where` begins the message.
    """
    found = format_of(head)
    if found and found != wanted:
        raise SourceError(f"{where}: not {wanted}: it is {found}; name it for what it is, or download it again")


def _check_is_not_split(read_at: ReadAt, size: int, where: str) -> None:
    """Check that a zip is not the last of several parts, whose offsets refer to other files.

    Raises:
        SourceError: it is.

    Source: PKWARE APPNOTE 6.3.10, section 4.3.16: the number of this part, from 0, after the signature.
    """
    tail = read_at(max(0, size - LARGEST_END_BYTES), LARGEST_END_BYTES)
    end = tail.rfind(b"PK\x05\x06")
    number = int.from_bytes(tail[end + 4 : end + 6], "little") if end >= 0 else 0
    if number not in (0, 0xFFFF):  # 0xFFFF refers to a zip64 record
        raise SourceError(
            f"{where}: the last of {number + 1} parts of a split zip; join the parts first (zip -s 0 {where} --out "
            "whole.zip) and pack what comes of it"
        )


def read_member(archive: Archive, member: ArchiveMember) -> bytes:
    """Return the bytes of a member, checked against its checksum if it has one.

    Raises:
        ImageError: the member is damaged; the message gives only the reason, without a file name.
        SourceError: the archive around it is damaged or has changed since it was listed.
    """
    try:
        return _read_member(archive, member)
    except ImageError:
        _check_state(archive.path, archive.num_bytes, archive.changed_ns)
        raise


def _read_member(archive: Archive, member: ArchiveMember) -> bytes:
    read_at = open_archive(archive)
    try:
        data = _read_stored(read_at, member)
        if member.deflated:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, member.size + 1)
    except zlib.error as error:
        raise ImageError(f"damaged in its zip: {error}") from error
    if member.crc is not None and (len(data) != member.size or zlib.crc32(data) != member.crc):
        raise ImageError("damaged in its zip: its checksum differs")
    if len(data) != member.size:
        raise ImageError("cut off in its archive")
    return data


def _checked(info: zipfile.ZipInfo, archive: str) -> ArchiveMember:
    where = f"{archive}: member {info.filename!r}"
    if info.header_offset < 0:
        raise SourceError(
            f"{archive}: its beginning is missing: it was cut, or is the last part of a split zip; join the parts "
            "first, or download it again"
        )
    check_name(info.filename, where)
    if stat.S_ISLNK(info.external_attr >> 16):
        raise SourceError(f"{where} is a symbolic link; zip the files themselves")
    if info.flag_bits & 1:
        raise SourceError(f"{where} is encrypted; unzip it with its password and pack the folder")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise SourceError(
            f"{where} is packed by method {info.compress_type}, only stored and deflated members are read; "
            "unzip it and pack the folder"
        )
    check_size(info.filename, info.file_size, info.compress_size, where)
    deflated = info.compress_type == zipfile.ZIP_DEFLATED
    return ArchiveMember(
        name=info.filename.replace("\\", "/"),  # the separator of Windows
        offset=info.header_offset,
        stored_bytes=info.compress_size,
        size=info.file_size,
        crc=info.CRC,
        deflated=deflated,
    )


def check_name(name: str, where: str) -> None:
    """Check that a member stays in the archive.

    Raises:
        SourceError: it would not; `where` begins the message.
    """
    parts = name.replace("\\", "/").split("/")
    if not parts[0] or parts[0].endswith(":") or ".." in parts:  # "/x", "C:/x" or "../x"
        raise SourceError(f"{where} leads out of the archive; do not trust this file")


def check_size(name: str, size: int, stored_bytes: int, where: str) -> None:
    """Check that a member is not too large for an archive of images.

    Raises:
        SourceError: it is too large, or an archive with too high a compression ratio; `where` begins the message.
    """
    suffix = name[-4:].lower()
    if suffix == ".zip":
        too_large = size > LARGEST_RATIO * max(stored_bytes, 1024)
    else:
        too_large = size > (LARGEST_TABLE_BYTES if suffix == ".csv" else LARGEST_MEMBER_BYTES)
    if too_large:
        raise SourceError(
            f"{where} says it holds {size:,} bytes in {stored_bytes:,}, far too large for what "
            "belongs here; take it out of the archive"
        )


def _read_stored(read_at: ReadAt, member: ArchiveMember) -> bytes:
    """Return the bytes of a member as stored, usually with one read for header and data."""
    if not member.has_header:
        return read_at(member.offset, member.stored_bytes)
    likely_bytes = LOCAL_HEADER.size + len(member.name.encode(errors="replace")) + EXTRA_BYTES
    data = read_at(member.offset, likely_bytes + member.stored_bytes)
    start = _header_bytes(data, member)
    if start > likely_bytes:
        return read_at(member.offset + start, member.stored_bytes)
    return data[start : start + member.stored_bytes]


def _data_offset(read_at: ReadAt, member: ArchiveMember) -> int:
    if not member.has_header:
        return member.offset
    return member.offset + _header_bytes(read_at(member.offset, LOCAL_HEADER.size), member)


def _header_bytes(data: bytes, member: ArchiveMember) -> int:
    """Return the length in bytes of the local header that `data` begins with."""
    if len(data) < LOCAL_HEADER.size or not data.startswith(b"PK\x03\x04"):
        raise ImageError(f"damaged in its zip: no header at byte {member.offset}")
    _, name_bytes, extra_bytes = LOCAL_HEADER.unpack_from(data)
    return int(LOCAL_HEADER.size + name_bytes + extra_bytes)


def _open_file(archive: Archive) -> ReadAt:
    file = _OpenFile(archive.path)
    if file.state != (archive.num_bytes, archive.changed_ns):
        raise SourceError(f"{archive.path}: has changed since it was listed; pack again")
    return file.read_at


def _open_object(archive: Archive) -> ReadAt:
    """Return a reader of an archive in a store: each read is one request; several threads may read at once."""
    _check_state_once(archive.path, archive.num_bytes, archive.changed_ns)
    path = RemotePath(archive.path)

    def read_at(offset: int, size: int) -> bytes:
        size = min(size, archive.num_bytes - offset)
        try:
            data = path.read_at(offset, size) if size > 0 else b""
        except OSError as error:
            raise SourceError(
                f"{path}: cannot be read at byte {offset} ({error.strerror}); fix this and pack again"
            ) from error
        if len(data) != max(0, size):
            raise SourceError(f"{path}: has changed since it was listed; pack again")
        return data

    return read_at


def _check_state(path: str, num_bytes: int, changed_ns: int) -> None:
    try:
        state = state_of(path)
    except OSError as error:
        raise SourceError(f"{path_of(path)}: cannot be read ({error.strerror})") from error
    if state != (num_bytes, changed_ns):
        raise SourceError(f"{path_of(path)}: has changed since it was listed; pack again")


_check_state_once = lru_cache(maxsize=4096)(_check_state)
"""A worker uses each of many archives in every shard, but need not check each time."""


class _OpenFile:
    """A file open for reading slices; it is closed when nothing refers to it any more."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._descriptor)

    @property
    def state(self) -> tuple[int, int]:
        """Size in bytes, and time of the last change in ns."""
        status = os.fstat(self._descriptor)
        return status.st_size, status.st_mtime_ns

    def read_at(self, offset: int, size: int) -> bytes:
        try:
            return os.pread(self._descriptor, size, offset)
        except OSError as error:
            raise SourceError(
                f"{self._path}: cannot be read at byte {offset} ({error.strerror}); fix this and pack again"
            ) from error


class Blocks:
    """Reads in blocks, which grow while reads follow each other and are small after a jump."""

    def __init__(self, read_at: ReadAt, size: int) -> None:
        self._read_at = read_at
        self._size = size
        self._start = 0
        self._block = b""
        self._block_bytes = SMALLEST_BLOCK_BYTES

    def read_at(self, offset: int, size: int) -> bytes:
        """Return the slice, which is shorter at the end."""
        end = min(offset + size, self._size)
        if end <= offset:
            return b""
        if offset < self._start or end > self._start + len(self._block):
            self._load(offset, end)
        return self._block[offset - self._start : end - self._start]

    def _load(self, offset: int, end: int) -> None:
        block_end = self._start + len(self._block)
        is_next = self._start <= offset <= block_end + SMALLEST_BLOCK_BYTES
        self._block_bytes = min(2 * self._block_bytes, LARGEST_BLOCK_BYTES) if is_next else SMALLEST_BLOCK_BYTES
        start = offset // SMALLEST_BLOCK_BYTES * SMALLEST_BLOCK_BYTES  # a table of contents is read backwards
        self._block = self._read_at(start, max(end - start, min(self._block_bytes, self._size - start)))
        self._start = start
