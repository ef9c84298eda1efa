"""The finished parts of a prediction, in a folder beside its output: killed at any moment, it goes on from them.

OUT.parts/lock           held by the prediction that is running
OUT.parts/key.json       everything that decides the result: checksums of weights and shards, views, batch size
OUT.parts/*.safetensors  finished parts, each whole or not there, with a checksum

A prediction of another key is refused: its result would not be made of these parts.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from galaxy_zoo.errors import OutputError, RunError
from galaxy_zoo.files import exclusive, write_text
from training.checkpoint import load_state, save_state

FOLDER_SUFFIX, PART_SUFFIX = ".parts", ".safetensors"


class Parts:
    """The parts of a prediction that writes to `out`."""

    def __init__(self, out: Path) -> None:
        self.folder = out.with_name(out.name + FOLDER_SUFFIX)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder where it is missing, and keep every other prediction out of it.

        Removes the folder afterwards, unless it holds parts to go on from.

        Raises:
            OutputError: another prediction writes to the same output.
            OSError: the folder cannot be written.
        """
        self.folder.mkdir(exist_ok=True)
        busy = f"{self.folder}: another prediction writes there; wait until it ends, or name another --out"
        with exclusive(self.folder / "lock", busy=busy):
            try:
                yield
            finally:
                if not self._parts():
                    shutil.rmtree(self.folder)

    def begin(self, key: Mapping[str, Any]) -> int:
        """Note what decides the result, and return the number of finished parts.

        Raises:
            OutputError: the parts are those of a prediction of another key; the message names the differences.
        """
        path, parts = self.folder / "key.json", self._parts()
        text = json.dumps(key, indent=1, sort_keys=True) + "\n"
        if parts and (different := _differences(path, json.loads(text))):
            raise OutputError(
                f"{self.folder}: holds {len(parts)} finished parts of another prediction (of another "
                f"{', '.join(different)}); run the same command as before, name another --out, or remove the folder"
            )
        write_text(path, text)
        return len(parts)

    def write(self, name: str, state: Mapping[str, Any]) -> None:
        """Write a part, whole or not at all."""
        save_state(self._path(name), state)

    def read(self, name: str) -> dict[str, Any]:
        """Read a part.

        Raises:
            RunError: it is missing or damaged.
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
        """Remove the parts: the output is written."""
        for part in self._parts():
            part.unlink()

    def _parts(self) -> list[Path]:
        return list(self.folder.glob(f"*{PART_SUFFIX}"))

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}{PART_SUFFIX}"


def _differences(path: Path, asked: Mapping[str, Any]) -> list[str]:
    """Return the names of the values that are not those asked for."""
    try:
        kept = json.loads(path.read_text())
    except (OSError, ValueError):
        return ["unknown kind"]
    return sorted(name for name in {*kept, *asked} if kept.get(name) != asked.get(name))
