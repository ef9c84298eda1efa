"""Stamp and warp on the CPU with OpenCV, colour and normalise with torch: what `graph.view_graph` does, faster.

On 2 cores DALI's CPU resize and warp are the slow part of its graph (docs/experiments.md, 2026-11-20), so on a CPU
DALI decodes and this does the rest. Tests hold both to the same pixels for the same parameters.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from galaxy_zoo.view import Stamp, View
from pipeline.augment import Parameters

Pixels = NDArray[np.uint8]


class WarpKernel:
    """Makes the views of a batch of decoded windows, on `num_threads` threads.

    OpenCV's own threads are switched off for the process: images are small and many, so samples run in parallel.
    """

    def __init__(self, view: View, stamp: Stamp, *, num_threads: int) -> None:
        cv2.setNumThreads(1)
        self._view, self._stamp = view, stamp
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix="warp")
        self._num_threads = num_threads
        scale, offset = _normalisation(view)
        self._scale, self._offset = torch.from_numpy(scale), torch.from_numpy(offset)

    def __call__(self, windows: Sequence[Pixels], views: Sequence[Parameters]) -> tuple[Tensor, ...]:
        """Make the views.

        Args:
            windows: decoded windows of the stamp, uint8, each (window height, window width, 3).
            views: for each view, the parameters of the samples.

        Returns:
            For each view: float32, shape (samples, 3, size, size), channels-last, normalised. The memory is new.
        """
        size = self._view.size_px
        pixels = np.empty((len(views), len(windows), size, size, 3), dtype=np.uint8)
        chunks = np.array_split(np.arange(len(windows)), self._num_threads)
        for done in [self._threads.submit(self._warp, windows, views, chunk.tolist(), pixels) for chunk in chunks]:
            done.result()
        return tuple(
            self._finish(torch.from_numpy(images), each.colours)
            for images, each in zip(pixels, views, strict=True)
        )

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown()

    def _warp(
        self, windows: Sequence[Pixels], views: Sequence[Parameters], samples: Sequence[int], out: Pixels
    ) -> None:
        size = (self._view.size_px, self._view.size_px)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        matrices = [_to_opencv(each.warps) for each in views]
        for sample in samples:
            stamp = reduce_window(windows[sample], self._stamp)
            for view, matrix in enumerate(matrices):
                cv2.warpAffine(stamp, matrix[sample], size, dst=out[view, sample], flags=flags)

    def _finish(self, pixels: Tensor, colours: NDArray[np.float32] | None) -> Tensor:
        images = pixels.to(torch.float32)
        if colours is not None:
            images = _change_colours(images, torch.from_numpy(colours))
        return images.mul_(self._scale).add_(self._offset).permute(0, 3, 1, 2)


def reduce_window(window: Pixels, stamp: Stamp) -> Pixels:
    """Reduce a decoded window with antialiasing to the stamp's size.

    Linearly to the largest multiple of the size that fits into the window, then by the mean over whole blocks.
    Both are fast in OpenCV, and the result is as close to the supersampled reference as that of its area
    interpolation, which is 3 to 6 times slower at such factors (docs/experiments.md, 2026-11-20).
    """
    height, width = stamp.size_px
    blocks = max(1, stamp.window_px[0] // height)
    image: Any = window
    if stamp.window_px != (height * blocks, width * blocks):
        image = cv2.resize(image, (width * blocks, height * blocks), interpolation=cv2.INTER_LINEAR)
    if blocks > 1:
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(image, dtype=np.uint8)


def _to_opencv(warps: NDArray[np.float32]) -> NDArray[np.float32]:
    """From continuous coordinates to OpenCV's, where the middle of pixel i is i."""
    moved = warps.copy()
    moved[:, :, 2] += warps[:, :, :2].sum(axis=2) * 0.5 - 0.5
    return moved


def _change_colours(images: Tensor, colours: Tensor) -> Tensor:
    """Apply colour changes for pixels in [0, 1] to pixels in 0..255, and clip.

    Args:
        images: float32, shape (samples, height, width, 3).
        colours: shape (samples, 3, 4).
    """
    flat = images.flatten(1, 2)
    changed = torch.baddbmm(255 * colours[:, None, :, 3], flat, colours[:, :, :3].mT)
    return changed.clamp_(0, 255).view_as(images)


def _normalisation(view: View) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(scale, offset) so that scale * pixel + offset is (pixel / 255 - mean) / std."""
    mean, std = np.array(view.mean, np.float32), np.array(view.std, np.float32)
    return (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)
