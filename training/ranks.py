"""The processes that torchrun started: their messages to each other, and their shares of the work.

    torchrun --nproc-per-node 4 train.py shards --members 8 --parallel members
    torchrun --nproc-per-node 4 train.py shards --parallel data
    torchrun --nproc-per-node 4 predict.py runs/quick shards

With "members" each rank trains its own members and needs nothing from the others; with "data" all ranks train every
member together. A prediction is cut into parts, and the ranks only agree on who makes which.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from galaxy_zoo.cores import num_cores
from galaxy_zoo.errors import RunError
from training.request import Parallel

T = TypeVar("T")

LONGEST_WAIT = timedelta(days=7)
"""Ranks wait for the slowest one; if one fails, torchrun ends the others."""


@dataclass(frozen=True)
class Ranks:
    """Processes that work together; this one is number `rank`.

    The collectives are torch's. With one rank they return at once, and torchrun is not needed.
    """

    rank: int = 0
    world_size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that writes files, shows progress and prints."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait until all ranks have called this."""
        if self.world_size > 1:
            distributed.barrier()

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors with those of the first rank."""
        if self.world_size > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, src=0)

    def broadcast_object(self, value: T) -> T:
        """Return the value of the first rank."""
        if self.world_size == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]

    def all_reduce(self, values: Tensor) -> Tensor:
        """Overwrite a tensor with the sum over all ranks, and return it."""
        if self.world_size > 1:
            distributed.all_reduce(values)
        return values

    def sum_numbers(self, *numbers: int) -> list[int]:
        """Return the sum over all ranks of each number, without waiting for a GPU."""
        return list(numbers) if self.world_size == 1 else self.all_reduce(torch.tensor(numbers)).tolist()

    def all_gather_object(self, mine: T) -> list[T]:
        """Return the value of each rank, in the order of the ranks."""
        if self.world_size == 1:
            return [mine]
        everything: list[Any] = [None] * self.world_size
        distributed.all_gather_object(everything, mine)
        return everything

    def check_same(self, value: T, what: str) -> None:
        """Check that this rank has the same value as the first.

        Raises:
            RunError: the values differ; `what` names the value.
        """
        if self.broadcast_object(value) != value:
            raise RunError(f"{what} differs between rank {self.rank} and the first rank; start again")


ALONE = Ranks()


def members_of(num_members: int, ranks: Ranks, parallel: Parallel) -> list[int]:
    """Return the numbers of the members that this rank trains."""
    if parallel == "data":
        return list(range(num_members))
    return list(range(ranks.rank, num_members, ranks.world_size))


def own_device(device: torch.device) -> torch.device:
    """Return the device of this process; on a machine with several GPUs, make its own GPU the current one."""
    if device.type == "cuda" and distributed.is_initialized():
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
        torch.cuda.set_device(device)
    return device


def own_threads(asked: int | None) -> int | None:
    """Return the number of threads: as asked, or this process's share of the cores; None if it has all."""
    num_processes = int(os.environ["LOCAL_WORLD_SIZE"]) if distributed.is_initialized() else 1
    if asked or num_processes == 1:
        return asked
    return max(1, num_cores() // num_processes)


@contextmanager
def joined_ranks(device: torch.device, parallel: Parallel = "members") -> Iterator[Ranks]:
    """Join the other ranks within the block; yield a single rank if torchrun did not start this process.

    Ranks talk over gloo, except that GPUs exchange gradients over NCCL.

    Raises:
        RunError: a rank is lost or never came, or the variables of torchrun are set only in part.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    over_nccl = device.type == "cuda" and parallel == "data"
    if missing := sorted(
        {"RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} - os.environ.keys()
    ):
        raise RunError(f"WORLD_SIZE is set and {missing[0]} is not; start with torchrun, or unset WORLD_SIZE")
    try:
        distributed.init_process_group("cpu:gloo,cuda:nccl" if over_nccl else "gloo", timeout=LONGEST_WAIT)
        yield Ranks(distributed.get_rank(), distributed.get_world_size())
    except RuntimeError as error:
        if not isinstance(error, distributed.DistError) and "gloo" not in str(error):
            raise
        raise RunError(
            f"rank {os.environ['RANK']} lost contact with another rank ({str(error).partition(chr(10))[0]}); with "
            "--max-restarts torchrun starts all of them again; train.py then needs --resume, predict.py resumes itself"
        ) from error
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()
