"""Which sample comes when: pure functions of the seed, the epoch and the rank.

The order of an epoch is one permutation of all samples. Step s of all ranks together takes the s-th run of
`world_size * batch_size` samples of it, and every rank its own share of that run. So an epoch holds each sample
exactly once over all ranks, all ranks make the same number of steps, and an epoch can be entered at any step.
"""

import math

import numpy as np
from numpy.typing import NDArray


def epoch_order(num_samples: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """A permutation of `num_samples` samples, another one for each seed and epoch."""
    return np.random.default_rng([seed, epoch]).permutation(num_samples)


def num_steps(num_samples: int, global_batch_size: int) -> int:
    """Steps of an epoch, the last of which may be short."""
    return math.ceil(num_samples / global_batch_size)


def rank_share(num_samples: int, step: int, batch_size: int, *, rank: int, world_size: int) -> range:
    """The positions in the epoch's order that `rank` takes in `step`.

    All full steps give `batch_size` positions to each rank. The last, short one is shared out evenly: ranks
    differ by one at most, and may get none.
    """
    start = step * batch_size * world_size
    left = min(batch_size * world_size, num_samples - start)
    share, extra = divmod(left, world_size)
    first = start + rank * share + min(rank, extra)
    return range(first, first + share + (rank < extra))
