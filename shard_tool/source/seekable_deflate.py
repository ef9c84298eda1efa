"""Read a raw deflate stream at random offsets, for a zip inside a deflated member of another zip.

zlib can only inflate forwards. `SeekableDeflate` keeps a copy of the inflater's state (a snapshot, about 40 kB)
every few hundred kB, so that a read anywhere inflates at most that much, and nothing is unpacked to the disk.
"""

import threading
import zlib
from bisect import bisect_right
from dataclasses import dataclass

from galaxy_zoo.byte_range import ReadAt
from galaxy_zoo.errors import SourceError

PIECE_BYTES = 16 * 1024
SMALLEST_SPACING_BYTES = 128 * 1024
MOST_SNAPSHOTS = 4000
"""Limits the memory of a stream to 160 MB; the 791 MB of Kaggle's training images get a snapshot every 200 kB."""


@dataclass
class _Position:
    """An inflater that has read `stored` bytes of the stream and returned `offset` bytes."""

    offset: int
    stored: int
    inflater: "zlib._Decompress"

    def copy(self) -> "_Position":
        return _Position(self.offset, self.stored, self.inflater.copy())


class SeekableDeflate:
    """The `size` inflated bytes of a raw deflate stream, read in any order, by one thread after another."""

    def __init__(self, read_stored: ReadAt, size: int, *, name: str) -> None:
        """Take the stream that `read_stored` reads; `name` names it in errors."""
        self._read_stored = read_stored
        self._size = size
        self._name = name
        self._lock = threading.Lock()
        self._spacing = max(SMALLEST_SPACING_BYTES, size // MOST_SNAPSHOTS)
        self._at = _Position(0, 0, zlib.decompressobj(-zlib.MAX_WBITS))
        self._snapshots = [self._at.copy()]
        self._offsets = [0]
        self._last = b""
        """The piece that ends at `self._at.offset`, so that reading on in small steps never goes back."""

    def read_at(self, offset: int, size: int) -> bytes:
        """Return a slice of the inflated bytes, which is shorter at the end.

        Raises:
            SourceError: the stream is damaged or shorter than the zip says.
        """
        with self._lock:
            return self._read_at(offset, size)

    def _read_at(self, offset: int, size: int) -> bytes:
        end = min(offset + size, self._size)
        if end <= offset:
            return b""
        self._go_to(offset)
        pieces = [self._last]
        start = self._at.offset - len(self._last)
        while self._at.offset < end:
            pieces.append(self._inflate())
        return b"".join(pieces)[offset - start : end - start]

    def _go_to(self, offset: int) -> None:
        """Move so that `offset` is in the last piece or at its end."""
        nearest = self._snapshots[bisect_right(self._offsets, offset) - 1]
        is_behind = offset < self._at.offset - len(self._last)
        if is_behind or nearest.offset > self._at.offset:
            self._at, self._last = nearest.copy(), b""
        while self._at.offset < offset:
            self._inflate()

    def _inflate(self) -> bytes:
        """Inflate the next piece and keep it as the last one."""
        at = self._at
        stored = self._read_stored(at.stored, PIECE_BYTES)
        try:
            piece = at.inflater.decompress(stored, PIECE_BYTES)
        except zlib.error as error:
            raise SourceError(
                f"{self._name}: damaged at byte {at.stored} of its deflated data ({error}); download it again"
            ) from error
        if not piece and (at.inflater.eof or not stored):
            raise SourceError(f"{self._name}: its deflated data ends too early; download it again")
        at.stored += len(stored) - len(at.inflater.unconsumed_tail) - len(at.inflater.unused_data)
        at.offset += len(piece)
        self._last = piece
        if at.offset >= self._offsets[-1] + self._spacing:
            self._snapshots.append(at.copy())
            self._offsets.append(at.offset)
        return piece
