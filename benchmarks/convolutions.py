"""A part of `benchmarks.gpu`: the convolutions of `ng_cnn`, and other ways to compute them.

Of the 12.3 ms of a step on an H200 one cuDNN kernel takes 4.8; which layers it serves is not known
(docs/experiments.md).
"""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.measuring import Result, measured
from benchmarks.throughput import Setup, fixed_batch
from ensemble.model import build_network, precision_on

RECIPE, STEPS = "ng_cnn", 3
FAST_SIZES = sorted(2**a * 3**b for a in range(12) for b in range(3))
"""Sizes whose Fourier transforms are fast."""


def convolutions(setup: Setup) -> Iterator[Result]:
    """Measure each convolution of `RECIPE` in every way: forward and backward, and forward alone.

    The precision is that of its training, unless the way has another.
    """
    recipe = setup.recipe(RECIPE)
    network = build_network(recipe, setup.tree, pretrained=False).to(setup.device)
    precision = precision_on(torch.device(setup.device), recipe.training.precision)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    batch = fixed_batch(recipe, setup, recipe.training.batch_size)
    for number, (layer, images) in enumerate(layers_with_inputs(network, batch.views[0]), 1):
        name, is_first = f"{RECIPE}, convolution {number}", number == 1
        for way, (module, inputs) in ways(layer, images.to(dtype), is_first=is_first).items():
            what = f"{name}, {way}" if way else name
            yield measured(what, "images/s", convolution_rates(setup, module, inputs, is_first=is_first))
            yield measured(f"{what}, forward", "images/s", forward_rates(setup, module, inputs))


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

    The kernels that are left have one column, and channels in multiples of 8, as cuDNN needs for the matrix units.
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


class AsFourierProduct(nn.Module):
    """A convolution that keeps the size, as a product of Fourier transforms in float32.

    The number of operations hardly depends on the size of the kernels.
    """

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, images: Tensor) -> Tensor:
        """Convolve images, shape (batch, channels, height, width)."""
        kernel_px, shape = self.weight.shape[-1], images.shape[2:]
        margin = kernel_px // 2
        padded = [next(n for n in FAST_SIZES if n >= size + margin) for size in shape]
        beyond = (0, padded[1] - kernel_px, 0, padded[0] - kernel_px)
        kernels = functional.pad(self.weight.float(), beyond).roll((-margin, -margin), (2, 3))
        seen, wanted = torch.fft.rfft2(images.float(), s=padded), torch.fft.rfft2(kernels).conj()
        product = torch.fft.irfft2(torch.einsum("bchw,ochw->bohw", seen, wanted), s=padded)
        assert self.bias is not None
        convolved: Tensor = product[..., : shape[0], : shape[1]] + self.bias[:, None, None]
        return convolved.to(images.dtype)


def ways(layer: nn.Conv2d, images: Tensor, *, is_first: bool) -> dict[str, tuple[nn.Module, Tensor]]:
    """Return the ways to compute a convolution, each with its input; some make sense for few channels alone."""
    # torch computes in channels-last if images or weights are
    contiguous = copy.deepcopy(layer).to(memory_format=torch.contiguous_format)
    found: dict[str, tuple[nn.Module, Tensor]] = {
        "": (layer, images),
        "contiguous": (contiguous, images.contiguous()),
        "float16": (layer, images.half()),
        "float16, contiguous": (contiguous, images.half().contiguous()),
        "as rows": (AsRows(layer), images),
        "as a Fourier product": (AsFourierProduct(layer), images),
    }
    if is_first:
        found["as a matrix product"] = AsMatrixProduct(layer), images
        for channels in (4, 8):
            wide, more = copy.deepcopy(layer), (0, 0, 0, 0, 0, channels - images.shape[1])
            wide.weight = nn.Parameter(functional.pad(layer.weight.detach(), more))
            padded = functional.pad(images, more).to(memory_format=torch.channels_last)
            found[f"{channels} channels"] = wide, padded
    return {name: (copy.deepcopy(each).to(inputs.dtype), inputs) for name, (each, inputs) in found.items()}


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
    images = images.detach().requires_grad_(not is_first)
    gradient = torch.ones_like(layer(images))

    def work(run: int) -> int:  # noqa: ARG001
        for _ in range(STEPS):
            layer(images).backward(gradient)
        return STEPS * len(images)

    return setup.rates(work)


def forward_rates(setup: Setup, layer: nn.Module, images: Tensor) -> list[float]:
    """Return images per second of a layer that is not trained."""

    @torch.no_grad()
    def work(run: int) -> int:  # noqa: ARG001
        for _ in range(STEPS):
            layer(images)
        return STEPS * len(images)

    return setup.rates(work)
