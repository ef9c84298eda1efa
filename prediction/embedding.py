"""Embeddings: what the last layer of a network gets, so what the network has made of a galaxy before it votes."""

from typing import Any

import torch
from torch import Tensor, nn

from galaxy_zoo.errors import RunError


class Embedder:
    """Keeps the input of the last linear layer of `network` whenever the network runs.

    Where a recipe has one last layer a question, all of them get the same input.

    Args:
        remedy: what to do about a network without an embedding, for the error.

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
        """Return the embedding, mean over the views seen since the last call: float32, shape (batch, features)."""
        embeddings = [each.detach().float().flatten(1) for each in self._kept]
        self._kept = []
        return torch.stack(embeddings).mean(dim=0)

    def remove(self) -> None:
        """Leave the network as it was."""
        self._hook.remove()

    def _keep(self, layer: nn.Module, inputs: tuple[Any, ...]) -> None:  # noqa: ARG002
        self._kept.append(inputs[0])
