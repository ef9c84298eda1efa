"""Find the samples of a tar of any origin, reading only headers."""

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from galaxy_zoo.errors import ShardError
from galaxy_zoo.index import Component, Sample, key_of
from galaxy_zoo.remote import AnyPath
from shard_tool.source.tars import compressed_by, decompress_first

MEMBER_NAME = re.compile(r"((?:.*/)?[^./]+(?:\.\d[^./]*)*)\.([^/]+)", re.DOTALL)
"""Key and extension; the extension begins at the first dot in the file's own name that no digit follows.

Source: webdataset 1.0.2, `tariterators.base_plus_ext`, for which it begins at the first dot; but survey names hold
coordinates, such as J094600.40-010228.5.jpg.
"""
META_NAME = re.compile(r"__[^/]*__(?:/|$)")
"""Members that webdataset leaves out: they belong to no sample.

Source: webdataset 1.0.2, `tariterators.meta_prefix`.
"""
TAR_ERRORS = (tarfile.TarError, OSError, ValueError, OverflowError, MemoryError, RecursionError, EOFError)
"""Errors that `tarfile` raises if a file is damaged or not a tar."""


@dataclass(frozen=True)
class Walk:
    """Samples of a tar, as far as it can be read.

    others: members that are not a file of a sample (folders, names without extension). why: reason why the tar cannot
    be read further, "" if it was read to its end.
    """

    samples: tuple[Sample, ...]
    others: tuple[str, ...]
    why: str


def walk_tar(tar: AnyPath) -> Walk:
    """Find the samples of a tar: neighbouring files with the same key. A leading `./` is not part of a name."""
    components: list[Component] = []
    others: list[str] = []
    why = ""
    try:
        for member in _members(tar):
            name = member.name.removeprefix("./")
            match = MEMBER_NAME.fullmatch(name)
            if match is None or not member.isreg() or member.issparse() or META_NAME.match(name):
                others.append(name)
            elif unfit := next((each for each in name if each == " " or not each.isprintable()), ""):
                raise ShardError(f"member {name!r} has {_called(unfit)} in its name, which an index may not hold")
            else:
                components.append(Component(match[2], member.offset_data, member.size, name))
    except ShardError as error:
        why = str(error)
    except TAR_ERRORS as error:
        program = _compressed_by(tar)
        why = decompress_first(program, tar.name) if program else f"not a whole tar: {error}"
    groups = groupby(components, key=lambda component: key_of((component,)))
    return Walk(tuple(tuple(group) for _, group in groups), tuple(others), why)


def _compressed_by(tar: AnyPath) -> str:
    try:
        with tar.open("rb") as file:
            return compressed_by(file.read(8))
    except OSError:
        return ""


def _called(character: str) -> str:
    if character == " ":
        return "a space"
    return "bytes that are not UTF-8" if "\udc80" <= character <= "\udcff" else f"U+{ord(character):04X}"


def _members(tar: AnyPath) -> Iterator[tarfile.TarInfo]:
    """Yield the members of a tar, which must follow each other, up to the zeros at its end.

    Raises:
        ShardError: the data of a member is elsewhere, or the last member is not followed by the end of a tar.
            `tarfile` alone would stop silently at a damaged header.
    """
    num_bytes, end = tar.stat().st_size, 0
    with tar.open("rb") as raw, tarfile.open(fileobj=raw, mode="r:") as file:
        for member in file:
            file.members = []  # type: ignore[attr-defined] # or it keeps them all
            if member.offset_data < end or member.size < 0:
                raise ShardError(f"not a whole tar: member {member.name!r} lies before the one before it")
            end = member.offset_data + (member.size if member.isreg() else 0)
            if end > num_bytes:
                raise ShardError(f"not a whole tar: member {member.name!r} ends after the tar")
            yield member
        tail = file.offset
    with tar.open("rb") as raw:
        raw.seek(tail)
        if raw.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise ShardError(f"not a whole tar: neither a file nor the end of the tar at byte {tail:,}")
