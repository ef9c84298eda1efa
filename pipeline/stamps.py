"""Resident stamps: decoded once, then kept in one tensor on the device.

The first epoch reads the shards and keeps its stamps; later epochs, all members and all test-time views use them. A
rank keeps the stamps of the samples it has decoded. The order of an epoch is shuffled over all ranks, so with several
ranks it takes a few epochs until a rank has all stamps, but no rank decodes a sample twice. A rank with its own groups
of samples (`order.GroupedOrder`) keeps only those, and one epoch is enough.
"""

import os
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import ClassVar
from weakref import WeakSet

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from galaxy_zoo.text import gigabytes
from galaxy_zoo.view import Stamp
from pipeline.memory import free_bytes
from pipeline.options import StampMode
from pipeline.saved_stamps import SavedStamps
from pipeline.shards import Samples

Pixels = NDArray[np.uint8]

RESERVE_BYTES = 1 << 29
"""Bytes of host memory left free for other processes when stamps are kept."""


@dataclass(frozen=True)
class StampPolicy:
    """Whether to keep the stamps of samples.

    >>> kept = Decoding(stamps=StampPolicy("auto"))
    >>> with Loader(open_shards("shards"), RandomViews(View(crop_px=256, size_px=64)), decoding=kept) as loader:
    ...     for epoch in range(2):  # the second takes the stamps that the first has decoded
    ...         print(sum(len(batch.ids) for batch in loader) == loader.num_samples)
    True
    True

    mode: "stream" keeps none; "resident" keeps all if they fit; "auto" does so only if they are `reused`
        or were saved in `folder`.
    share: share of the free memory that stamps may take.
    folder: folder to save all stamps in once they are made, and to load them from at the next start.
    reused: whether there will be more than one epoch.
    """

    mode: StampMode = "stream"
    _: KW_ONLY
    share: float = 0.5
    folder: Path | None = None
    reused: bool = True


STREAM = StampPolicy("stream")


