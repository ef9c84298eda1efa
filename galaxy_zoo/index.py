"""The index beside a shard: offset and size of each component of each sample in the tar.

The format is DALI's `wds2idx` v1.2: a line `v1.2 <samples>`, then for each sample a line with
`<extension> <offset of the data> <size> <member name>` for each component.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from galaxy_zoo.errors import ShardError
from galaxy_zoo.files import is_special
from galaxy_zoo.remote import AnyPath, RemotePath

VERSION = "v1.2"


@dataclass(frozen=True)
class Component:
    """One file of a sample; its bytes are `tar[offset : offset + size]`."""

    extension: str
    offset: int
    size: int
    name: str


Sample = tuple[Component, ...]
ESCAPED = str.maketrans({"%": "%25", ".": "%2E", " ": "%20"})
"""Characters escaped in keys: WebDataset ends a key at the first dot, an index at the first space."""


def key_of_id(sample_id: str) -> str:
    """Return the key of a sample in a tar: its id, with dots and spaces escaped as in a URL."""
    return sample_id.translate(ESCAPED)


def key_of(sample: Sample) -> str:
    """Return the id of a sample from its members' common name without the extension; undo `key_of_id`."""
    key = sample[0].name.removesuffix("." + sample[0].extension)
    return re.sub("%(20|25|2E)", lambda escape: chr(int(escape[1], 16)), key) if "%" in key else key


@overload
def index_path(shard: Path) -> Path: ...
@overload
def index_path(shard: RemotePath) -> RemotePath: ...
def index_path(shard: AnyPath) -> AnyPath:
    """Return the path of the index of a shard."""
    return shard.with_suffix(".idx")


def format_index(samples: Iterable[Sample]) -> str:
    """Return the text of an index file."""
    lines = [" ".join(f"{c.extension} {c.offset} {c.size} {c.name}" for c in sample) for sample in samples]
    return "".join(f"{line}\n" for line in [f"{VERSION} {len(lines)}", *lines])


def read_index(path: AnyPath) -> list[Sample]:
    """Read an index file.

    Raises:
        ShardError: the file is missing or not a v1.2 index.
    """
    if is_special(path):
        raise ShardError(f"{path}: a pipe or a device, not a file; remove it")
    try:
        text = path.read_text()
    except FileNotFoundError as error:
        raise ShardError(
            f"{path}: the index is missing; pack again, or copy it from where the shards came"
        ) from error
    except UnicodeDecodeError as error:
        raise ShardError(f"{path}: not an index: {error}") from error
    first, *lines = text.splitlines() or [""]
    if first != f"{VERSION} {len(lines)}" or not text.endswith("\n"):
        raise ShardError(
            f"{path}: not a whole {VERSION} index: the first line is {first[:40]!r}, {len(lines)} lines follow "
            "(or the last one is cut off); pack again"
        )
    return [_parse(line, path, number) for number, line in enumerate(lines, 2)]


def _parse(line: str, path: AnyPath, number: int) -> Sample:
    words = line.split()
    try:
        if not words or len(words) % 4:
            raise ValueError(f"{len(words)} words")
        return tuple(_component(*words[at : at + 4]) for at in range(0, len(words), 4))
    except ValueError as error:
        raise ShardError(f"{path}, line {number}: not a line of an index: {error}; pack again") from error


def _component(extension: str, offset: str, size: str, name: str) -> Component:
    if not (offset.isdecimal() and size.isdecimal()):
        raise ValueError(f"offset {offset}, size {size}")
    if not name.endswith(f".{extension}"):
        raise ValueError(f"member {name!r} does not end in .{extension}")
    return Component(extension, int(offset), int(size), name)
