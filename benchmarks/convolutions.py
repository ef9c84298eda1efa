"""A part of `benchmarks.gpu`: the convolutions of `ng_cnn`, and other ways to compute the first.

One cuDNN kernel takes 4.8 of the 12.3 ms of a step on an H200, probably that of the first (docs/experiments.md).
"""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.measuring import Result, measured
from benchmarks.throughput import Setup, fixed_batch
from ensemble.model import build_network

RECIPE, STEPS = "ng_cnn", 3


def convolutions(setup: Setup) -> Iterator[Result]:
    """Measure each convolution of `RECIPE`, forward and backward in bfloat16, and other ways to compute the first."""
    recipe = setup.recipe(RECIPE)
    network = build_network(recipe, setup.tree, pretrained=False).to(setup.device)
    batch = fixed_batch(recipe, setup, recipe.training.batch_size)
    found = layers_with_inputs(network, batch.views[0])
    for number, (layer, images) in enumerate(found, 1):
        in_bf16 = copy.deepcopy(layer).bfloat16()
        rates = convolution_rates(setup, in_bf16, images.bfloat16(), is_first=number == 1)
        yield measured(f"{RECIPE}, convolution {number}", "images/s", rates)
    first, images = found[0]
    for name, (way, inputs) in other_ways(first, images.bfloat16()).items():
        rates = convolution_rates(setup, way, inputs, is_first=True)
        yield measured(f"{RECIPE}, convolution 1, {name}", "images/s", rates)


class AsMatrixProduct(nn.Module):
    """A convolution that keeps the size, as one product of its kernels with all windows of the images."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        assert layer.bias is not None
        self.kernel_px = layer.kernel_size[0]
        self.weight, self.bias = nn.Parameter(layer.weight.flatten(1)), nn.Parameter(layer.bias[:, None])

    def forward(self, images: Tensor) -> Tensor:
        """Convolve images, shape (batch, channels, height, width)."""
        windows = functional.unfold(images, self.kernel_px, padding=self.kernel_px // 2)
        return (self.weight @ windows + self.bias).view(len(images), -1, *images.shape[2:])


class AsRows(nn.Module):
    """A convolution that keeps the size; what a row of its kernels sees becomes the channels of one pixel.

    The kernels that are left have one column, and channels in multiples of 8, as cuDNN's for the matrix units want.
    """

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.margin, self.bias = layer.kernel_size[0] // 2, layer.bias
        rows = layer.weight.detach().permute(0, 2, 3, 1).flatten(2)
        self.unused = -rows.shape[2] % 8  # weights that are 0
        kernels = functional.pad(rows, (0, self.unused)).mT.unsqueeze(-1)
        self.weight = nn.Parameter(kernels.contiguous(memory_format=torch.channels_last))

    def forward(self, images: Tensor) -> Tensor:
        """Convolve images, shape (batch, channels, height, width)."""
        channels, width = images.shape[1], images.shape[3]
        beyond = -(-self.unused // channels)  # pixels on the right that only these weights see
        pixels = functional.pad(images.movedim(1, -1), (0, 0, self.margin, self.margin + beyond))
        seen = pixels.flatten(2).unfold(2, self.weight.shape[1], channels)[:, :, :width].movedim(-1, 1)
        seen = seen.contiguous(memory_format=torch.channels_last)
        return functional.conv2d(seen, self.weight, self.bias, padding=(self.margin, 0))


def other_ways(layer: nn.Conv2d, images: Tensor) -> dict[str, tuple[nn.Module, Tensor]]:
    """Return other ways to compute a convolution, each with its input."""
    ways: dict[str, tuple[nn.Module, Tensor]] = {
        "contiguous": (layer, images.contiguous()),
        "float16": (layer, images.half()),
        "as a matrix product": (AsMatrixProduct(layer), images),
        "as rows": (AsRows(layer), images),
    }
    for channels in (4, 8):
        wide, more = copy.deepcopy(layer), (0, 0, 0, 0, 0, channels - images.shape[1])
        wide.weight = nn.Parameter(functional.pad(layer.weight.detach(), more))
        padded = functional.pad(images, more).to(memory_format=torch.channels_last)
        ways[f"{channels} channels"] = wide, padded
    return {name: (copy.deepcopy(each).to(inputs.dtype), inputs) for name, (each, inputs) in ways.items()}


def layers_with_inputs(network: nn.Module, images: Tensor) -> list[tuple[nn.Conv2d, Tensor]]:
    """Return the convolutions of a network in the order they run, each with its input."""
    found: list[tuple[nn.Conv2d, Tensor]] = []
    hooks = [
        each.register_forward_pre_hook(lambda layer, inputs: found.append((layer, inputs[0].detach())))
        for each in network.modules()
        if isinstance(each, nn.Conv2d)
    ]
    with torch.no_grad(), torch.autocast(images.device.type, torch.bfloat16):
        network(images)
    for hook in hooks:
        hook.remove()
    return found


def convolution_rates(setup: Setup, layer: nn.Module, images: Tensor, *, is_first: bool) -> list[float]:
    """Return images per second of a layer, forward and backward; the first layer needs no gradient of its input."""
    images = images.requires_grad_(not is_first)
    gradient = torch.ones_like(layer(images))

    def work(run: int) -> int:  # noqa: ARG001
        for _ in range(STEPS):
            layer(images).backward(gradient)
        return STEPS * len(images)

    return setup.rates(work)