class ResidentStamps:
    """The stamps of samples, by number.

    pixels: uint8, shape (samples, height, width, 3), on the device. On a CPU the system allocates memory as stamps
        come.
    """

    _hosts: ClassVar["WeakSet[ResidentStamps]"] = WeakSet()

    def __init__(self, pixels: Tensor, has: NDArray[np.bool_]) -> None:
        self.pixels = pixels
        self._has, self._fills = has, not has.all()
        if pixels.device.type == "cpu":
            self._host: Pixels = pixels.numpy()
            self._hosts.add(self)

    @property
    def is_full(self) -> bool:
        """Whether all stamps are present."""
        return bool(self._has.all())

    @property
    def unfilled_bytes(self) -> int:
        """Memory in bytes that these stamps have still to fill."""
        return int((~self._has).sum()) * self.pixels[:1].numel() if self._fills else 0

    @classmethod
    def promised_bytes(cls) -> int:
        """Return the host memory in bytes that all resident stamps of this process have still to fill."""
        return sum(each.unfilled_bytes for each in cls._hosts)

    def missing(self, samples: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the places in `samples` whose stamps are missing."""
        return np.flatnonzero(~self._has[samples])

    def stamp(self, sample: int) -> Pixels:
        """Return a read-only stamp in host memory, uint8, shape (height, width, 3)."""
        stamp: Pixels = self._host[sample]
        return stamp

    def put(self, sample: int, stamp: Pixels) -> None:
        """Keep a stamp in host memory. Several threads may do so at once."""
        if self._fills:
            self._host[sample] = stamp
            self._has[sample] = True

    def put_all(self, samples: NDArray[np.int64], rows: Tensor, stamps: Tensor) -> None:
        """Keep stamps that are on the device. rows: the numbers `samples` as a tensor on the device."""
        self.pixels.index_copy_(0, rows, stamps)
        self._has[samples] = True

    def check_memory(self) -> None:
        """On a CPU stop keeping more stamps before memory runs out.

        Stamps kept until then stay in use; the others are decoded each time they are needed.
        """
        if not self._fills:
            return
        if self.is_full:
            self._fills = False
        elif self.pixels.device.type == "cpu" and free_bytes(self.pixels.device) < RESERVE_BYTES:
            kept = f"{int(self._has.sum()):,} of {len(self._has):,}"
            click.echo(f"warning: memory runs out; {kept} stamps are kept, the others are streamed", err=True)
            self._fills = False

    def close(self) -> None:
        """Release the memory."""
        self._fills = False
        self._hosts.discard(self)
        self.pixels = torch.empty(0, dtype=torch.uint8)
        self._host = self.pixels.numpy()


class Opener:
    """Opens the resident stamps of a loader as a policy says, and saves them.

    Args:
        world_size: number of ranks that read these samples; on a CPU they share its memory. Only rank 0 reports
            and saves.
        has_own: whether only this rank has these samples; then each rank saves its own.
    """

    def __init__(
        self,
        policy: StampPolicy,
        samples: Samples,
        stamp: Stamp,
        *,
        device: torch.device,
        rank: int,
        world_size: int,
        has_own: bool = False,
    ) -> None:
        self._policy, self._device, self._is_first = policy, device, rank == 0
        self._saves = has_own or self._is_first
        self._shape = (len(samples), *stamp.size_px, 3)
        ranks = int(os.environ.get("LOCAL_WORLD_SIZE", world_size))
        # those that share the memory
        self._ranks = ranks if device.type == "cpu" else -(-ranks // torch.cuda.device_count())
        self._file = None
        if policy.folder is not None and policy.mode != "stream":
            self._file = SavedStamps(
                policy.folder, samples, stamp, on_gpu=device.type == "cuda", speaks=self._is_first
            )
        self._what = f"the stamps of {len(samples):,} galaxies, {gigabytes(self.num_bytes)}"

    @property
    def num_bytes(self) -> int:
        """Size of all stamps in bytes."""
        return int(np.prod(self._shape))

    def open(self) -> ResidentStamps | None:
        """Return resident stamps, with those that were saved; None if stamps are to be streamed."""
        if self._policy.mode == "stream":
            return None
        if self._file is not None and self._file.is_whole():
            return self._from_file(self._file)
        if self._policy.mode == "auto" and not self._policy.reused:
            return None
        pixels = self._allocate()
        if pixels is None:
            return None
        return ResidentStamps(pixels, np.zeros(len(pixels), bool))

    def save(self, resident: ResidentStamps) -> None:
        """Save all stamps if the policy says so; warn if that fails."""
        if self._file is not None and self._saves:
            self._file.save(resident.pixels)

    def _from_file(self, file: SavedStamps) -> ResidentStamps | None:
        pixels = None
        if self._device.type == "cuda" and (pixels := self._allocate()) is None:
            return None
        pixels, intact = file.read(pixels)
        return ResidentStamps(pixels, intact)

    def _allocate(self) -> Tensor | None:
        """Return memory for all stamps, None if they are to be streamed; print which."""
        free = free_bytes(self._device)
        if self._device.type == "cpu":
            free -= ResidentStamps.promised_bytes()
        free //= self._ranks
        where = "on the GPU" if self._device.type == "cuda" else "in memory"
        allowed = f"{self._policy.share:.0%} of {gigabytes(free)} free"
        if self.num_bytes > self._policy.share * free:
            self._fall_back(f"{self._what}, are more than {allowed} {where}")
            return None
        try:
            pixels = torch.empty(self._shape, dtype=torch.uint8, device=self._device)
        except (RuntimeError, MemoryError):  # torch.cuda.OutOfMemoryError is a RuntimeError
            self._fall_back(f"there is no memory for {self._what}")
            return None
        self._say(f"{self._what}, are kept {where} (within {allowed})")
        return pixels

    def _fall_back(self, reason: str) -> None:
        """Print that stamps are streamed; warn if resident ones were asked for."""
        warning = "warning: " if self._policy.mode == "resident" else ""
        self._say(f"{warning}{reason}; they are streamed from the shards")

    def _say(self, message: str) -> None:
        if self._is_first:
            click.echo(message, err=True)
