"""List the members of a tar or a gzipped tar, so that they can be read in any order without unpacking.

A tar may come from anywhere: links, devices and names that lead out of it are refused, headers must be small, and a
gzipped tar may grow at most `archives.LARGEST_RATIO` times. `tarfile` alone would stop silently at a damaged header, so
the last member must be followed by the end of a tar.
"""

import struct
import tarfile
import zlib
from pathlib import Path
from shlex import quote

from galaxy_zoo.byte_range import ByteRange, ReadAt
from galaxy_zoo.errors import SourceError
from shard_tool.source.archives import (
    HEAD_BYTES,
    LARGEST_RATIO,
    Archive,
    ArchiveMember,
    check_format,
    check_name,
    check_size,
    in_blocks,
    open_archive,
)

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
COMPRESSIONS = {b"\x1f\x8b": "gzip", b"\xfd7zXZ\0": "xz", b"BZh": "bzip2", b"\x28\xb5\x2f\xfd": "zstd"}
"""First bytes of a compressed file -> program that decompresses it."""
LARGEST_HEADER_BYTES = 2**20
PIECE_BYTES = 2**18
GZIP_EXTRA, GZIP_TEXTS, GZIP_CHECKSUM = 4, (8, 16), 2
"""Bits of the flags that mark the optional fields. Source: RFC 1952, section 2.3.1."""
TAR_ERRORS = (tarfile.TarError, ValueError, OverflowError, RecursionError, EOFError, OSError)
"""Errors that `tarfile` raises if a file is damaged or not a tar."""


class _Headers(ByteRange):
    """The bytes of a tar for `tarfile`, which reads only headers."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= LARGEST_HEADER_BYTES:
            raise ValueError(f"a header of {size} bytes")
        return super().read(size) or b""


def tar_at(file: Archive) -> Archive:
    """Return a tar as an archive, or the tar in a gzip file; the bytes decide, not the name.

    Raises:
        SourceError: the gzip file is damaged or a bomb, or the tar is compressed in another way.
    """
    head = open_archive(file)(0, 8)
    program = compressed_by(head)
    if program and program != "gzip":
        raise SourceError(f"{file.path}: {decompress_first(program, Path(file.path).name)}")
    return file._replace(inner=_inflated(file)) if program else file


def compressed_by(head: bytes) -> str:
    """Return the program that decompresses a file with these first bytes; "" if it is not known to be compressed."""
    return next((program for magic, program in COMPRESSIONS.items() if head.startswith(magic)), "")


def decompress_first(program: str, name: str) -> str:
    """Return text about a compressed tar, whatever its name, and how to decompress it."""
    return f"compressed by {program}; decompress it first: {program} -d < {quote(name)} > new.tar"


def list_tar(archive: Archive) -> list[ArchiveMember]:
    """Return the files of a tar, in order.

    Raises:
        SourceError: the file is not a complete tar, or a member is a link, a device, leads out of the archive or is
            far too large for an image.
    """
    size = archive.num_bytes if archive.inner is None else archive.inner.size
    read_at = in_blocks(archive, open_archive(archive), size)
    members = []
    try:
        with tarfile.open(fileobj=_Headers(read_at, size), mode="r:") as file:
            for info in file:
                if not info.isdir():
                    members.append(_checked(info, archive.name, size))
            end = file.offset
    except TAR_ERRORS as error:
        check_format(read_at(0, HEAD_BYTES), "a tar", archive.name)
        raise SourceError(f"{archive.name}: not a whole tar ({error}); download it again") from error
    tail = read_at(end, LARGEST_HEADER_BYTES)
    if len(tail) < tarfile.BLOCKSIZE or tail.strip(b"\0"):
        raise SourceError(
            f"{archive.name}: not a whole tar (neither a file nor its end at byte {end:,}); download it again"
        )
    return members


def _checked(info: tarfile.TarInfo, archive: str, size: int) -> ArchiveMember:
    where = f"{archive}: member {info.name!r}"
    check_name(info.name, where)
    if not info.isreg() or info.issparse():
        what = "a link" if info.issym() or info.islnk() else "no plain file"
        raise SourceError(f"{where} is {what}; pack a tar of the files themselves (tar --dereference)")
    check_size(info.name, info.size, info.size, where)
    if info.size < 0 or info.offset_data + info.size > size:
        raise SourceError(f"{where} ends after the end of the tar; download it again")
    return ArchiveMember(
        info.name, info.offset_data, info.size, info.size, crc=None, deflated=False, has_header=False
    )


def _inflated(archive: Archive) -> ArchiveMember:
    """Return the tar in a gzip file, checked against its checksum."""
    read_at = in_blocks(archive, open_archive(archive), archive.num_bytes)
    start = _header_bytes(read_at, archive.path)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    at, size, crc, waiting = start, 0, 0, b""
    while not inflater.eof:
        if not waiting:
            waiting = read_at(at, PIECE_BYTES)
            at += len(waiting)
        if not waiting:
            raise SourceError(f"{archive.path}: its gzipped data ends too early; download it again")
        try:
            piece = inflater.decompress(waiting, PIECE_BYTES)
        except zlib.error as error:
            raise SourceError(f"{archive.path}: damaged gzip data ({error}); download it again") from error
        waiting, size, crc = inflater.unconsumed_tail, size + len(piece), zlib.crc32(piece, crc)
        if size > LARGEST_RATIO * max(archive.num_bytes, 1024):
            raise SourceError(
                f"{archive.path}: inflates to more than {LARGEST_RATIO} times its size; gunzip it first"
            )
    end = at - len(inflater.unused_data)
    if read_at(end, 8) != struct.pack("<II", crc, size % 2**32):
        raise SourceError(f"{archive.path}: its gzip checksum differs; download it again")
    if end + 8 != archive.num_bytes:
        raise SourceError(f"{archive.path}: several gzip streams in one file; gunzip it first")
    name = Path(archive.path).stem
    return ArchiveMember(name, start, end - start, size, crc, deflated=True, has_header=False)


def _header_bytes(read_at: ReadAt, path: str) -> int:
    """Return the length of a gzip header in bytes. Source: RFC 1952, section 2.3."""
    header = read_at(0, 2**16)
    if header[:3] != b"\x1f\x8b\x08" or len(header) < 10:
        raise SourceError(f"{path}: not a gzip file; download it again")
    flags, at = header[3], 10
    if flags & GZIP_EXTRA:
        at += 2 + int.from_bytes(header[at : at + 2], "little")
    for flag in GZIP_TEXTS:
        if flags & flag:
            at = header.find(b"\0", at) + 1 or len(header) + 1
    at += 2 if flags & GZIP_CHECKSUM else 0
    if at > len(header):
        raise SourceError(f"{path}: its gzip header does not end; download it again")
    return at
