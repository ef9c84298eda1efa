"""Bytes that are read by offset, as a file for libraries that want one."""

import io
import os
from collections.abc import Callable

ReadAt = Callable[[int, int], bytes]
"""`read_at(offset, size)` returns that slice of some bytes, a shorter one at their end."""


class ByteRange(io.RawIOBase):
    """`size` bytes behind a `ReadAt` as a file, for `zipfile`, `tarfile` and `hashlib`."""

    def __init__(self, read_at: ReadAt, size: int) -> None:
        self._read_at = read_at
        self._size = size
        self._offset = 0

    def readable(self) -> bool:
        """Return True: it is open for reading."""
        return True

    def seekable(self) -> bool:
        """Return True: it is read in any order."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to an offset and return it."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._offset, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError(f"seek to {base + offset}")
        self._offset = base + offset
        return self._offset

    def tell(self) -> int:
        """Return the offset."""
        return self._offset

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill a buffer as far as the bytes go; return how many were read."""
        data = self._read_at(self._offset, min(len(buffer), max(0, self._size - self._offset)))
        buffer[: len(data)] = data
        self._offset += len(data)
        return len(data)
