"""Embeddings: what the last layer of a network gets, so what the network has made of a galaxy before it votes."""

from typing import Any

from torch import Tensor, nn

from galaxy_zoo.errors import RunError


class Embedder:
    """Keeps the input of the last linear layer of `network` whenever it is run.

    Where a recipe has one last layer a question, all of them get the same input.

    Raises:
        RunError: the network has no linear layer.
    """

    def __init__(self, network: nn.Module) -> None:
        linear = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
        if not linear:
            raise RunError("this network has no linear layer, so no embedding; predict without --embeddings")
        self._kept: Tensor | None = None
        linear[-1].register_forward_pre_hook(self._keep)

    def take(self) -> Tensor:
        """The embedding of the images that the network saw last: float32, shape (batch, features)."""
        assert self._kept is not None, "the network has not been run"
        embedding, self._kept = self._kept, None
        return embedding.detach().float().flatten(1)

    def _keep(self, layer: nn.Module, inputs: tuple[Any, ...]) -> None:  # noqa: ARG002
        self._kept = inputs[0]
