"""Pretrained weights in a file, which may come from a stranger: read without running anything in it."""

import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from ensemble.networks.limits import MOST_PARAMETERS
from galaxy_zoo.errors import RunError

SAFETENSORS, PICKLED = ".safetensors", (".pth", ".pt", ".bin")
MOST_BYTES = 4 * MOST_PARAMETERS
WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")
"""Keys under which training scripts keep weights beside other state, best first. Source: timm's load_state_dict."""


@dataclass(frozen=True, eq=False)
class Weights:
    """The tensors of a network by name, and the file they were read from."""

    path: Path
    tensors: dict[str, Tensor]


def read_weights(path: Path) -> Weights:
    """Read a safetensors file, or one of `torch.save` with weights_only.

    Raises:
        RunError: the file is missing, neither of the two, damaged, too large, or holds more than tensors.
    """
    if path.suffix not in (SAFETENSORS, *PICKLED):
        raise RunError(f"{path}: weights come as {', '.join((SAFETENSORS, *PICKLED))}; give such a file")
    if not path.is_file():
        raise RunError(f"{path}: there is no such file; give the file of the weights")
    if (num_bytes := _num_bytes(path)) > MOST_BYTES:
        raise RunError(
            f"{path}: {num_bytes:,} bytes are too many for a network; give the file of its weights alone"
        )
    try:
        found: Any = load_file(path) if path.suffix == SAFETENSORS else torch.load(path, "cpu", weights_only=True)
    except OSError:
        raise
    except pickle.UnpicklingError as error:
        raise RunError(
            f"{path}: holds more than tensors, or is damaged; it is not read any further, since it could run code. "
            "Save the state_dict() of the network alone, best as safetensors"
        ) from error
    except Exception as error:  # damaged bytes lead to errors of many kinds
        reason = str(error).partition("\n")[0]
        raise RunError(f"{path}: damaged ({type(error).__name__}: {reason}); bring it here again") from error
    return Weights(path, _tensors(found, path))


def _num_bytes(path: Path) -> int:
    """Return the size of a file once it is read; torch.save writes zips, which may inflate.

    Raises:
        RunError: a zip has no table of contents.
    """
    with path.open("rb") as file:
        if path.suffix == SAFETENSORS or file.read(2) != b"PK":
            return path.stat().st_size
        try:
            return sum(each.file_size for each in zipfile.ZipFile(file).infolist())
        except zipfile.BadZipFile as error:
            raise RunError(f"{path}: damaged ({error}); bring it here again") from error


def _tensors(found: Any, path: Path) -> dict[str, Tensor]:
    """Return the weights among what a file holds, with the names they have in the network.

    Raises:
        RunError: there is something else in their place.
    """
    from timm.models import clean_state_dict  # noqa: PLC0415 (takes seconds)

    if isinstance(found, dict):
        found = next((found[key] for key in WRAPPERS if isinstance(found.get(key), dict)), found)
    if not isinstance(found, dict) or not found or not all(map(_is_weight, found.items())):
        raise RunError(
            f"{path}: not the weights of a network, which are tensors by name; save its state_dict() alone"
        )
    if not all(each.isfinite().all() for each in found.values()):
        raise RunError(f"{path}: holds values that are not finite; bring other weights")
    tensors: dict[str, Tensor] = clean_state_dict(found)
    return {name: each.detach() for name, each in tensors.items()}


def _is_weight(item: tuple[Any, Any]) -> bool:
    name, value = item
    is_tensor = isinstance(value, Tensor) and value.layout == torch.strided and not value.is_quantized
    return isinstance(name, str) and is_tensor and not (value.is_meta or value.is_complex())
