"""The processes that torchrun started, and what they tell each other; one alone without it.

    torchrun --nproc-per-node 4 train.py shards --members 8 --parallel members
    torchrun --nproc-per-node 4 train.py shards --parallel data
    torchrun --nproc-per-node 4 predict.py runs/quick shards

"members" gives each rank members of its own and nothing else to tell; "data" trains every member on all ranks. A
prediction is cut into parts, and ranks only agree on who makes which.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from galaxy_zoo.errors import RunError

T = TypeVar("T")
Parallel = Literal["members", "data"]

LONGEST_WAIT = timedelta(days=7)
"""Ranks wait for the slowest one; one that fails ends the others through torchrun."""


@dataclass(frozen=True)
class Ranks:
    """This process among `world_size`; local_rank and local_world_size are among those of its machine."""

    rank: int = 0
    world_size: int = 1
    parallel: Parallel = "members"
    local_rank: int = 0
    local_world_size: int = 1

    @property
    def shares_data(self) -> bool:
        """Whether a step of a member is made by all ranks together."""
        return self.parallel == "data" and self.world_size > 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that makes the folder of a run, shows progress and talks."""
        return self.rank == 0

    @property
    def writes(self) -> bool:
        """Whether this process writes the logs and checkpoints of its members."""
        return self.is_first or not self.shares_data

    def members(self, count: int) -> list[int]:
        """The numbers of the members that this process trains."""
        if self.shares_data:
            return list(range(count))
        return list(range(self.rank, count, self.world_size))

    def device(self, device: torch.device) -> torch.device:
        """The device of this process: on a machine of several GPUs, one of its own."""
        if device.type == "cuda" and self.world_size > 1:
            device = torch.device("cuda", self.local_rank % torch.cuda.device_count())
            torch.cuda.set_device(device)
        return device

    def threads(self, asked: int | None) -> int | None:
        """Threads of this process: those asked for, or a machine's cores shared out; None where it is alone there."""
        if asked or self.local_world_size == 1:
            return asked
        return max(1, len(os.sched_getaffinity(0)) // self.local_world_size)

    def wait(self) -> None:
        """Wait until all ranks are here."""
        if self.world_size > 1:
            distributed.barrier()

    def agree(self, value: T) -> T:
        """The first rank's value; waits for it."""
        if self.world_size == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]

    def check_same(self, value: T, what: str) -> None:
        """Check that all ranks have the same value; waits for the first.

        Raises:
            RunError: the first one has another; `what` is the value's name.
        """
        if self.agree(value) != value:
            raise RunError(f"{what} is another one on rank {self.rank} than on the first; start again")

    def share(self, values: Sequence[T]) -> Sequence[T]:
        """The neighbouring values that are this rank's; the numbers of two ranks differ by one at most."""
        ends = [len(values) * rank // self.world_size for rank in range(self.world_size + 1)]
        return values[ends[self.rank] : ends[self.rank + 1]]

    def total(self, *numbers: int) -> list[int]:
        """The sums of numbers over the ranks that train together; without waiting for a GPU."""
        if not self.shares_data:
            return list(numbers)
        sums = torch.tensor(numbers)
        distributed.all_reduce(sums)
        return sums.tolist()

    def weight(self, samples: int, total: int) -> float:
        """Of the mean over a rank's samples, so that the mean over ranks is the mean over the `total` of all."""
        return samples * self.world_size / total if self.shares_data else 1.0

    def sum(self, values: Tensor) -> Tensor:
        """Tensors of float64 summed over the ranks that train together."""
        if self.shares_data:
            distributed.all_reduce(values)
        return values

    def gather(self, mine: T) -> list[T]:
        """What each of the ranks that train together has, in the order of the ranks."""
        if not self.shares_data:
            return [mine]
        everything: list[T | None] = [None] * self.world_size
        distributed.all_gather_object(everything, mine)
        return [each for each in everything if each is not None]

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors with those of the first of the ranks that train together."""
        if self.shares_data:
            for tensor in tensors:
                distributed.broadcast(tensor, src=0)

    def shared(self, network: nn.Module) -> nn.Module:
        """The same network, its gradients averaged over the ranks that train together."""
        return DistributedDataParallel(network) if self.shares_data else network


ALONE = Ranks()


@contextmanager
def started_by_torchrun(device: torch.device, parallel: Parallel = "members") -> Iterator[Ranks]:
    """Join the other processes for the length of the block; alone where torchrun did not start this one.

    Ranks talk over gloo, but for the gradients of GPUs.

    Raises:
        RunError: another rank has gone, or is not met.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Ranks(parallel=parallel)
        return
    over_nccl = device.type == "cuda" and parallel == "data"
    try:
        distributed.init_process_group("cpu:gloo,cuda:nccl" if over_nccl else "gloo", timeout=LONGEST_WAIT)
        local_rank, local_world_size = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
        yield Ranks(distributed.get_rank(), distributed.get_world_size(), parallel, local_rank, local_world_size)
    except RuntimeError as error:
        if not isinstance(error, distributed.DistError) and "gloo" not in str(error):
            raise
        raise RunError(
            f"rank {os.environ['RANK']} waits in vain for another one ({str(error).partition(chr(10))[0]}); with "
            "--max-restarts torchrun starts all again, and train.py --resume goes on from the last checkpoint"
        ) from error
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()
