"""What a plan is made of: samples, the shards they are cut into, and what was rejected."""

import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shard_tool.source.files import StoredFile


@dataclass(frozen=True, order=True)
class Rejected:
    """An image, or a row of votes, that did not become a sample; `file` is the name without folder or zip."""

    split: str
    id: str
    file: str
    reason: str


class Sample(NamedTuple):
    """An image and its id; `stored` is the pickle of its `StoredFile`, opened where the image is read."""

    id: str
    stored: bytes

    @property
    def file(self) -> StoredFile:
        """Where the image is."""
        file: StoredFile = pickle.loads(self.stored)
        return file


@dataclass(frozen=True)
class ShardPlan:
    """The samples of one shard in their order; `votes` is float32 of shape (samples, answers), None without."""

    split: str
    name: str
    samples: tuple[Sample, ...]
    votes: NDArray[np.float32] | None


class Rejects:
    """All rejects of a pack, sorted, read from the disk as they are asked for."""

    def __init__(self, count: int, read: Callable[[], Iterator[Rejected]]) -> None:
        self._count = count
        self._read = read

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Rejected]:
        return self._read()

    def first(self, most: int) -> list[Rejected]:
        """At most so many of them."""
        return list(islice(self, most))
