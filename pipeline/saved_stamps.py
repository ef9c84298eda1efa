"""Save stamps in a file, which the next start maps or copies to the device.

    4096 bytes                  the header: geometry and shards of the stamps, and the software that made them
    samples x stamp             the pixels, uint8, in the order of the samples
    samples x 4 bytes           the CRC-32 of each stamp
    4 bytes                     the CRC-32 of these checksums

A file is named after the geometry of its stamps and the shards they come from. It is used only if its header is what
would be written now. A stamp whose checksum is wrong is decoded again.
"""

import json
import shutil
import zlib
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import click
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from nvidia import dali
from torch import Tensor

from galaxy_zoo.cores import num_cores
from galaxy_zoo.errors import OutputError
from galaxy_zoo.files import atomic_write, exclusive
from galaxy_zoo.progress import progress
from galaxy_zoo.view import Stamp
from pipeline.shards import Samples

HEADER_BYTES = 4096
"""One page, so that the pixels can be mapped."""

STAMPS_AT_ONCE = 128


class SavedStamps:
    """The file in `folder` for the stamps of `samples`, which need not exist.

    on_gpu: whether a GPU made the stamps, which differ in their last bits from those of a CPU.
    speaks: whether to show progress and warnings; one rank is enough.
    """

    def __init__(self, folder: Path, samples: Samples, stamp: Stamp, *, on_gpu: bool, speaks: bool) -> None:
        shards = sha256("".join(shard.sha256 for shard in samples.shards).encode()).hexdigest()
        self._shape = (len(samples), *stamp.size_px, 3)
        self._header = _header(
            {
                "window_px": stamp.window_px,
                "size_px": stamp.size_px,
                "samples": len(samples),
                "shards_sha256": shards,
                "made_by": f"DALI {dali.__version__} {'on a GPU' if on_gpu else f'and OpenCV {cv2.__version__}'}",
            }
        )
        window, size = ("x".join(map(str, px)) for px in (stamp.window_px, stamp.size_px))
        self.path = folder / f"stamps-{window}-to-{size}-{'gpu' if on_gpu else 'cpu'}-{shards[:16]}.bin"
        self._speaks = speaks

    @property
    def _num_bytes(self) -> int:
        return HEADER_BYTES + int(np.prod(self._shape)) + 4 * self._shape[0] + 4

    def is_whole(self) -> bool:
        """Return whether the file exists, holds these stamps and is complete; warn if it does not."""
        try:
            size = self.path.stat().st_size
            with self.path.open("rb") as file:
                header = file.read(HEADER_BYTES)
        except FileNotFoundError:
            return False
        except OSError as error:
            return self._refuse(f"it cannot be read ({error.strerror})")
        if header != self._header:
            return self._refuse("it is of another version or of other shards")
        if size != self._num_bytes:
            return self._refuse(f"it has {size} bytes, not {self._num_bytes}")
        if zlib.crc32(self._checksums().data) != self._last_checksum():
            return self._refuse("its checksums are damaged")
        return True

    def read(self, into: Tensor | None) -> tuple[Tensor, NDArray[np.bool_]]:
        """Return the stamps and which of them are intact; show progress. The file must be complete.

        Args:
            into: tensor to copy them into. None: map the file; writing to the stamps then does not change the file.
        """
        mapped = np.memmap(self.path, np.uint8, "c", HEADER_BYTES, self._shape)
        pixels = torch.from_numpy(np.asarray(mapped)) if into is None else into
        checksums, intact = self._checksums(), np.zeros(len(mapped), bool)

        def check(start: int) -> int:
            stop = min(start + STAMPS_AT_ONCE, len(mapped))
            intact[start:stop] = [zlib.crc32(mapped[i]) == checksums[i] for i in range(start, stop)]
            if into is not None:
                into[start:stop] = torch.from_numpy(mapped[start:stop])
            return stop - start

        with (
            progress(total=len(mapped), unit="galaxies", desc="saved stamps", shown=self._speaks) as bar,
            ThreadPoolExecutor(num_cores()) as threads,
        ):
            for count in threads.map(check, range(0, len(mapped), STAMPS_AT_ONCE)):
                bar.update(count)
        if not intact.all():
            damaged = int((~intact).sum())
            self._warn(f"{self.path}: {damaged:,} stamps are damaged; they are decoded again")
        return pixels, intact

    def save(self, pixels: Tensor) -> None:
        """Write all stamps, or no file at all; show progress. Warn if it fails."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if (free := shutil.disk_usage(self.path.parent).free) < self._num_bytes:
                self._not_saved(f"they take {self._num_bytes:,} bytes, the disk has {free:,} free")
                return
            with exclusive(self.path.with_suffix(".lock"), busy="another process saves them"):
                self._write(pixels)
        except (OSError, OutputError) as error:
            self._not_saved(str(error))

    def _write(self, pixels: Tensor) -> None:
        checksums = np.empty(len(pixels), "<u4")
        with (
            atomic_write(self.path) as file,
            progress(total=len(pixels), unit="galaxies", desc="saving stamps", shown=self._speaks) as bar,
        ):
            file.write(self._header)
            for start in range(0, len(pixels), STAMPS_AT_ONCE):
                some = pixels[start : start + STAMPS_AT_ONCE].cpu().numpy()
                checksums[start : start + len(some)] = [zlib.crc32(stamp) for stamp in some]
                file.write(some.data)
                bar.update(len(some))
            file.write(checksums.tobytes() + np.uint32(zlib.crc32(checksums.data)).tobytes())

    def _checksums(self) -> NDArray[np.uint32]:
        return np.fromfile(self.path, "<u4", self._shape[0], offset=self._num_bytes - 4 - 4 * self._shape[0])

    def _last_checksum(self) -> int:
        return int(np.fromfile(self.path, "<u4", 1, offset=self._num_bytes - 4)[0])

    def _refuse(self, reason: str) -> bool:
        self._warn(f"{self.path}: {reason}; the stamps are decoded again")
        return False

    def _not_saved(self, reason: str) -> None:
        self._warn(f"the stamps are not saved in {self.path}: {reason}")

    def _warn(self, message: str) -> None:
        if self._speaks:
            click.echo(f"warning: {message}", err=True)


def _header(what: dict[str, object]) -> bytes:
    """Return the header of a file. Version 1 held images rotated as EXIF says."""
    return f"galaxy-zoo stamps, version 2\n{json.dumps(what)}\n".ljust(HEADER_BYTES).encode()
