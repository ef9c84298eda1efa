"""Embeddings: the input of a network's last layer, which describes a galaxy before the network votes."""

from typing import Any

import torch
from torch import Tensor, nn

from galaxy_zoo.errors import RunError


class Embedder:
    """Keeps the input of the last linear layer of `network` whenever the network runs.

    If a recipe has a last layer for each question, all of them get the same input.

    Args:
        remedy: what the error tells the user to do about a network without an embedding.

    Raises:
        RunError: the network has no linear layer.
    """

    def __init__(self, network: nn.Module, *, remedy: str) -> None:
        linear = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
        if not linear:
            raise RunError(f"a network has no linear layer, so no embedding; {remedy}")
        self._kept: list[Tensor] = []
        self._hook = linear[-1].register_forward_pre_hook(self._keep)

    def take(self) -> Tensor:
        """Return the mean embedding over the views since the last call, float32, shape (batch, features)."""
        embeddings = [each.detach().float().flatten(1) for each in self._kept]
        self._kept = []
        return torch.stack(embeddings).mean(dim=0)

    def forget(self) -> None:
        """Drop what was kept for a batch that was not finished."""
        self._kept = []

    def remove(self) -> None:
        """Restore the network as it was."""
        self._hook.remove()

    def _keep(self, layer: nn.Module, inputs: tuple[Any, ...]) -> None:  # noqa: ARG002
        self._kept.append(inputs[0])
