"""The samples of a folder of memory-mapped shards, with their votes.

Shards are never unpacked: an index says where a sample is, and its JPEG is a view of the mapped file.
"""

import mmap
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from galaxy_zoo.errors import ShardError
from galaxy_zoo.files import sha256_of
from galaxy_zoo.fold import Fold
from galaxy_zoo.index import Component, Sample, index_path, key_of, read_index
from galaxy_zoo.manifest import Manifest, Shard, read_manifest
from galaxy_zoo.objects import Objects, read_objects
from galaxy_zoo.remote import AnyPath, is_url
from galaxy_zoo.text import shown
from galaxy_zoo.votes import CLASS_EXTENSION, npy_header, one_hot

Bytes = NDArray[np.uint8]
JPEGS, VOTES = ("jpg", "jpeg"), "votes.npy"


WHAT_NEXT = {
    "train": ". Pack images with their votes",
    "test": ". Name a folder of images, or shards packed without votes",
}
"""What to do where a split is missing."""


class Samples:
    """The samples of some shards, in the order they were packed.

    keys: the ids, text, shape (samples,).
    votes: float32, shape (samples, answers); missing votes are NaN, as are all votes of an unlabelled sample.

    Raises:
        ShardError: a shard or its index is missing, truncated, or not what the manifest says.
    """

    def __init__(self, folder: Path, manifest: Manifest, shards: Sequence[Shard]) -> None:
        self._folder, self._set_sha256 = folder, manifest.set_sha256
        self.shards = tuple(shards)
        self.image_px = manifest.image_px
        parts = [_MappedShard(folder, shard, len(manifest.tree.columns)) for shard in shards]
        self._maps = [part.data for part in parts]
        self._shard = np.repeat(np.arange(len(parts)), [len(part.keys) for part in parts])
        self._offset = np.concatenate([part.offsets for part in parts], dtype=np.int64)
        self._size = np.concatenate([part.sizes for part in parts], dtype=np.int64)
        self.keys = np.array([key for part in parts for key in part.keys], dtype=np.str_)
        self.votes = np.concatenate([part.votes for part in parts])

    def __len__(self) -> int:
        return len(self.keys)

    def jpegs(self, samples: NDArray[np.int64]) -> list[Bytes]:
        """Return the JPEG bytes of samples, as views of the mapped shards."""
        where = zip(
            self._shard[samples].tolist(),
            self._offset[samples].tolist(),
            self._size[samples].tolist(),
            strict=True,
        )
        return [self._maps[shard][offset : offset + size] for shard, offset, size in where]

    @cached_property
    def objects(self) -> Objects:
        """Measurements of the galaxies, for views that are framed by them.

        Raises:
            ShardError: there are none, they are of other shards, or their file is damaged.
        """
        return read_objects(self._folder, self._set_sha256, self.keys.tolist())

    def describe(self, sample: int) -> str:
        """Return text that says where a sample is, for an error."""
        shard = self.shards[self._shard[sample]].name
        return f"{shown(shard)}: sample {shown(self.keys[sample])} at offset {self._offset[sample]}"


def shards_of(path: AnyPath, manifest: Manifest, split: str) -> tuple[Shard, ...]:
    """Return the shards of a split; `path` names the set in errors.

    Raises:
        ShardError: there is no such split.
    """
    shards = manifest.splits.get(split, ())
    if not shards:
        known = ", ".join(manifest.splits) or "none"
        raise ShardError(f"{path}: no {split} shards; its splits are: {known}{WHAT_NEXT.get(split, '')}")
    return shards


def open_shards(
    path: str | Path, split: str = "train", *, fold: Fold | str | None = None, held_out: bool = False
) -> Samples:
    """Open the shards of a split that lie on a disk: all, those to train on, or those of the fold held out.

    Nothing is read but the indexes and the votes; images are read when a batch needs them.

    >>> samples = open_shards("shards", fold="0/5")
    >>> to_score_on = open_shards("shards", fold="0/5", held_out=True)
    >>> len(samples) + len(to_score_on) == len(open_shards("shards"))
    True

    Args:
        fold: as `train.py --fold` takes it: "k/K" or "none".
        held_out: return the samples of the fold instead of all others.

    Raises:
        ShardError: there is no such split, it has fewer shards than folds, a shard is not what the manifest says, or
            the path is a URL.
        ValueError: the fold is not one, or is missing.
    """
    if is_url(str(path)):
        raise ShardError("a URL has no shards to open; copy the folder to a disk and give its path there")
    folder, fold = Path(path), Fold.named(fold) if isinstance(fold, str) else fold
    if held_out and fold is None:
        raise ValueError("held_out=True without a fold; say which, as in fold='0/5'")
    manifest = read_manifest(folder)
    shards: Sequence[Shard] = shards_of(folder, manifest, split)
    if fold is not None:
        shards = fold.split(shards)[held_out]
    return Samples(folder, manifest, shards)


