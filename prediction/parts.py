"""The finished parts of a prediction, in a folder beside its output; a killed prediction resumes from them.

OUT.parts/lock           held by the prediction that is running
OUT.parts/key.json       everything the result depends on: checksums of weights and shards, views, batch size
OUT.parts/*.safetensors  finished parts, each whole or not there, with a checksum

A prediction with another key is refused, since these parts do not belong to it.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from galaxy_zoo.errors import OutputError, RunError
from galaxy_zoo.files import TEMPORARY_SUFFIX, exclusive, write_text
from galaxy_zoo.strict import parse_json
from pipeline.options import LARGEST_BATCH
from prediction.request import parts_folder
from training.checkpoint import Snapshot, load_state

LOCK, KEY, PART_SUFFIX = "lock", "key.json", ".safetensors"


class Parts:
    """Parts of the prediction that writes to `out`; the folder also holds packed images and collected votes."""

    def __init__(self, out: Path) -> None:
        self.folder = parts_folder(out)
        self.images, self.votes = self.folder / "images", self.folder / "votes.npy"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Create the folder if it is missing, and keep every other prediction out of it within the block.

        At the end remove everything a prediction makes there, unless there are parts to go on from, and then the
        folder if it is empty.

        Raises:
            OutputError: another prediction writes to the same output, or the folder is a symbolic link.
            OSError: the folder cannot be written.
        """
        for path in (self.folder, self.images):
            if path.is_symlink():
                raise OutputError(f"{path} is a symbolic link, which predict.py does not follow; remove it")
        self.folder.mkdir(exist_ok=True)
        busy = f"{self.folder}: another prediction writes there; wait until it ends, or name another --out"
        with exclusive(self.folder / LOCK, busy=busy):
            try:
                yield
            finally:
                if not self._parts():
                    self._remove_own()

    def begin(self, key: Mapping[str, Any]) -> int:
        """Save the key, and return the number of finished parts.

        Raises:
            OutputError: the parts are of a prediction with another key; the message names the differences.
        """
        path, parts = self.folder / KEY, self._parts()
        text = json.dumps(key, indent=1, sort_keys=True) + "\n"
        if parts and (different := _differences(path, json.loads(text))):
            raise OutputError(
                f"{self.folder}: holds {len(parts)} finished parts of another prediction (of another "
                f"{', '.join(different)}); run the same command as before, name another --out, or remove the folder"
            )
        write_text(path, text)
        return len(parts)

    @property
    def batch_size(self) -> int | None:
        """Batch size of the finished parts, None if there are none."""
        kept = _read_key(self.folder / KEY) if self._parts() else None
        size = (kept or {}).get("batch_size")
        return size if isinstance(size, int) and 0 < size <= LARGEST_BATCH else None

    def write(self, name: str, part: Snapshot) -> None:
        """Write a part, whole or not at all."""
        part.write(self._path(name))

    def read(self, name: str) -> dict[str, Any]:
        """Read a part.

        Raises:
            RunError: the part is missing or damaged.
        """
        return load_state(self._path(name))

    def is_whole(self, name: str) -> bool:
        """Return whether a part is finished and undamaged."""
        try:
            self.read(name)
        except RunError:
            return False
        return True

    def end(self) -> None:
        """Remove the parts once the output is written."""
        for part in self._parts():
            part.unlink()

    def _remove_own(self) -> None:
        shutil.rmtree(self.images, ignore_errors=True)
        for path in (self.votes, self.folder / KEY, self.folder / LOCK, *self.folder.glob(f"*{TEMPORARY_SUFFIX}")):
            path.unlink(missing_ok=True)
        with suppress(OSError):  # the folder holds other files
            self.folder.rmdir()

    def _parts(self) -> list[Path]:
        return list(self.folder.glob(f"*{PART_SUFFIX}"))

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}{PART_SUFFIX}"


def _read_key(path: Path) -> dict[str, Any] | None:
    """Return a key, None if it is missing or damaged."""
    try:
        kept = parse_json(path.read_bytes())
    except (OSError, ValueError):
        return None
    return kept if isinstance(kept, dict) else None


def _differences(path: Path, asked: Mapping[str, Any]) -> list[str]:
    """Return the names of the values that differ."""
    kept = _read_key(path)
    if kept is None:
        return ["unknown kind"]
    return sorted(name for name in {*kept, *asked} if kept.get(name) != asked.get(name))
