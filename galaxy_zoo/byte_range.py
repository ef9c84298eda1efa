"""Present bytes that are read by offset as a file, for libraries that want one."""

import io
import os
from collections.abc import Callable

ReadAt = Callable[[int, int], bytes]
"""`read_at(offset, size)` returns the bytes `offset : offset + size`, fewer at the end."""


class ByteRange(io.RawIOBase):
    """A read-only file of `size` bytes over a `ReadAt`, for `zipfile`, `tarfile` and `hashlib`."""

    def __init__(self, read_at: ReadAt, size: int) -> None:
        self._read_at = read_at
        self._size = size
        self._offset = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to an offset and return it, in bytes."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._offset, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError(f"seek to {base + offset}")
        self._offset = base + offset
        return self._offset

    def tell(self) -> int:
        """Return the offset, in bytes."""
        return self._offset

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read into a buffer; return the number of bytes read, fewer than it holds at the end."""
        data = self._read_at(self._offset, min(len(buffer), max(0, self._size - self._offset)))
        buffer[: len(data)] = data
        self._offset += len(data)
        return len(data)
