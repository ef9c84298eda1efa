"""A model, which is a network with its head, and predictions with it."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ensemble.networks.backbones import Timm
from ensemble.networks.limits import MOST_PARAMETERS
from ensemble.networks.weights import Weights
from ensemble.recipe import Precision, Recipe
from galaxy_zoo.errors import RunError
from galaxy_zoo.tree import DecisionTree

NETWORK = "0."
"""Prefix of the names of the tensors of a `Model` that belong to its network."""
BF16_FLAGS = {"avx512_bf16", "amx_bf16"}


@cache
def cpu_has_bf16() -> bool:
    """Return whether this CPU has instructions for bf16; elsewhere it is emulated, many times slower than float32."""
    try:
        return not BF16_FLAGS.isdisjoint(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return False


def precision_on(device: torch.device, asked: Precision) -> Literal["bf16", "float32"]:
    """Return the precision in which a network computes on a device, of the one that its recipe asks for."""
    if device.type == "cpu":
        return "bf16" if asked == "bf16" and cpu_has_bf16() else "float32"
    return "float32" if asked == "float32" else "bf16"


class Model(nn.Sequential):
    """A network with its head; it turns images into votes, float32, shape (batch, answers).

    images: shape as in `ensemble.networks`. precision: precision of the network, see `ensemble.recipe.Training`.
    """

    precision: Precision

    def __init__(self, network: nn.Module, head: nn.Module, precision: Precision) -> None:
        super().__init__(network, head)
        self.precision = precision

    def forward(self, images: Tensor) -> Tensor:
        """Run the network in the recipe's precision, the head in float32."""
        bf16 = precision_on(images.device, self.precision) == "bf16"
        with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
            logits = self[0](images if bf16 else images.float())
        votes: Tensor = self[1](logits.float())
        return votes


def build_network(
    recipe: Recipe, tree: DecisionTree, *, pretrained: bool, weights: Weights | None = None
) -> Model:
    """Build the network of a recipe with its head. weights: pretrained weights from a file, for a timm network.

    Raises:
        RunError: the network is too large, or `Network.build` raises it.
    """
    size_px, outputs = recipe.view.size_px, len(tree.columns)
    if isinstance(recipe.network, Timm):  # whose sizes are known
        network = recipe.network.build(size_px=size_px, outputs=outputs, pretrained=pretrained, weights=weights)
    else:
        assert weights is None
        with torch.device("meta"):
            sketch = recipe.network.build(size_px=size_px, outputs=outputs, pretrained=False)
        num_parameters = sum(each.numel() for each in sketch.parameters())
        if num_parameters > MOST_PARAMETERS:
            raise RunError(
                f"recipe {recipe.name}: its network would have {num_parameters:,} parameters, more than "
                f"{MOST_PARAMETERS:,}; make its layers or its view smaller"
            )
        network = recipe.network.build(size_px=size_px, outputs=outputs, pretrained=pretrained)
    model = Model(network, recipe.head.build(tree), recipe.training.precision)
    return model.to(memory_format=torch.channels_last)


def last_layer(recipe: Recipe, num_answers: int) -> frozenset[str]:
    """Return the names of the tensors of a `Model` whose shapes depend on the number of answers."""
    with torch.device("meta"):
        one, other = (
            recipe.network.build(size_px=recipe.view.size_px, outputs=outputs, pretrained=False).state_dict()
            for outputs in (num_answers, num_answers + 1)
        )
    return frozenset(NETWORK + name for name, each in one.items() if each.shape != other[name].shape)


class Predictor:
    """A model in evaluation mode, which predicts votes.

    Args:
        compiled: compile the network on a GPU. Batches smaller than an earlier one, such as the last of an epoch, are
            not compiled, since torch would compile anew. Hooks do not see the layers of a compiled network.
    """

    def __init__(self, network: nn.Module, device: torch.device, *, compiled: bool = False) -> None:
        self.network = network.to(device)
        compiled = compiled and device.type == "cuda"
        # not dynamic, or networks of a second image size get slower code
        self._compiled: Any = torch.compile(network, dynamic=False) if compiled else None
        self._compiled_size = 0

    @torch.no_grad()
    def predict(self, images: Tensor) -> Tensor:
        """Return votes of shape (batch, answers), float32, in [0, 1].

        Args:
            images: shape (batch, 3, size, size), channels-last, on the device.
        """
        self.network.eval()
        if self._compiled is None or len(images) < self._compiled_size:
            votes: Tensor = self.network(images)
            return votes
        votes = self._compiled(images)
        self._compiled_size = len(images)  # set only now: a batch that ran out of memory does not count
        return votes


def predict_views(members: Sequence[Predictor], views: Sequence[Tensor]) -> Tensor:
    """Return the votes of all members for all views: float32, shape (members, views, batch, answers), on the device.

    Args:
        views: each of shape (batch, 3, size, size), channels-last, on the device.
    """
    return torch.stack([torch.stack([member.predict(images) for images in views]) for member in members])
