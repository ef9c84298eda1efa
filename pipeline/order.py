"""Which sample comes when: pure functions of the seed, the epoch and the rank.

The order of an epoch is one permutation of all samples. Step s of all ranks together takes the s-th batch of samples
of it, and every rank its own share of that batch. So an epoch holds each sample exactly once over all ranks, all ranks
make the same number of steps whatever their number, and an epoch can be entered at any step.

A balanced epoch is as long and as exact, but a sample comes in it as often as its share says (`balanced_order`).
"""

import math

import numpy as np
from numpy.typing import NDArray


def epoch_order(num_samples: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """A permutation of `num_samples` samples, another one for each seed and epoch."""
    return np.random.default_rng([seed, epoch]).permutation(num_samples)


def class_shares(classes: NDArray[np.int64], strength: float) -> NDArray[np.float64]:
    """How often each sample comes in a balanced epoch on average; the mean over all samples is 1.

    A sample of a class of n samples gets a share proportional to n ** -strength: at strength 1 all classes come
    equally often, at 0 all samples. Samples without a class (-1) keep a share of 1.
    """
    known = classes >= 0
    counts = np.bincount(classes[known], minlength=1).astype(np.float64)
    shares = np.ones(len(classes))
    shares[known] = counts[classes[known]] ** -strength
    if known.any():
        shares[known] /= shares[known].mean()
    return shares


def balanced_order(shares: NDArray[np.float64], *, seed: int, epoch: int) -> NDArray[np.int64]:
    """`len(shares)` samples in random order; one with share e comes floor(e) or ceil(e) times, on average e times.

    Systematic sampling: the samples, in random order, lie end to end on a line, each as long as its share, and
    every point u, u + 1, u + 2, ... takes the sample it falls on.
    """
    rng = np.random.default_rng([seed, epoch])
    count = len(shares)
    order = rng.permutation(count)
    ends = np.cumsum(shares[order])
    points_before = np.minimum(np.floor(ends * (count / ends[-1]) + rng.random()), count)
    points_before[-1] = count
    times = np.diff(points_before, prepend=0.0).astype(np.int64)
    return rng.permutation(np.repeat(order, times))


def num_steps(num_samples: int, batch_size: int) -> int:
    """Steps of an epoch, the last of which may be short. batch_size: over all ranks."""
    return math.ceil(num_samples / batch_size)


def rank_share(num_samples: int, step: int, batch_size: int, *, rank: int, world_size: int) -> range:
    """The positions in the epoch's order that `rank` takes in `step`.

    A step is shared out evenly: ranks differ by one at most, and may get none of the last, short one.

    Args:
        batch_size: over all ranks.
    """
    start = step * batch_size
    share, extra = divmod(min(batch_size, num_samples - start), world_size)
    first = start + rank * share + min(rank, extra)
    return range(first, first + share + (rank < extra))
