"""The processes that work together under torchrun; alone without it.

Predicting needs no collective operation but to agree and to wait, so it goes over gloo, on GPUs too.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch.distributed as dist

T = TypeVar("T")

LONGEST_WAIT = timedelta(days=7)
"""Ranks wait for the slowest one; one that fails ends the others through torchrun."""


LOCAL = {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}


@dataclass(frozen=True)
class Ranks:
    """This process among all; local_rank and local_world_size are among those of its machine."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes and talks."""
        return self.rank == 0

    def agree(self, value: T) -> T:
        """The first rank's value; waits for it."""
        if self.world_size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def share(self, values: Sequence[T]) -> Sequence[T]:
        """The neighbouring values that are this rank's; the numbers of two ranks differ by one at most."""
        ends = [len(values) * rank // self.world_size for rank in range(self.world_size + 1)]
        return values[ends[self.rank] : ends[self.rank + 1]]

    def wait(self) -> None:
        """Wait until all ranks are here."""
        if self.world_size > 1:
            dist.barrier()


@contextmanager
def join_ranks() -> Iterator[Ranks]:
    """The ranks that torchrun has started, as its environment variables say; one rank without it."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield Ranks()
        return
    dist.init_process_group("gloo", timeout=LONGEST_WAIT)
    try:
        local = (int(os.environ.get(name, default)) for name, default in LOCAL.items())
        yield Ranks(dist.get_rank(), dist.get_world_size(), *local)
    finally:
        dist.destroy_process_group()
