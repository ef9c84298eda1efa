"""The order of samples: pure functions of the seed, the epoch and the rank.

An epoch is an order of all samples. At step s all ranks together take its s-th batch, and each rank takes its part of
that batch. So an epoch has each sample exactly once over all ranks, all ranks make the same number of steps, and an
epoch can be resumed at any step. There are two such orders:

- `SharedOrder`: one permutation of all samples; the ranks share each batch evenly. Every rank has all samples.
- `GroupedOrder`: every rank has the samples of some groups. Each group is permuted by itself, and all groups are merged
  evenly, so every batch has its share of each group.

A balanced epoch is just as long, but has a sample as often as its share says (`balanced_order`).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
Take = Callable[[range], tuple[Indices, Indices]]
"""Maps a batch, as positions in an epoch, to the rank's part of it: positions, ascending, and numbers of samples."""


class Order(Protocol):
    """The samples that a rank takes in the epochs that all ranks go through together."""

    def __len__(self) -> int:
        """Return the number of samples of an epoch over all ranks."""

    def most(self, batch_size: int) -> int:
        """Return the largest number of samples that the rank takes of a batch of `batch_size`, anywhere in an epoch."""

    def epoch(self, epoch: int) -> Take:
        """Return the function that gives the rank's part of a batch of the epoch."""


@dataclass(frozen=True, kw_only=True)
class SharedOrder:
    """One order of all samples, the same on every rank; ranks take neighbouring parts of each batch.

    seed: seed of the permutations; None keeps the samples in their order.
    shares: mean number of times each sample comes in an epoch (`class_shares`); None: each exactly once.
    """

    num_samples: int
    seed: int | None
    shares: NDArray[np.float64] | None = None
    rank: int = 0
    world_size: int = 1

    def __len__(self) -> int:
        return self.num_samples

    def most(self, batch_size: int) -> int:
        """Return the largest number of samples that the rank takes of a batch."""
        return -(-batch_size // self.world_size)

    def epoch(self, epoch: int) -> Take:
        """Return the function that gives the rank's part of a batch of the epoch."""
        order = self._order(epoch)

        def take(batch: range) -> tuple[Indices, Indices]:
            mine = rank_share(batch, rank=self.rank, world_size=self.world_size)
            return np.arange(mine.start, mine.stop), order[mine.start : mine.stop]

        return take

    def _order(self, epoch: int) -> Indices:
        if self.seed is None:
            return np.arange(self.num_samples)
        if self.shares is not None:
            return balanced_order(self.shares, seed=self.seed, epoch=epoch)
        return epoch_order(self.num_samples, seed=self.seed, epoch=epoch)


@dataclass(frozen=True)
class Groups:
    """Groups of samples, some of them this rank's. sizes: samples of each group; mine: numbers of the rank's groups."""

    sizes: tuple[int, ...]
    mine: range


class GroupedOrder:
    """An order that permutes each group by itself and merges all groups evenly; a rank takes the samples of its groups.

    A rank numbers its samples across its groups, in their order. Time and memory grow with the samples of the rank, not
    with those of all ranks.

    Args:
        seed: seed of the permutations; None keeps the samples in their order.
    """

    def __init__(self, groups: Groups, *, seed: int | None) -> None:
        self._groups, self._seed = groups, seed
        positions = np.concatenate([group_positions(groups.sizes, group) for group in groups.mine])
        self._merged = np.argsort(positions, kind="stable")  # fast on sorted runs
        self._positions = positions[self._merged]

    def __len__(self) -> int:
        return sum(self._groups.sizes)

    def most(self, batch_size: int) -> int:
        """Return the largest number of samples that the rank takes of a batch.

        Its positions are the same in all epochs, so one epoch tells.
        """
        stops = np.searchsorted(self._positions, self._positions + batch_size)
        return int((stops - np.arange(len(stops))).max())

    def epoch(self, epoch: int) -> Take:
        """Return the function that gives the rank's part of a batch of the epoch."""
        samples = self._samples(epoch)

        def take(batch: range) -> tuple[Indices, Indices]:
            start, stop = np.searchsorted(self._positions, (batch.start, batch.stop))
            return self._positions[start:stop], samples[start:stop]

        return take

    def _samples(self, epoch: int) -> Indices:
        if self._seed is None:
            return self._merged
        sizes = [self._groups.sizes[group] for group in self._groups.mine]
        starts = np.cumsum([0, *sizes])
        orders = [
            start + np.random.default_rng([self._seed, epoch, group]).permutation(size)
            for start, size, group in zip(starts, sizes, self._groups.mine, strict=False)
        ]
        return np.concatenate(orders)[self._merged]


def group_positions(sizes: Sequence[int], group: int) -> Indices:
    """Return the positions of the samples of a group in an epoch, ascending, when all groups are merged evenly.

    The k-th of the n samples of a group comes at the fraction (k + 1/2) / n of the epoch; of equals, the lower group
    comes first. So the samples before it can be counted in integers, without the orders of other ranks. A group with n
    of all N samples, one of G groups, has n / N of any batch, to within 1 + G * n / N samples.
    """
    size = sizes[group]
    # sample j of another group, of m samples, comes before sample k if (2 j + 1) / (2 m) < (2 k + 1) / (2 n)
    odd = 2 * np.arange(size) + 1
    positions = np.zeros(size, np.int64)
    for other in set(sizes):
        earlier, later = sizes[:group].count(other), sizes[group:].count(other)
        whole, rest = np.divmod(odd * other, size)
        positions += earlier * ((whole + 1) // 2) + later * ((whole + (rest > 0)) // 2)
    return positions


def epoch_order(num_samples: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return a permutation of `num_samples` samples, a different one for each seed and epoch."""
    return np.random.default_rng([seed, epoch]).permutation(num_samples)


def class_shares(classes: NDArray[np.int64], strength: float) -> NDArray[np.float64]:
    """Return the mean number of times each sample comes in a balanced epoch; its mean over all samples is 1.

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
    """Return `len(shares)` samples in random order; one with share e comes floor(e) or ceil(e) times, e on average.

    This is systematic sampling: put the samples, in random order, end to end on a line, each as long as its share;
    each of the points u, u + 1, u + 2, ... takes the sample it falls on.
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
    """Return the number of steps of an epoch; the last may be short. batch_size: over all ranks."""
    return math.ceil(num_samples / batch_size)


def rank_share(batch: range, *, rank: int, world_size: int) -> range:
    """Return the positions that `rank` takes of a batch.

    The parts of two ranks differ by at most one; some ranks may get nothing of a short batch.
    """
    share, extra = divmod(len(batch), world_size)
    first = batch.start + rank * share + min(rank, extra)
    return range(first, first + share + (rank < extra))