class _MappedShard:
    """A shard mapped into memory: keys, offsets and sizes of the JPEGs, and the votes."""

    def __init__(self, folder: Path, shard: Shard, num_answers: int) -> None:
        self.path = folder / shard.name
        self.data = self._map(shard)
        samples = self._read_index(shard)
        self.keys = [key_of(sample) for sample in samples]
        self._check_ends(samples)
        images = [self._image(sample) for sample in samples]
        self.offsets = np.array([image.offset for image in images], dtype=np.int64)
        self.sizes = np.array([image.size for image in images], dtype=np.int64)
        self.votes = np.full((len(samples), num_answers), np.nan, dtype=np.float32)
        labelled = [(n, c.offset) for n, sample in enumerate(samples) for c in sample if c.extension == VOTES]
        if labelled:
            rows, at = np.array(labelled, dtype=np.int64).T
            self.votes[rows] = self._read_votes(at, num_answers)
        for row, component in ((n, c) for n, s in enumerate(samples) for c in s if c.extension == CLASS_EXTENSION):
            self.votes[row] = self._read_class(component, num_answers)

    def _map(self, shard: Shard) -> Bytes:
        try:
            with self.path.open("rb") as file:
                data = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), dtype=np.uint8)
        except FileNotFoundError as error:
            raise ShardError(f"{self.path}: the shard is missing; copy it again, or pack again") from error
        except ValueError as error:  # an empty file cannot be mapped
            raise ShardError(f"{self.path}: the shard is empty; copy it again, or pack again") from error
        if len(data) != shard.bytes:
            raise ShardError(
                f"{self.path}: {len(data)} bytes, the manifest says {shard.bytes}; copy it again, or pack again"
            )
        return data

    def _read_index(self, shard: Shard) -> list[Sample]:
        path = index_path(self.path)
        samples = read_index(path)
        if sha256_of(path) != shard.index_sha256 or len(samples) != shard.samples:
            raise ShardError(f"{path}: not the index the manifest was written with; see: shard_tool lint")
        return samples

    def _check_ends(self, samples: list[Sample]) -> None:
        for sample in samples:
            if max(c.offset + c.size for c in sample) > len(self.data):
                raise ShardError(
                    f"{self.path}: {shown(sample[0].name)} ends after the shard; see: shard_tool lint"
                )

    def _image(self, sample: Sample) -> Component:
        for component in sample:
            if component.extension.lower() in JPEGS:
                return component
        raise ShardError(
            f"{self.path}: the sample of {shown(sample[0].name)} has no .{JPEGS[0]}; see: shard_tool lint"
        )

    def _read_class(self, component: Component, num_answers: int) -> NDArray[np.float32]:
        try:
            return one_hot(self.data[component.offset : component.offset + component.size].tobytes(), num_answers)
        except ValueError as error:
            raise ShardError(
                f"{self.path}: {shown(component.name)}: {error}; find it with: shard_tool lint --deep"
            ) from error

    def _read_votes(self, at: NDArray[np.int64], num_answers: int) -> NDArray[np.float32]:
        """Read the votes of the .npy files at the offsets `at`, all at once: they have one shape, so one header."""
        header = np.frombuffer(npy_header(num_answers), dtype=np.uint8)
        size = len(header) + 4 * num_answers
        if at.max() + size > len(self.data):
            raise ShardError(f"{self.path}: votes end after the shard; see: shard_tool lint")
        files = self.data[at[:, None] + np.arange(size)]
        if (files[:, : len(header)] != header).any():
            raise ShardError(
                f"{self.path}: votes are not float32 arrays of {num_answers} answers, as the tree says; "
                "see: shard_tool lint --deep"
            )
        votes = np.ascontiguousarray(files[:, len(header) :]).view("<f4")
        if not (((votes >= 0) & (votes <= 1)) | np.isnan(votes)).all():
            raise ShardError(f"{self.path}: a vote is outside [0, 1]; find it with: shard_tool lint --deep")
        return votes
