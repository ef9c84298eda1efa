"""Networks: images of shape (batch, 3, size, size) to logits of shape (batch, outputs)."""

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import timm
import torch
from torch import nn

from galaxy_zoo.errors import RunError


class Network(Protocol):
    """The description of a network in a recipe."""

    def build(self, *, size_px: int, outputs: int, pretrained: bool) -> nn.Module:
        """Make the network with fresh (or, where it has them and `pretrained`, downloaded) weights."""


@dataclass(frozen=True)
class Cnn:
    """Convolution blocks, each conv (- batch norm) - ReLU - 2 x 2 pool, then linear layers.

    channels, kernels: one a block. padding: "same" keeps the size before the pool, "valid" does not pad.
    pools: "max" or "mean" for each block; none: all "max". features: what the linear layers get of the last
    block, "flatten" or the "mean" over its pixels. hidden: widths of the linear layers before the last.
    hidden_activation: after each of them. dropout: before each hidden layer, or before the last where there is none.
    """

    channels: tuple[int, ...]
    kernels: tuple[int, ...]
    padding: Literal["same", "valid"] = "same"
    batch_norm: bool = False
    pools: tuple[str, ...] = ()
    features: Literal["flatten", "mean"] = "flatten"
    hidden: tuple[int, ...] = ()
    hidden_activation: Literal["relu", "none"] = "relu"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        """Raise ValueError where the lists do not fit each other."""
        if len(self.channels) != len(self.kernels) or not self.channels:
            raise ValueError(f"{len(self.channels)} channels for {len(self.kernels)} kernels")
        if min(*self.channels, *self.kernels, *self.hidden, 1) < 1:
            raise ValueError("channels, kernels and hidden must all be at least 1")
        if self.padding == "same" and any(kernel % 2 == 0 for kernel in self.kernels):
            raise ValueError("kernels must be odd with padding 'same'")
        if self.pools and (len(self.pools) != len(self.channels) or set(self.pools) - {"max", "mean"}):
            raise ValueError(f"pools must be 'max' or 'mean' for each of {len(self.channels)} blocks")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), not {self.dropout}")

    def build(self, *, size_px: int, outputs: int, pretrained: bool) -> nn.Module:  # noqa: ARG002
        """See `Network`. Weights are drawn as torch's layers do by default."""
        layers: list[nn.Module] = []
        inputs = 3
        pools = self.pools or ("max",) * len(self.channels)
        for channels, kernel, pool in zip(self.channels, self.kernels, pools, strict=True):
            padding = kernel // 2 if self.padding == "same" else 0
            layers.append(nn.Conv2d(inputs, channels, kernel, padding=padding, bias=True))
            layers += [nn.BatchNorm2d(channels)] if self.batch_norm else []
            layers += [nn.ReLU(inplace=True), nn.MaxPool2d(2) if pool == "max" else nn.AvgPool2d(2)]
            inputs = channels
        layers += [nn.AdaptiveAvgPool2d(1)] if self.features == "mean" else []
        layers.append(nn.Flatten())
        convolutions = nn.Sequential(*layers)
        return nn.Sequential(*layers, *self._linear(_num_features(convolutions, size_px), outputs))

    def _linear(self, inputs: int, outputs: int) -> list[nn.Module]:
        layers: list[nn.Module] = []
        for width in self.hidden:
            layers += [nn.Dropout(self.dropout)] if self.dropout else []
            layers.append(nn.Linear(inputs, width))
            layers += [nn.ReLU(inplace=True)] if self.hidden_activation == "relu" else []
            inputs = width
        layers += [nn.Dropout(self.dropout)] if self.dropout and not self.hidden else []
        return [*layers, nn.Linear(inputs, outputs)]


@dataclass(frozen=True)
class Timm:
    """A network of the timm library by its name, with its last layer replaced; see timm.list_models()."""

    model: str
    pretrained: bool = True
    dropout: float = 0.0

    def __post_init__(self) -> None:
        """Raise ValueError where timm has no such model."""
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), not {self.dropout}")
        if not timm.is_model(self.model):
            close = timm.list_models(f"*{self.model.split('.')[0][:6]}*")[:5]
            raise ValueError(f"timm has no model {self.model!r}; close: {', '.join(close) or 'none'}")

    def build(self, *, size_px: int, outputs: int, pretrained: bool) -> nn.Module:  # noqa: ARG002
        """See `Network`.

        Raises:
            RunError: the weights cannot be downloaded.
        """
        options: dict[str, Any] = {"num_classes": outputs, "drop_rate": self.dropout}
        if not (self.pretrained and pretrained):
            network: nn.Module = timm.create_model(self.model, pretrained=False, **options)
            return network
        try:
            network = timm.create_model(self.model, pretrained=True, **options)
        except Exception as error:  # the hub's client raises errors of four libraries, by its version
            raise RunError(
                f"the pretrained weights of {self.model} cannot be loaded: {type(error).__name__}: "
                f"{str(error).partition(chr(10))[0].rstrip('.')}; connect to the internet once (they are then "
                "kept in the Hugging Face cache), or start from random weights with --no-pretrained"
            ) from error
        return network


NETWORKS: dict[str, type[Network]] = {"cnn": Cnn, "timm": Timm}


def _num_features(network: nn.Module, size_px: int) -> int:
    """The length of what `network` makes of an image of `size_px`.

    Raises:
        RunError: the image is too small for it.
    """
    try:
        with torch.no_grad():
            return int(network.eval()(torch.zeros(1, 3, size_px, size_px)).shape[1])
    except RuntimeError as error:
        raise RunError(f"images of {size_px} px are too small for this network: {error}") from error
    finally:
        network.train()
