"""Networks made of torch's own layers: with convolutions, or of linear layers alone."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from ensemble.networks.limits import LARGEST_KERNEL, MOST_LAYERS, MOST_UNITS
from galaxy_zoo.errors import RunError
from galaxy_zoo.strict import check_range

Initial = Literal["torch", "xavier"]
"""How initial weights are drawn: torch's default, or Xavier's uniform with all biases `XAVIER_BIAS`.
Source: Glorot & Bengio 2010; the biases: the "Galaxy Imagery Classification" notebook."""

XAVIER_BIAS = 0.01


POOLS: dict[str, Callable[[], list[nn.Module]]] = {
    "max": lambda: [nn.MaxPool2d(2)],
    "mean": lambda: [nn.AvgPool2d(2)],
    "none": list,
}


@dataclass(frozen=True, kw_only=True)
class Cnn:
    """Convolution blocks, each conv (- batch norm) - ReLU (- CBAM) (- 2 x 2 pool), then linear layers.

    channels, kernels: one per block.
    grey: take only the first channel; for grey views.
    padding: "same" keeps the size before the pool, "valid" does not pad.
    batch_norm: normalise the output of each convolution over the batch.
    pools: "max", "mean" or "none" for each block; empty: all "max".
    pool_first: pool right after the convolution, so that the layers that follow handle a quarter of the pixels.
    cbam_reduction: factor by which channel attention reduces its middle layer; 0: no CBAM.
    squeeze: channels of a last 1 x 1 convolution with batch norm and ReLU; 0: none.
    features: how the last block's output reaches the linear layers: "flatten", or "mean" over its pixels.
    hidden: widths of the linear layers before the last.
    hidden_activation: activation after each of them.
    dropout: rate before each hidden layer, or before the last layer if there are no hidden ones.
    initial: how weights are drawn: "torch" by the default of each of torch's layers, "xavier" uniformly within Xavier's
        limits, with all biases 0.01.
    """

    num_turns: ClassVar[int] = 1

    channels: tuple[int, ...]
    kernels: tuple[int, ...]
    grey: bool = False
    padding: Literal["same", "valid"] = "same"
    batch_norm: bool = False
    pools: tuple[str, ...] = ()
    pool_first: bool = False
    cbam_reduction: int = 0
    squeeze: int = 0
    features: Literal["flatten", "mean"] = "flatten"
    hidden: tuple[int, ...] = ()
    hidden_activation: Literal["relu", "none"] = "relu"
    dropout: float = 0.0
    initial: Initial = "torch"

    def __post_init__(self) -> None:
        """Raise ValueError if the lists do not fit each other."""
        if len(self.channels) != len(self.kernels):
            raise ValueError(f"{len(self.channels)} channels for {len(self.kernels)} kernels")
        check_range("the number of blocks", len(self.channels), 1, MOST_LAYERS)
        check_range("channels", self.channels, 1, MOST_UNITS)
        check_range("kernels", self.kernels, 1, LARGEST_KERNEL)
        check_range("the number of hidden layers", len(self.hidden), 0, MOST_LAYERS)
        check_range("hidden", self.hidden, 1, MOST_UNITS)
        check_range("cbam_reduction", self.cbam_reduction, 0, MOST_UNITS)
        check_range("squeeze", self.squeeze, 0, MOST_UNITS)
        if self.padding == "same" and any(kernel % 2 == 0 for kernel in self.kernels):
            raise ValueError("kernels must be odd with padding 'same'")
        if self.pools and (len(self.pools) != len(self.channels) or set(self.pools) - set(POOLS)):
            raise ValueError(f"pools must be one of {', '.join(POOLS)} for each of {len(self.channels)} blocks")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), not {self.dropout}")

    def build(self, *, size_px: int, outputs: int, pretrained: bool) -> nn.Module:  # noqa: ARG002
        """Build the network."""
        layers: list[nn.Module] = [FirstChannel()] if self.grey else []
        inputs = 1 if self.grey else 3
        pools = self.pools or ("max",) * len(self.channels)
        for channels, kernel, pool in zip(self.channels, self.kernels, pools, strict=True):
            layers += self._block(inputs, channels, kernel, pool)
            inputs = channels
        if self.squeeze:
            layers += [nn.Conv2d(inputs, self.squeeze, 1), nn.BatchNorm2d(self.squeeze), nn.ReLU(inplace=True)]
        layers += [nn.AdaptiveAvgPool2d(1)] if self.features == "mean" else []
        layers.append(nn.Flatten())
        features = num_features(nn.Sequential(*layers), size_px)
        return initialised(nn.Sequential(*layers, *self._linear(features, outputs)), self.initial)

    def _block(self, inputs: int, channels: int, kernel: int, pool: str) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, channels, kernel, padding=kernel // 2 if self.padding == "same" else 0)
        pooling = POOLS[pool]()
        rest: list[nn.Module] = [nn.BatchNorm2d(channels)] if self.batch_norm else []
        relu = nn.ReLU(inplace=True)
        if pool == "max" and not self.pool_first and not self.cbam_reduction:
            return [convolution, *rest, *pooling, relu]  # the same in either order, but ReLU sees a quarter
        rest.append(relu)
        rest += [Cbam(channels, self.cbam_reduction)] if self.cbam_reduction else []
        return [convolution, *pooling, *rest] if self.pool_first else [convolution, *rest, *pooling]

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
class LinNet:
    """Linear layers with ReLU on the pixels.

    hidden: widths of the linear layers before the last.
    grey: take only the first channel; for grey views.
    initial: how weights are drawn: "torch" by the default of each of torch's layers, "xavier" uniformly within Xavier's
        limits, with all biases 0.01.
    """

    num_turns: ClassVar[int] = 1

    hidden: tuple[int, ...]
    grey: bool = False
    initial: Initial = "torch"

    def __post_init__(self) -> None:
        """Raise ValueError if a width is out of range."""
        check_range("the number of hidden layers", len(self.hidden), 0, MOST_LAYERS)
        check_range("hidden", self.hidden, 1, MOST_UNITS)

    def build(self, *, size_px: int, outputs: int, pretrained: bool) -> nn.Module:  # noqa: ARG002
        """Build the network."""
        layers: list[nn.Module] = [FirstChannel(), nn.Flatten()] if self.grey else [nn.Flatten()]
        inputs = (1 if self.grey else 3) * size_px**2
        for width in self.hidden:
            layers += [nn.Linear(inputs, width), nn.ReLU(inplace=True)]
            inputs = width
        return initialised(nn.Sequential(*layers, nn.Linear(inputs, outputs)), self.initial)


class Cbam(nn.Module):
    """x + x * channel attention * spatial attention.

    Channel attention is timm's: one pair of layers on both the mean and the maximum over pixels. Spatial attention
    is a 7 x 7 convolution of the maximum and the mean over channels.

    Source: Woo et al. 2018, CBAM; the sum and the biases follow Ng 2024, whose number of parameters needs them.
    """

    def __init__(self, channels: int, reduction: int) -> None:
        from timm.layers.cbam import ChannelAttn  # noqa: PLC0415 (takes seconds)

        super().__init__()
        self.channel = ChannelAttn(channels, rd_ratio=1 / reduction, mlp_bias=True)
        self.spatial = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, images: Tensor) -> Tensor:
        """Return the same shape."""
        attended: Tensor = self.channel(images)
        pooled = torch.cat([attended.amax(dim=1, keepdim=True), attended.mean(dim=1, keepdim=True)], dim=1)
        spatial: Tensor = self.spatial(pooled)
        return images + attended * spatial.sigmoid()


class FirstChannel(nn.Module):
    """The first channel of images; a grey view has the same in all three."""

    def forward(self, images: Tensor) -> Tensor:
        """Return shape (batch, 1, size, size)."""
        return images[:, :1]


def initialised(network: nn.Module, initial: Initial) -> nn.Module:
    """Draw the weights of a network by the rule `initial`; return the network."""
    if initial == "xavier":
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.constant_(module.bias, XAVIER_BIAS)
    return network


def num_features(network: nn.Module, size_px: int) -> int:
    """Return the number of features that `network` computes from an image of `size_px`.

    Raises:
        RunError: the image is too small for the network.
    """
    try:
        with torch.no_grad():
            return int(network.eval()(torch.zeros(1, 3, size_px, size_px)).shape[1])
    except RuntimeError as error:
        raise RunError(f"images of {size_px} px are too small for this network: {error}") from error
    finally:
        network.train()
