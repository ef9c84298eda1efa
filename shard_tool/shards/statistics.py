"""Add up the `Statistics` of votes, shards and sets, and compute the means and deviations from them."""

import math
from collections.abc import Iterable
from dataclasses import replace
from functools import reduce
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from galaxy_zoo.errors import ShardError
from galaxy_zoo.image_size import Size
from galaxy_zoo.manifest import Manifest, Statistics

Sums = tuple[int, int, int]
Triple = tuple[float, float, float]
NO_SUMS: Sums = (0, 0, 0)


def no_statistics(num_answers: int) -> Statistics:
    """Return the statistics of no samples, the zero of `add`."""
    return Statistics(NO_SUMS, 0, (0,) * num_answers, (0.0,) * num_answers, NO_SUMS, NO_SUMS, 0)


def add_all(statistics: Iterable[Statistics], num_answers: int) -> Statistics:
    """Return the statistics of several sets together."""
    return reduce(add, statistics, no_statistics(num_answers))


def add(one: Statistics, other: Statistics) -> Statistics:
    """Return the statistics of two sets together."""
    return Statistics(
        image_bytes=(
            min(filter(None, (one.image_bytes[0], other.image_bytes[0])), default=0),  # 0 stands for no image
            one.image_bytes[1] + other.image_bytes[1],
            max(one.image_bytes[2], other.image_bytes[2]),
        ),
        labelled=one.labelled + other.labelled,
        vote_counts=tuple(a + b for a, b in zip(one.vote_counts, other.vote_counts, strict=True)),
        vote_sums=tuple(a + b for a, b in zip(one.vote_sums, other.vote_sums, strict=True)),
        channel_sums=add_sums(one.channel_sums, other.channel_sums),
        channel_squares=add_sums(one.channel_squares, other.channel_squares),
        measured=one.measured + other.measured,
    )


def without_pixels(statistics: Statistics) -> Statistics:
    """Return the statistics of a set without those of its pixels."""
    return replace(statistics, channel_sums=NO_SUMS, channel_squares=NO_SUMS, measured=0)


def channel_moments(statistics: Statistics, image_px: Size) -> tuple[Triple, Triple]:
    """Return mean and standard deviation, in [0, 1], of each channel over the pixels of the measured images."""
    num_pixels = image_px[0] * image_px[1] * statistics.measured
    # integers up to the root: no cancellation, and the same on every machine
    means = [total / num_pixels / 255 for total in statistics.channel_sums]
    stds = [
        math.sqrt((square * num_pixels - total * total) / num_pixels**2) / 255
        for total, square in zip(statistics.channel_sums, statistics.channel_squares, strict=True)
    ]
    return (means[0], means[1], means[2]), (stds[0], stds[1], stds[2])


def vote_means(statistics: Statistics) -> tuple[float | None, ...] | None:
    """Return the mean vote of each answer, None for an answer without votes; None if nothing is labelled."""
    if not statistics.labelled:
        return None
    pairs = zip(statistics.vote_sums, statistics.vote_counts, strict=True)
    return tuple(total / count if count else None for total, count in pairs)


def of_manifest(manifest: Manifest, folder: Path) -> Statistics:
    """Return the statistics of a manifest.

    Raises:
        ShardError: an older version wrote it without them, or no pixels can have the sums it states.
    """
    if manifest.statistics is None:
        raise ShardError(f"{folder}: its manifest is of an older version, without the sums; pack again")
    statistics, num_pixels = manifest.statistics, math.prod(manifest.image_px) * manifest.statistics.measured
    for total, square in zip(statistics.channel_sums, statistics.channel_squares, strict=True):
        if total * total > square * num_pixels:
            raise ShardError(
                f"{folder}: the sums over pixels in its manifest are damaged; copy it again, or pack again"
            )
    return statistics


def add_up_votes(
    votes: Iterable[NDArray[np.float32]], num_answers: int
) -> tuple[int, tuple[int, ...], tuple[float, ...]]:
    """Return the number of samples, and for each answer the count and sum of votes, over arrays (samples, answers)."""
    labelled, counts, totals = 0, np.zeros(num_answers, np.int64), np.zeros(num_answers)
    for each in votes:
        present = ~np.isnan(each)
        labelled += len(each)
        counts += present.sum(axis=0)
        totals += np.where(present, each, 0).sum(axis=0, dtype=np.float64)
    return labelled, tuple(counts.tolist()), tuple(totals.tolist())


def add_sums(sums: Sums, values: Iterable[int]) -> Sums:
    """Return the sums of the channels, with a value added to each."""
    red, green, blue = (total + value for total, value in zip(sums, values, strict=True))
    return red, green, blue
