"""The network that won the Galaxy Zoo challenge: one stack of convolutions looks at 16 parts of a galaxy.

Source: Dieleman, Willett & Dambre 2015, MNRAS 450, 1441, and the author's kaggle-galaxies; initial weights, untied
biases and the places of dropout follow the code.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from ensemble.networks.corners import corner_parts
from ensemble.networks.limits import MOST_LAYERS, MOST_UNITS
from galaxy_zoo.errors import RunError
from galaxy_zoo.strict import check_range

VIEW_PX, PART_PX = 69, 45
NUM_TURNS, NUM_PARTS = 2, 16
FIRST_STD, DENSE_STD, LAST_STD, FOURTH_STD = 0.01, 0.001, 0.01, 0.1
CONVOLUTION_BIAS, DENSE_BIAS, LAST_BIAS = 0.1, 0.01, 0.1


@dataclass(frozen=True, kw_only=True)
class Dieleman:
    """16 parts, convolutions, dense layers; the input is two turns of a 69 px view.

    top_filters: filters of the fourth convolution. part_dense: maxout units of a dense layer that all parts share;
    0: no such layer. dense: units of the dense layers on all parts together. activation: activation of these;
    "maxout" takes the larger of two. max_norm: largest norm of a unit's weights, one number a dense layer; none:
    no limit. dropout: rate before each dense layer and before the last layer.
    """

    num_turns: ClassVar[int] = NUM_TURNS

    top_filters: int = 128
    part_dense: int = 0
    dense: tuple[int, ...] = (2048, 2048)
    activation: Literal["maxout", "relu"] = "maxout"
    max_norm: tuple[float, ...] = ()
    dropout: float = 0.5

    def __post_init__(self) -> None:
        """Raise ValueError if no network can have these values."""
        check_range("top_filters", self.top_filters, 1, MOST_UNITS)
        check_range("part_dense", self.part_dense, 0, MOST_UNITS)
        check_range("the number of dense layers", len(self.dense), 0, MOST_LAYERS)
        check_range("dense", self.dense, 1, MOST_UNITS)
        if self.max_norm and (len(self.max_norm) != len(self.dense) or min(self.max_norm) <= 0):
            raise ValueError(f"max_norm must be above 0 for each of {len(self.dense)} dense layers")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), not {self.dropout}")

    def build(self, *, size_px: int, outputs: int, pretrained: bool) -> nn.Module:  # noqa: ARG002
        """Build the network.

        Raises:
            RunError: `size_px` is not 69.
        """
        if size_px != VIEW_PX:
            raise RunError(f"this network takes views of {VIEW_PX} px, not {size_px}; set size_px = {VIEW_PX}")
        inputs = 4 * self.top_filters  # the map of a part is 2 x 2
        shared: list[nn.Module] = []
        if self.part_dense:
            shared = [*self._dense(inputs, self.part_dense, FIRST_STD, CONVOLUTION_BIAS, "maxout")]
            inputs = self.part_dense
        inputs *= NUM_PARTS
        layers: list[nn.Module] = []
        for width, limit in zip(self.dense, self.max_norm or (0.0,) * len(self.dense), strict=True):
            layers += self._dense(inputs, width, DENSE_STD, DENSE_BIAS, self.activation, limit)
            inputs = width
        last = drawn(nn.Linear(inputs, outputs), LAST_STD, LAST_BIAS)
        convolutions = self._convolutions()
        return nn.Sequential(
            CornerParts(), convolutions, *shared, Merge(), *layers, nn.Dropout(self.dropout), last
        )

    def _convolutions(self) -> nn.Sequential:
        """Build convolutions and pools: 45 px -> 40, 20 -> 16, 8 -> 6 -> 4, 2; each pixel of a map has its own bias."""
        return nn.Sequential(
            *untied(3, 32, kernel=6, size=40),
            nn.MaxPool2d(2),
            *untied(32, 64, kernel=5, size=16),
            nn.MaxPool2d(2),
            *untied(64, 128, kernel=3, size=6),
            *untied(128, self.top_filters, kernel=3, size=4, std=FOURTH_STD),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )

    def _dense(
        self, inputs: int, units: int, std: float, bias: float, activation: str, max_norm: float = 0.0
    ) -> list[nn.Module]:
        pieces = 2 if activation == "maxout" else 1
        linear = MaxNormLinear(inputs, pieces * units, max_norm) if max_norm else nn.Linear(inputs, pieces * units)
        return [nn.Dropout(self.dropout), drawn(linear, std, bias), Maxout() if pieces == 2 else nn.ReLU()]


class CornerParts(nn.Module):
    """Cut the turns of a view into parts: the corners of each turn and of its mirror image."""

    def forward(self, images: Tensor) -> Tensor:
        """Turn shape (batch, 2, 3, 69, 69) into (batch * 16, 3, 45, 45), galaxy by galaxy."""
        return corner_parts(images, PART_PX).flatten(0, 1).contiguous(memory_format=torch.channels_last)


class Merge(nn.Module):
    """Join the features of the parts of each galaxy."""

    def forward(self, features: Tensor) -> Tensor:
        """Turn shape (batch * 16, features) into (batch, 16 * features)."""
        return features.reshape(-1, NUM_PARTS * features.shape[1])


class Maxout(nn.Module):
    """The larger of each pair of neighbouring features. Source: Goodfellow et al. 2013."""

    def forward(self, features: Tensor) -> Tensor:
        """Turn shape (batch, 2 * units) into (batch, units)."""
        return features.reshape(len(features), -1, 2).amax(dim=2)


class MaxNormLinear(nn.Linear):
    """A linear layer that limits the norm of each unit's weights to `max_norm` before each use."""

    def __init__(self, inputs: int, outputs: int, max_norm: float) -> None:
        super().__init__(inputs, outputs)
        self._max_norm = max_norm

    def forward(self, features: Tensor) -> Tensor:
        """Limit the norms of the weights, then do what `nn.Linear` does."""
        if self.training:
            with torch.no_grad():
                self.weight.renorm_(2, 0, self._max_norm)
        return super().forward(features)


class PixelBias(nn.Module):
    """A bias for every channel and pixel."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.full((channels, size, size), CONVOLUTION_BIAS))

    def forward(self, images: Tensor) -> Tensor:
        """Return the same shape."""
        return images + self.bias


def untied(inputs: int, channels: int, *, kernel: int, size: int, std: float = FIRST_STD) -> list[nn.Module]:
    """Return a convolution without padding, a bias for each pixel of its `size` px map, and a ReLU."""
    convolution = drawn(nn.Conv2d(inputs, channels, kernel, bias=False), std, None)
    return [convolution, PixelBias(channels, size), nn.ReLU(inplace=True)]


def drawn(layer: nn.Conv2d | nn.Linear, std: float, bias: float | None) -> nn.Module:
    """Draw a layer's weights from N(0, std), set its biases to `bias`, and return it."""
    nn.init.normal_(layer.weight, std=std)
    if layer.bias is not None and bias is not None:
        nn.init.constant_(layer.bias, bias)
    return layer
