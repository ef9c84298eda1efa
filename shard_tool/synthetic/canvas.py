"""The camera's pixels: where light is collected before blur, noise and stretch."""

import math
from dataclasses import dataclass, replace

import numpy as np

from shard_tool.synthetic import light
from shard_tool.synthetic.galaxies import FRAME_PX
from shard_tool.synthetic.light import Array


@dataclass(frozen=True, kw_only=True)
class Window:
    """A box of the canvas with its coordinates, in frame pixels from the box's centre of interest."""

    rows: slice
    columns: slice
    x: Array
    y: Array

    def turned(self, angle: float) -> "Window":
        """Return the same box with its coordinates along and across a direction."""
        x, y = light.turn(self.x, self.y, angle)
        return replace(self, x=x, y=y)


class Canvas:
    """Light on the camera's pixels, before blur and noise: float32 of shape (native_px, native_px, 3), R G B."""

    def __init__(self, native_px: int) -> None:
        """Start with a dark canvas."""
        self.native_px = native_px
        self.pixel_px = FRAME_PX / native_px
        self.light = np.zeros((native_px, native_px, 3), np.float32)

    def window(self, x_px: float, y_px: float, half_px: float) -> Window:
        """Return the box of half size `half_px` around a point given from the frame's centre; it may be empty."""
        columns, x = self._axis(x_px, half_px)
        rows, y = self._axis(y_px, half_px)
        shape = (y.size, x.size)
        return Window(
            rows=rows,
            columns=columns,
            x=np.ascontiguousarray(np.broadcast_to(x, shape)),
            y=np.ascontiguousarray(np.broadcast_to(y[:, None], shape)),
        )

    def _axis(self, centre_px: float, half_px: float) -> tuple[slice, Array]:
        middle = (centre_px + FRAME_PX / 2.0) / self.pixel_px
        start = min(max(math.floor(middle - half_px / self.pixel_px), 0), self.native_px)
        stop = max(min(math.ceil(middle + half_px / self.pixel_px), self.native_px), start)
        pixels = (np.arange(start, stop, dtype=np.float32) + 0.5 - middle) * self.pixel_px
        return slice(start, stop), pixels.astype(np.float32)

    def add(self, window: Window, brightness: Array, colour: Array) -> None:
        """Add light of one colour."""
        self.light[window.rows, window.columns] += brightness[:, :, np.newaxis] * colour

    def add_point(self, x_px: float, y_px: float, flux: float, colour: Array) -> None:
        """Add a point of light, shared among the four nearest pixels; outside of the frame it adds nothing."""
        column = (x_px + FRAME_PX / 2.0) / self.pixel_px - 0.5
        row = (y_px + FRAME_PX / 2.0) / self.pixel_px - 0.5
        left, top = math.floor(column), math.floor(row)
        if not (0 <= left < self.native_px - 1 and 0 <= top < self.native_px - 1):
            return
        across = np.array([1.0 - (column - left), column - left], np.float32)
        down = np.array([1.0 - (row - top), row - top], np.float32)
        peak = np.float32(flux / self.pixel_px**2)
        self.light[top : top + 2, left : left + 2] += (peak * np.outer(down, across))[:, :, None] * colour
