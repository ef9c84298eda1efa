"""A network whose votes do not change when an image is rotated by 90 degrees or mirrored.

Each filter is applied in all of these orientations, so what it learns in one holds in all.

Source: Cohen & Welling 2016, Group Equivariant Convolutional Networks; the names of the groups are theirs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ensemble.networks.limits import LARGEST_KERNEL, MOST_LAYERS, MOST_UNITS
from galaxy_zoo.errors import RunError
from galaxy_zoo.strict import check_range

GroupName = Literal["p4", "p4m"]
"""p4: rotations by 90 degrees; p4m: these and their mirror images."""

Element = tuple[int, int]
"""Element of a group: 1 if it mirrors, else 0; then the number of rotations by 90 degrees that follow."""


@dataclass(frozen=True, kw_only=True)
class GroupCnn:
    """Blocks of group convolution (- 2 x 2 max pool) - batch norm - ReLU, then a hidden layer and a linear one.

    The hidden layer is a 1 x 1 group convolution on the mean over pixels; the linear one takes its maximum over the
    group.

    channels, kernels: one a block; a channel is a map for each element of the group, 4 or 8.
    pools: number of blocks, from the first, that have a pool.
    hidden: channels of the layer after the mean.
    group: orientations that each filter is applied in: "p4" has the rotations by 90 degrees, "p4m" also their mirror
        images.
    """

    num_turns: ClassVar[int] = 1

    channels: tuple[int, ...]
    kernels: tuple[int, ...]
    pools: int
    hidden: int
    group: GroupName = "p4m"

    def __post_init__(self) -> None:
        """Raise ValueError if the lists do not fit each other."""
        if len(self.channels) != len(self.kernels):
            raise ValueError(f"{len(self.channels)} channels for {len(self.kernels)} kernels")
        check_range("the number of blocks", len(self.channels), 1, MOST_LAYERS)
        check_range("channels", self.channels, 1, MOST_UNITS)
        check_range("kernels", self.kernels, 1, LARGEST_KERNEL)
        check_range("hidden", self.hidden, 1, MOST_UNITS)
        if any(kernel % 2 == 0 for kernel in self.kernels):
            raise ValueError("kernels must be odd, so that filters turn around a pixel")
        check_range("pools, the number of blocks that have one,", self.pools, 0, len(self.channels))

    def build(self, *, size_px: int, outputs: int, pretrained: bool) -> nn.Module:  # noqa: ARG002
        """Build the network.

        Raises:
            RunError: a pool would drop pixels at one side of the image, so orientations would differ.
        """
        factor = 2**self.pools
        if size_px % factor:
            raise RunError(
                f"{self.pools} pools need a view of a multiple of {factor} px, not {size_px}; set size_px"
            )
        group = elements(self.group)
        layers: list[nn.Module] = []
        inputs, maps = 3, 1
        for number, (channels, kernel) in enumerate(zip(self.channels, self.kernels, strict=True)):
            layers.append(GroupConv2d(inputs, channels, kernel, group, input_maps=maps))
            layers += [nn.MaxPool2d(2)] if number < self.pools else []
            layers += [GroupBatchNorm2d(channels, len(group)), nn.ReLU(inplace=True)]
            inputs, maps = channels, len(group)
        return nn.Sequential(
            *layers,
            nn.AdaptiveAvgPool2d(1),
            GroupConv2d(inputs, self.hidden, 1, group, input_maps=maps),
            GroupBatchNorm2d(self.hidden, len(group)),
            nn.ReLU(inplace=True),
            GroupMax(len(group)),
            nn.Linear(self.hidden, outputs),
        )


class GroupConv2d(nn.Conv2d):
    """A convolution with each filter in all orientations of a group.

    Args:
        inputs: number of input channels, each of `input_maps` neighbouring maps.
        channels: number of output channels, each of one map for every element of the group.
        input_maps: 1 for images, otherwise the number of elements of the group, in its order.
    """

    def __init__(
        self, inputs: int, channels: int, kernel: int, group: Sequence[Element], *, input_maps: int
    ) -> None:
        super().__init__(inputs * input_maps, channels, kernel, padding=kernel // 2, bias=False)
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        where = torch.arange(input_maps * kernel**2).reshape(input_maps, kernel, kernel)
        turned = [turn(where[_maps_seen_from(each, group) if input_maps > 1 else [0]], each) for each in group]
        self._where: Tensor
        self.register_buffer("_where", torch.stack(turned), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Turn shape (batch, inputs * input_maps, height, width) into (batch, channels * group, height, width)."""
        group, maps, kernel, _ = self._where.shape
        one = self.weight.reshape(self.out_channels, -1, maps * kernel**2)
        turned = one.index_select(2, self._where.flatten()).reshape(*one.shape[:2], group, -1).transpose(1, 2)
        filters = turned.reshape(self.out_channels * group, self.in_channels, kernel, kernel)
        return F.conv2d(images, filters.contiguous(memory_format=torch.channels_last), padding=self.padding)


class GroupBatchNorm2d(nn.BatchNorm2d):
    """Batch norm with one scale and bias for all maps of a channel.

    In training each map has its own statistics, which is faster and makes no difference on random orientations. The
    running statistics are shared, so predictions do not depend on the orientation. A map of a single value has no
    spread, so it uses the statistics of its channel.
    """

    def __init__(self, channels: int, group: int) -> None:
        super().__init__(channels)
        self._group = group

    def forward(self, images: Tensor) -> Tensor:
        """Return the same shape."""
        if self.training and images[:, 0].numel() == 1:
            return super().forward(images.reshape(1, -1, self._group, 1)).reshape(images.shape)
        assert self.running_mean is not None
        assert self.running_var is not None
        shared = (self.running_mean, self.running_var, self.weight, self.bias)
        mean, var, scale, bias = (each.repeat_interleave(self._group) for each in shared)
        normalised = F.batch_norm(images, mean, var, scale, bias, self.training, self.momentum or 0.0, self.eps)
        if self.training:
            self.running_mean.copy_(mean.reshape(-1, self._group).mean(dim=1))
            self.running_var.copy_(var.reshape(-1, self._group).mean(dim=1))
        return normalised


class GroupMax(nn.Module):
    """The maximum of each channel over the group; it no longer depends on the orientation."""

    def __init__(self, group: int) -> None:
        super().__init__()
        self._group = group

    def forward(self, features: Tensor) -> Tensor:
        """Turn shape (batch, channels * group, 1, 1) into (batch, channels)."""
        return features.reshape(len(features), -1, self._group).amax(dim=2)


def elements(group: GroupName) -> list[Element]:
    """Return all elements of a group."""
    return [(mirrors, quarters) for mirrors in range(2 if group == "p4m" else 1) for quarters in range(4)]


def turn(images: Tensor, element: Element) -> Tensor:
    """Return images, shape (..., height, width), mirrored and rotated."""
    mirrors, quarters = element
    return torch.rot90(images.flip(-1) if mirrors else images, quarters, (-2, -1))


def _maps_seen_from(element: Element, group: Sequence[Element]) -> list[int]:
    """Return, for each element of the group, the number of the map that a filter turned by `element` reads."""
    mirrors, quarters = element
    back = (mirrors, quarters if mirrors else -quarters % 4)  # a mirror image is its own inverse
    return [group.index(_product(back, each)) for each in group]


def _product(first: Element, second: Element) -> Element:
    """Return the element that turns as `second`, then as `first`."""
    quarters = first[1] + (-second[1] if first[0] else second[1])
    return (first[0] + second[0]) % 2, quarters % 4
