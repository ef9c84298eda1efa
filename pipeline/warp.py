"""Reduce and warp on the CPU with OpenCV, faster than `graph.view_graph`, which does the same.

DALI's resize and warp are the slow part of its graph on 2 cores (docs/experiments.md, 2026-11-20), so on a CPU DALI
only decodes. Tests check that both make the same pixels from the same parameters.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from galaxy_zoo.view import Stamp, View
from pipeline.augment import Parameters

Pixels = NDArray[np.uint8]

SAMPLES_PER_TASK = 8
"""Samples of a task: few enough that all threads end at about the same time, enough that tasks cost little."""

FLAGS = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP


class PendingViews:
    """Views that threads are making."""

    def __init__(self, tasks: Sequence["Future[None]"], views: tuple[Tensor, ...]) -> None:
        self._tasks, self._views = tasks, views

    def result(self) -> tuple[Tensor, ...]:
        """Wait for the views and return them; raise what a thread raised."""
        for task in self._tasks:
            task.result()
        return self._views


class WarpKernel:
    """Makes views from stamps, on `num_threads` threads.

    OpenCV's own threads are switched off in this process: images are many and small, so samples run in parallel.

    Args:
        dtype: dtype of the views, float32, float16 or bfloat16.
    """

    def __init__(self, view: View, *, num_threads: int, dtype: torch.dtype = torch.float32) -> None:
        cv2.setNumThreads(1)
        self._size, self._dtype = view.size_px, dtype
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix="warp")
        self._gain, self._offset = normalisation(view)
        levels = np.arange(256, dtype=np.float32)[:, None] / 255
        self._table = _as_bits(np.asarray(levels * self._gain + self._offset, np.float32), dtype)[None]
        bounds = np.stack([self._offset, self._gain + self._offset])
        self._bounds = np.tile(bounds, (1, self._size))  # of a whole row, so that numpy's inner loop is long

    def start(self, count: int, stamp_of: Callable[[int], Pixels], views: Sequence[Parameters]) -> PendingViews:
        """Begin to make the views of `count` samples, without waiting for them.

        Args:
            stamp_of: function that returns the stamp of a sample, uint8, shape (height, width, 3); threads call it,
                once for each sample.
            views: for each view the parameters of the samples.

        Returns:
            For each view: `dtype`, shape (samples, 3, size, size), channels-last, normalised. The memory is new.
        """
        pixels = [np.empty((count, self._size, self._size, 3), self._table.dtype) for _ in views]
        finishes = [self._finish(each.colours) for each in views]
        matrices = [_to_opencv(each.warps) for each in views]

        def warp(samples: range) -> None:
            size = (self._size, self._size)
            wide, warped = np.empty((*size, 4), np.uint8), np.empty((*size, 3), np.uint8)
            for sample in samples:
                # A warp reads across rows: this sweep brings the stamp into the cache, and OpenCV warps four channels
                # faster than three. Together they more than halve the time (docs/experiments.md, 2026-11-20).
                stamp = cv2.cvtColor(stamp_of(sample), cv2.COLOR_RGB2RGBA)
                for matrix, finish, out in zip(matrices, finishes, pixels, strict=True):
                    cv2.warpAffine(stamp, matrix[sample], size, dst=wide, flags=FLAGS)
                    cv2.cvtColor(wide, cv2.COLOR_RGBA2RGB, dst=warped)
                    finish(warped, sample, out[sample])

        chunks = [range(at, min(at + SAMPLES_PER_TASK, count)) for at in range(0, count, SAMPLES_PER_TASK)]
        tensors = (torch.from_numpy(each).view(self._dtype).permute(0, 3, 1, 2) for each in pixels)
        return PendingViews([self._threads.submit(warp, chunk) for chunk in chunks], tuple(tensors))

    def close(self) -> None:
        """End the threads once they have finished their tasks."""
        self._threads.shutdown(cancel_futures=True)

    def _finish(self, colours: NDArray[np.float32] | None) -> Callable[[Pixels, int, NDArray[Any]], object]:
        """Return the function that finishes a warped sample: a table look-up, or a change of colours with clipping."""
        if colours is None:
            return lambda warped, _, out: cv2.LUT(warped, self._table, dst=out)
        matrices = self._gain[:, None] * colours[:, :, :3] / 255
        offsets = self._gain * colours[:, :, 3] + self._offset
        changes = np.concatenate([matrices, offsets[:, :, None]], axis=2)

        def change(warped: Pixels, sample: int, out: NDArray[Any]) -> None:
            changed = np.asarray(cv2.transform(warped.astype(np.float32), changes[sample]), np.float32)
            rows = changed.reshape(len(warped), -1)
            np.clip(rows, *self._bounds, out=rows)
            out[:] = _as_bits(rows, self._dtype).reshape(out.shape)

        return change


def reduce_window(window: Pixels, stamp: Stamp) -> Pixels:
    """Reduce a decoded window with antialiasing to the stamp's size.

    First interpolate linearly to the largest multiple of the size that fits into the window, then average whole blocks.
    Both steps are fast in OpenCV, and the result is as close to the supersampled reference as OpenCV's area
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


def normalisation(view: View) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return (gain, offset), shape (3,) each; gain * pixel + offset is (pixel - mean) / std, pixels in [0, 1]."""
    mean, std = np.array(view.mean, np.float32), np.array(view.std, np.float32)
    return (1 / std).astype(np.float32), (-mean / std).astype(np.float32)


def rgb_pixels(images: Tensor, view: View) -> Pixels:
    """Return normalised images, shape (..., 3, size, size), as uint8 pixels to draw, shape (..., size, size, 3)."""
    pixels = images.movedim(-3, -1).float().cpu().numpy() * np.array(view.std) + np.array(view.mean)
    return np.asarray(np.clip(np.rint(pixels * 255), 0, 255), np.uint8)


def _as_bits(values: NDArray[np.float32], dtype: torch.dtype) -> NDArray[Any]:
    """Return float32 as it is, float16 and bfloat16 (unknown to numpy) as their bits in uint16."""
    if dtype == torch.float16:
        return values.astype(np.float16).view(np.uint16)
    if dtype == torch.bfloat16:
        bits = np.ascontiguousarray(values).view(np.uint32)
        return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)  # upper half, rounded to nearest even
    return values


def _to_opencv(warps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Convert warps from continuous coordinates to OpenCV's, in which the centre of pixel i is i."""
    moved = warps.copy()
    moved[:, :, 2] += warps[:, :, :2].sum(axis=2) * 0.5 - 0.5
    return moved
