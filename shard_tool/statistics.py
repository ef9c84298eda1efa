"""The sums of a manifest's `Statistics`: of a finished pack, of one shard, of two sets together."""

import math
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from galaxy_zoo.errors import ShardError
from galaxy_zoo.index import index_path
from galaxy_zoo.manifest import Manifest, Shard, Statistics
from galaxy_zoo.remote import AnyPath

Sums = tuple[int, int, int]
Triple = tuple[float, float, float]
NO_SUMS: Sums = (0, 0, 0)


class MeasuredShard(Protocol):
    """A finished shard with the sums of its pixels."""

    @property
    def shard(self) -> Shard:
        """Its line of the manifest."""

    @property
    def channel_sums(self) -> Sums:
        """Sums of the pixels."""

    @property
    def channel_squares(self) -> Sums:
        """Sums of their squares."""


def sum_up(
    folder: AnyPath, shards: Sequence[MeasuredShard], votes: Iterable[NDArray[np.float32]], num_answers: int
) -> Statistics:
    """The statistics of finished shards in `folder`.

    Args:
        shards: written by `ShardWriter`, so that the sizes of the images can be read quickly from their indexes.
        votes: of the labelled samples, arrays of shape (samples, answers).
    """
    sizes = [size for each in shards for size in _first_sizes(index_path(folder / each.shard.name))]
    labelled, counts, totals = add_up_votes(votes, num_answers)
    return Statistics(
        image_bytes=(min(sizes, default=0), sum(sizes), max(sizes, default=0)),
        labelled=labelled,
        vote_counts=counts,
        vote_sums=totals,
        channel_sums=column_sums(each.channel_sums for each in shards),
        channel_squares=column_sums(each.channel_squares for each in shards),
    )


def add(one: Statistics, other: Statistics) -> Statistics:
    """The statistics of two sets together."""
    return Statistics(
        image_bytes=(
            min(one.image_bytes[0], other.image_bytes[0]),
            one.image_bytes[1] + other.image_bytes[1],
            max(one.image_bytes[2], other.image_bytes[2]),
        ),
        labelled=one.labelled + other.labelled,
        vote_counts=tuple(a + b for a, b in zip(one.vote_counts, other.vote_counts, strict=True)),
        vote_sums=tuple(a + b for a, b in zip(one.vote_sums, other.vote_sums, strict=True)),
        channel_sums=column_sums((one.channel_sums, other.channel_sums)),
        channel_squares=column_sums((one.channel_squares, other.channel_squares)),
    )


def channel_moments(sums: Sums, squares: Sums, num_pixels: int) -> tuple[Triple, Triple]:
    """Mean and standard deviation of each channel in [0, 1], from the sums over `num_pixels` of 0-255."""
    # in integers up to the root: no cancellation, the same on every machine
    means = [total / num_pixels / 255 for total in sums]
    stds = [
        math.sqrt((square * num_pixels - total * total) / num_pixels**2) / 255
        for total, square in zip(sums, squares, strict=True)
    ]
    return (means[0], means[1], means[2]), (stds[0], stds[1], stds[2])


def vote_means(statistics: Statistics) -> tuple[float | None, ...] | None:
    """The mean vote of each answer, None where it has none; None where nothing is labelled."""
    if not statistics.labelled:
        return None
    pairs = zip(statistics.vote_sums, statistics.vote_counts, strict=True)
    return tuple(total / count if count else None for total, count in pairs)


def of_manifest(manifest: Manifest, folder: AnyPath) -> Statistics:
    """The statistics of a manifest.

    Raises:
        ShardError: an older version of this project wrote it, without them.
    """
    if manifest.statistics is None:
        raise ShardError(f"{folder}: its manifest is of an older version, without the sums; pack again")
    return manifest.statistics


def _first_sizes(index: AnyPath) -> list[int]:
    """The size of the first component of each sample: ten times as fast as `read_index`, for an index of ours."""
    return [int(line.split(" ", 3)[2]) for line in index.read_text().splitlines()[1:]]


def add_up_votes(
    votes: Iterable[NDArray[np.float32]], num_answers: int
) -> tuple[int, tuple[int, ...], tuple[float, ...]]:
    """How many rows there are, and of each answer the count and the sum of the votes present.

    Args:
        votes: arrays of shape (samples, answers).
    """
    labelled, counts, totals = 0, np.zeros(num_answers, np.int64), np.zeros(num_answers)
    for each in votes:
        present = ~np.isnan(each)
        labelled += len(each)
        counts += present.sum(axis=0)
        totals += np.where(present, each, 0).sum(axis=0, dtype=np.float64)
    return labelled, tuple(counts.tolist()), tuple(totals.tolist())


def column_sums(rows: Iterable[Sums]) -> Sums:
    """The sum of each channel over shards."""
    red, green, blue = (sum(column) for column in zip(NO_SUMS, *rows, strict=True))
    return red, green, blue
