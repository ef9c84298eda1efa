"""Save training state as one safetensors file: tensors as they are, everything else as JSON in its header.

Nothing in such a file can run code, it is written whole or not at all, and a checksum detects damage. The same state
always gives the same bytes.

A member's newest checkpoints are `last-<epoch>-<step>.safetensors`, named after the next step. The one before the
newest is kept too: members are saved one after the other, so after a kill in between, all of them can go back to the
newest step they have in common.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from galaxy_zoo.errors import RunError
from galaxy_zoo.files import TEMPORARY_SUFFIX, atomic_write, is_special, is_utf8

_WHOLE = "whole"
"""The only entry of the header, since safetensors writes several entries in no fixed order."""
_STATE, _SHA256 = "state", "sha256"
_TENSOR = "tensor:"
KEPT = 2


@dataclass(frozen=True)
class Snapshot:
    """A state as it was at one moment: tensors in host memory by name, everything else as JSON.

    copied: when a GPU has filled the tensors; None if they are filled.
    """

    tensors: Mapping[str, Tensor]
    rest: str
    copied: torch.cuda.Event | None = None

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Self:
        """Copy nested dicts and lists of tensors and JSON values, without waiting for a GPU.

        Raises:
            TypeError: something is neither a tensor nor JSON.
        """
        tensors: dict[str, Tensor] = {}
        rest = json.dumps(_take_tensors(state, "", tensors))
        copies = {name: _host_copy(tensor) for name, tensor in tensors.items()}
        if not any(tensor.is_cuda for tensor in tensors.values()):
            return cls(copies, rest)
        copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        copied.record()
        return cls(copies, rest, copied)

    @property
    def is_copied(self) -> bool:
        """Whether `write` begins without waiting for a GPU."""
        return self.copied is None or bool(self.copied.query())  # type: ignore[no-untyped-call]

    def write(self, path: Path) -> None:
        """Write the state, once a GPU has copied it.

        Raises:
            OSError: `path` cannot be written.
        """
        if self.copied is not None:
            with torch.cuda.device(self.copied.device):  # or a thread makes a context on the first GPU too
                self.copied.synchronize()
        whole = json.dumps({_STATE: self.rest, _SHA256: _sha256(self.tensors, self.rest)})
        with atomic_write(path) as file:
            file.write(save(dict(self.tensors), metadata={_WHOLE: whole}))


def _host_copy(tensor: Tensor) -> Tensor:
    """Return a contiguous copy in host memory, which a GPU fills while this process goes on."""
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
    return copy.copy_(tensor, non_blocking=True)


def load_state(path: Path) -> dict[str, Any]:
    """Read what `Snapshot.write` wrote.

    Raises:
        RunError: the file is missing or damaged.
    """
    with _opened(path) as file:
        whole = json.loads(file.metadata()[_WHOLE])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it cannot be iterated)
        if _sha256(tensors, whole[_STATE]) != whole[_SHA256]:
            raise ValueError("its checksum differs")
        return _mapping(_put_tensors(json.loads(whole[_STATE]), tensors))


def load_header(path: Path) -> dict[str, Any]:
    """Read what `Snapshot.write` wrote, without the tensors and the checksum, so the time does not grow with the file.

    Raises:
        RunError: the file is missing or its header is damaged.
    """
    with _opened(path) as file:
        whole = json.loads(file.metadata()[_WHOLE])
        return _mapping(_put_tensors(json.loads(whole[_STATE]), None))


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read the weights of a member.

    Raises:
        RunError: the file is missing or damaged, or holds no weights or some that are not finite.
    """
    weights = load_state(path).get("weights")
    if not isinstance(weights, dict) or not all(isinstance(each, Tensor) for each in weights.values()):
        raise RunError(f"{path}: the checkpoint holds no weights; restore it, or train again")
    if bad := next((name for name, each in weights.items() if not each.isfinite().all()), None):
        raise RunError(f"{path}: tensor {bad} holds values that are not finite; restore the file, or train again")
    return {str(name): each for name, each in weights.items()}


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a checkpoint; within the block, raise any error about its content as a RunError of one line."""
    if not is_utf8(path):
        raise RunError(f"{path}: a path that is not UTF-8, which safetensors cannot open; rename it")
    if is_special(path) or path.is_dir():
        raise RunError(f"{path}: not a file; remove it")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except FileNotFoundError as error:
        raise RunError(f"{path}: there is no such checkpoint") from error
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        reason = str(error).partition("\n")[0]
        raise RunError(f"{path}: the checkpoint is damaged ({reason}); restore it, or train again") from error


def _mapping(state: Any) -> dict[str, Any]:
    if not isinstance(state, dict):
        raise ValueError("its header is not a mapping")
    return state


class Position(NamedTuple):
    """Position of the next step: its epoch, and its number in the epoch."""

    epoch: int
    step: int


def checkpoint_path(folder: Path, position: Position) -> Path:
    """Return the path of a member's checkpoint."""
    return folder / f"last-{position.epoch:05d}-{position.step:07d}.safetensors"


def positions(folder: Path) -> list[Position]:
    """Return the positions of a member's checkpoints, oldest first."""
    names = (re.fullmatch(r"last-([0-9]{5})-([0-9]{7})\.safetensors", path.name) for path in folder.iterdir())
    return sorted(Position(int(name[1]), int(name[2])) for name in names if name)


def save_checkpoint(folder: Path, position: Position, state: Snapshot) -> None:
    """Save a member's state, and remove all but the newest `KEPT` checkpoints."""
    state.write(checkpoint_path(folder, position))
    for old in positions(folder)[:-KEPT]:
        checkpoint_path(folder, old).unlink()


def common_positions(folders: Sequence[Path]) -> list[Position]:
    """Return the positions for which all members have a checkpoint, oldest first."""
    return sorted(set.intersection(*(set(positions(folder)) for folder in folders)))


def forget_after(folder: Path, position: Position) -> None:
    """Remove a member's checkpoints beyond `position`, where training resumes, and files left by a kill."""
    for unfinished in folder.glob(f"*{TEMPORARY_SUFFIX}"):
        unfinished.unlink()
    for each in positions(folder):
        if each > position:
            checkpoint_path(folder, each).unlink()


def _sha256(tensors: Mapping[str, Tensor], rest: str) -> str:
    digest = hashlib.sha256(rest.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _take_tensors(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Return a copy of `value` with each tensor moved to `tensors` and replaced by its name."""
    if isinstance(value, Tensor):
        tensors[name] = value.detach()
        return _TENSOR + name
    if isinstance(value, Mapping):
        # pairs, not an object: JSON would turn the optimiser's integer keys into text
        return {"pairs": [[key, _take_tensors(each, f"{name}/{key}", tensors)] for key, each in value.items()]}
    if isinstance(value, list | tuple):
        return [_take_tensors(each, f"{name}/{at}", tensors) for at, each in enumerate(value)]
    return value


def _put_tensors(value: Any, tensors: Mapping[str, Tensor] | None) -> Any:
    """Undo `_take_tensors`; without `tensors` leave the names."""
    if isinstance(value, str) and value.startswith(_TENSOR) and tensors is not None:
        return tensors[value.removeprefix(_TENSOR)]
    if isinstance(value, dict):
        return {key: _put_tensors(each, tensors) for key, each in value["pairs"]}
    if isinstance(value, list):
        return [_put_tensors(each, tensors) for each in value]
    return value
