"""Read a shard of a finished folder, after checking it against the manifest."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from galaxy_zoo.errors import ImageError, ShardError
from galaxy_zoo.files import sha256_of
from galaxy_zoo.image_size import check_bytes
from galaxy_zoo.index import Component, Sample, index_path, key_of, read_index
from galaxy_zoo.manifest import Shard
from galaxy_zoo.remote import AnyPath
from galaxy_zoo.votes import CLASS_EXTENSION, NPY_HEADER_BYTES, one_hot
from shard_tool.shards.writer import VOTES_EXTENSION

IMAGE_EXTENSIONS = ("jpg", "jpeg")
AGAIN = "copy it again from where the shards came, or pack again"


@dataclass(frozen=True)
class StoredSample:
    """A sample as stored in a shard; votes: float32, shape (answers,), None without labels."""

    id: str
    jpeg: bytes
    votes: NDArray[np.float32] | None


def image_of(sample: Sample) -> Component | None:
    """Return the component that is the image, None if there is none or more than one."""
    images = [c for c in sample if c.extension.lower() in IMAGE_EXTENSIONS]
    return images[0] if len(images) == 1 else None


def votes_of(sample: Sample) -> Component | None:
    """Return the component that holds the votes, or the class, if any."""
    return next((c for c in sample if c.extension in (VOTES_EXTENSION, CLASS_EXTENSION)), None)


def proven_index(folder: AnyPath, shard: Shard) -> list[Sample]:
    """Return the samples of a shard from its index, after checking the checksum of the index.

    Raises:
        ShardError: the index or the tar is missing, changed, or of another size.
    """
    tar = folder / shard.name
    index = index_path(tar)
    samples = read_index(index)
    if sha256_of(index) != shard.index_sha256 or len(samples) != shard.samples:
        raise ShardError(f"{index}: changed since the manifest was written; {AGAIN}")
    try:
        num_bytes = tar.stat().st_size
    except FileNotFoundError as error:
        raise ShardError(f"{tar}: the shard is missing; {AGAIN}") from error
    if num_bytes != shard.bytes:
        raise ShardError(f"{tar}: {num_bytes:,} bytes, the manifest says {shard.bytes:,}; {AGAIN}")
    for sample in samples:
        if max(c.offset + c.size for c in sample) > num_bytes:
            raise ShardError(f"{tar}: sample {key_of(sample)} ends after the shard; {AGAIN}")
    return samples


def read_shard(folder: Path, shard: Shard, num_answers: int) -> Iterator[StoredSample]:
    """Yield every sample of a shard, in order, after checking the checksums of tar and index.

    Raises:
        ShardError: the shard is not what the manifest says, or a sample has no image or votes of another tree.
    """
    tar = folder / shard.name
    samples = proven_index(folder, shard)
    if sha256_of(tar) != shard.sha256:
        raise ShardError(f"{tar}: changed since the manifest was written: its sha256 differs; {AGAIN}")
    with tar.open("rb") as file, _naming(tar):
        for sample in samples:
            if (image := image_of(sample)) is None:
                raise ShardError(
                    f"{tar}: sample {key_of(sample)} does not hold one JPEG; see: shard_tool lint --deep"
                )
            found = votes_of(sample)
            votes = None if found is None else decode_votes(read_component(file, found), num_answers, tar, found)
            yield StoredSample(key_of(sample), read_component(file, image), votes)


@contextmanager
def _naming(tar: Path) -> Iterator[None]:
    try:
        yield
    except ImageError as error:
        raise ShardError(f"{tar}: {error}; see: shard_tool lint --deep") from error


def read_component(file: io.BufferedReader, component: Component) -> bytes:
    """Return the bytes of a component of an open tar; raise ImageError if it is larger than any image."""
    check_bytes(component.size)
    file.seek(component.offset)
    return file.read(component.size)


def decode_votes(data: bytes, num_answers: int, tar: AnyPath, component: Component) -> NDArray[np.float32]:
    """Return the votes in the bytes of a `.npy` or `.cls` file, float32, shape (answers,).

    Raises:
        ShardError: there are not `num_answers` votes; the error names the tar and the file in it.
    """
    if component.extension == CLASS_EXTENSION:
        try:
            return one_hot(data, num_answers)
        except ValueError as error:
            raise ShardError(f"{tar}: {component.name}: {error}; see: shard_tool lint --deep") from error
    if len(data) != NPY_HEADER_BYTES + 4 * num_answers:
        raise ShardError(
            f"{tar}: {component.name} does not hold the {num_answers} votes of the tree; see: shard_tool lint --deep"
        )
    return np.frombuffer(data, "<f4", offset=NPY_HEADER_BYTES)
