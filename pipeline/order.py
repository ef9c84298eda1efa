"""Which sample comes when: pure functions of the seed, the epoch and the rank.

An epoch is an order of all samples. Step s of all ranks together takes the s-th batch of it, and every rank its own
part of that batch. So an epoch holds each sample exactly once over all ranks, all ranks make the same number of steps
whatever their number, and an epoch can be entered at any step. There are two such orders:

- `SharedOrder`: one permutation of all samples, batches shared out evenly. Every rank has all samples.
- `GroupedOrder`: the samples are in groups, and every rank has those of some groups. Each group is permuted by itself,
  and all of them are merged evenly, so that every batch holds of each group its share.

A balanced epoch is as long and as exact, but a sample comes in it as often as its share says (`balanced_order`).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
Take = Callable[[range], tuple[Indices, Indices]]
"""From a batch, as positions in an epoch, to what a rank takes of it: the positions, ascending, and which samples."""


class Order(Protocol):
    """Which samples a rank takes, of the epochs that all ranks go through together."""

    def __len__(self) -> int:
        """The samples of an epoch, over all ranks."""

    def most(self, batch_size: int) -> int:
        """The most samples that the rank takes of a batch of `batch_size`, wherever that begins in an epoch."""

    def epoch(self, epoch: int) -> Take:
        """What the rank takes of the batches of an epoch."""


@dataclass(frozen=True)
class SharedOrder:
    """One order of all samples, which every rank has; of a batch the ranks take neighbouring parts.

    seed: of a permutation for each epoch; None: the samples as they are.
    shares: how often each comes in an epoch on average (`class_shares`); None: each exactly once.
    """

    num_samples: int
    seed: int | None
    shares: NDArray[np.float64] | None = None
    rank: int = 0
    world_size: int = 1

    def __len__(self) -> int:
        return self.num_samples

    def most(self, batch_size: int) -> int:
        """See `Order`."""
        return -(-batch_size // self.world_size)

    def epoch(self, epoch: int) -> Take:
        """See `Order`."""
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
    """Groups of samples, of which a rank has some. sizes: in samples, of all; mine: the numbers of the rank's."""

    sizes: tuple[int, ...]
    mine: range


class GroupedOrder:
    """Each group in an order of its own, all of them merged evenly; a rank takes what is of its groups.

    A rank's samples are numbered through its groups. Time and memory go with the samples of the rank, not of all.

    Args:
        seed: of a permutation for each epoch and group; None: the samples as they are.
    """

    def __init__(self, groups: Groups, *, seed: int | None) -> None:
        self._groups, self._seed = groups, seed
        positions = np.concatenate([group_positions(groups.sizes, group) for group in groups.mine])
        self._merged = np.argsort(positions, kind="stable")  # quick where there are sorted runs
        self._positions = positions[self._merged]

    def __len__(self) -> int:
        return sum(self._groups.sizes)

    def most(self, batch_size: int) -> int:
        """See `Order`; found by looking at every batch, since positions are the same in all epochs."""
        stops = np.searchsorted(self._positions, self._positions + batch_size)
        return int((stops - np.arange(len(stops))).max())

    def epoch(self, epoch: int) -> Take:
        """See `Order`."""
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
    """The positions in an epoch of the samples of a group, ascending: those of all groups are merged evenly.

    The k-th of n samples of a group comes at (k + 1/2) / n of the epoch, at equal places the lower group first. So the
    samples before it are counted in integers, and no rank has to know another's. Of any batch, a group of n of all N
    samples and one of G groups has n / N, to within 1 + G * n / N samples.
    """
    size = sizes[group]
    odd = 2 * np.arange(size) + 1  # (2 j + 1) / (2 m) of another group of m comes before (2 k + 1) / (2 n)
    positions = np.zeros(size, np.int64)
    for other in set(sizes):
        earlier, later = sizes[:group].count(other), sizes[group:].count(other)
        whole, rest = np.divmod(odd * other, size)
        positions += earlier * ((whole + 1) // 2) + later * ((whole + (rest > 0)) // 2)
    return positions


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


def rank_share(batch: range, *, rank: int, world_size: int) -> range:
    """The positions that `rank` takes of a batch.

    It is shared out evenly: ranks differ by one at most, and may get none of a short one.
    """
    share, extra = divmod(len(batch), world_size)
    first = batch.start + rank * share + min(rank, extra)
    return range(first, first + share + (rank < extra))
