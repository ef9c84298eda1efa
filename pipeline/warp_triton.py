"""Warp on the GPU with Triton: one kernel for each view reads uint8 stamps and writes the view.

It does what `warp.WarpKernel` does: interpolate bilinearly with zeros outside the stamp, round to whole grey levels as
OpenCV and DALI do, change the colours, clip and normalise. With TRITON_INTERPRET=1 set before the start it runs slowly
on the CPU, which tests use without a GPU.
"""

from collections.abc import Sequence

import numpy as np
import torch
import triton
import triton.language as tl
from numpy.typing import NDArray
from torch import Tensor

from galaxy_zoo.view import View
from pipeline.augment import Parameters
from pipeline.warp import normalisation

PIXELS_PER_PROGRAM = 256


class TritonKernel:
    """Makes views from stamps that are on `device`.

    Args:
        dtype: dtype of the views, float32, float16 or bfloat16.
    """

    def __init__(self, view: View, *, device: torch.device, dtype: torch.dtype) -> None:
        if device.type != "cuda" and not triton.knobs.runtime.interpret:
            raise ValueError("Triton's kernels run on a GPU; on a CPU only with TRITON_INTERPRET=1, slowly")
        self._size, self._device, self._dtype = view.size_px, device, dtype
        gain, offset = normalisation(view)
        self._normal = (*gain.tolist(), *offset.tolist())

    def upload(self, rows: NDArray[np.int64], views: Sequence[Parameters]) -> tuple[Tensor, list[Tensor]]:
        """Copy the rows of samples and the parameters of their views to the device in one transfer.

        Returns:
            The rows, int32, shape (samples,), and for each view float32, shape (samples, 18): the warp, then the
            colours (arbitrary if the view changes none).
        """
        packed = np.zeros((1 + 18 * len(views), len(rows)), np.int32)
        packed[0] = rows
        for number, view in enumerate(views):
            here = packed[1 + 18 * number : 19 + 18 * number].view(np.float32).reshape(len(rows), 18)
            here[:, :6] = view.warps.reshape(-1, 6)
            if view.colours is not None:
                here[:, 6:] = view.colours.reshape(-1, 12)
        host = torch.from_numpy(packed)
        if self._device.type == "cuda":
            host = host.pin_memory()
        sent = host.to(self._device, non_blocking=True)
        parameters = sent[1:].view(torch.float32).reshape(len(views), len(rows), 18)
        return sent[0], list(parameters)

    def __call__(self, stamps: Tensor, rows: Tensor, parameters: Tensor, *, has_colours: bool) -> Tensor:
        """Make one view of each sample.

        Args:
            stamps: uint8, shape (all samples, height, width, 3), contiguous.
            rows, parameters: rows of the samples and parameters of the view, as `upload` returns them.

        Returns:
            `dtype`, shape (samples, 3, size, size), channels-last, normalised. The memory is new.
        """
        size, count = self._size, len(rows)
        views = torch.empty(count, size, size, 3, dtype=self._dtype, device=self._device)
        if count:
            with torch.cuda.device_of(stamps):
                _warp[(count, triton.cdiv(size * size, PIXELS_PER_PROGRAM))](
                    stamps,
                    rows,
                    parameters,
                    views,
                    *stamps.shape[1:3],
                    size,
                    *self._normal,
                    has_colours=has_colours,
                    num_pixels=PIXELS_PER_PROGRAM,
                    enable_fp_fusion=False,  # round after each operation, as on a CPU
                )
        return views.permute(0, 3, 1, 2)


# A short batch aligns its parameters differently; do not compile again for it.
@triton.jit(do_not_specialize_on_alignment=["rows", "parameters"])
def _warp(
    stamps, rows, parameters, views, height, width, size,
    gain_r, gain_g, gain_b, offset_r, offset_g, offset_b,
    has_colours: tl.constexpr, num_pixels: tl.constexpr,
):  # fmt: skip
    """Make `num_pixels` pixels of the view of one sample; the program ids are (sample, block of pixels)."""
    sample = tl.program_id(0).to(tl.int64)
    pixel = tl.program_id(1) * num_pixels + tl.arange(0, num_pixels)
    inside = pixel < size * size
    x = (pixel % size).to(tl.float32) + 0.5
    y = (pixel // size).to(tl.float32) + 0.5
    p = parameters + sample * 18
    at_x = tl.load(p) * x + tl.load(p + 1) * y + tl.load(p + 2) - 0.5
    at_y = tl.load(p + 3) * x + tl.load(p + 4) * y + tl.load(p + 5) - 0.5
    left, top = tl.floor(at_x), tl.floor(at_y)
    right_share, lower_share = at_x - left, at_y - top
    column, row = left.to(tl.int32), top.to(tl.int32)
    # int64, since 61,578 stamps of 273 px have more bytes than an int32 can count
    stamp = stamps + tl.load(rows + sample).to(tl.int64) * height * width * 3
    upper_left = stamp + (row * width + column) * 3
    in_top, in_bottom = inside & (row >= 0) & (row < height), inside & (row >= -1) & (row < height - 1)
    in_left, in_right = (column >= 0) & (column < width), (column >= -1) & (column < width - 1)
    red = _bilinear(upper_left, width, in_top, in_bottom, in_left, in_right, right_share, lower_share)
    green = _bilinear(upper_left + 1, width, in_top, in_bottom, in_left, in_right, right_share, lower_share)
    blue = _bilinear(upper_left + 2, width, in_top, in_bottom, in_left, in_right, right_share, lower_share)
    if has_colours:
        c = p + 6
        new_red = _changed(c, red, green, blue)
        new_green = _changed(c + 4, red, green, blue)
        blue = _changed(c + 8, red, green, blue)
        red, green = new_red, new_green
    view = views + (sample * size * size + pixel) * 3
    kind = views.dtype.element_ty
    tl.store(view, (red * gain_r + offset_r).to(kind), mask=inside)
    tl.store(view + 1, (green * gain_g + offset_g).to(kind), mask=inside)
    tl.store(view + 2, (blue * gain_b + offset_b).to(kind), mask=inside)


@triton.jit
def _bilinear(upper_left, width, in_top, in_bottom, in_left, in_right, right_share, lower_share):
    """Return one channel at each point, in [0, 1], rounded to grey levels; `upper_left`: its upper left pixel."""
    a = tl.load(upper_left, mask=in_top & in_left, other=0).to(tl.float32)
    b = tl.load(upper_left + 3, mask=in_top & in_right, other=0).to(tl.float32)
    c = tl.load(upper_left + width * 3, mask=in_bottom & in_left, other=0).to(tl.float32)
    d = tl.load(upper_left + width * 3 + 3, mask=in_bottom & in_right, other=0).to(tl.float32)
    upper = a + (b - a) * right_share
    lower = c + (d - c) * right_share
    return tl.div_rn(tl.floor(upper + (lower - upper) * lower_share + 0.5), 255.0)


@triton.jit
def _changed(c, red, green, blue):
    """Return one channel after the change of colours, clipped to [0, 1]; `c` points at the four numbers of its row."""
    value = tl.load(c) * red + tl.load(c + 1) * green + tl.load(c + 2) * blue + tl.load(c + 3)
    return tl.minimum(tl.maximum(value, 0.0), 1.0)
