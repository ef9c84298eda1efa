"""A rotation for FFCV, which has none: an operation compiled by Numba, for `benchmarks.peer_loaders`."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from ffcv.pipeline.allocation_query import AllocationQuery
from ffcv.pipeline.compiler import Compiler
from ffcv.pipeline.operation import Operation

SIZE_PX = 128


class Turn(Operation):  # type: ignore[misc]
    """Turn an image about its centre and reduce the central 256 px to 128 px.

    A pixel is the mean of 2 x 2 bilinear samples: rotation, crop and antialiased reduction in one pass.

    Args:
        angles_deg: angles of the first images, to check their quality; the others are turned at random.
    """

    def __init__(self, angles_deg: Sequence[float] = ()) -> None:
        super().__init__()
        self._angles = np.radians(np.array(angles_deg, np.float64))

    def declare_state_and_memory(self, previous_state: Any) -> tuple[Any, AllocationQuery]:
        """Declare batches of shape (batch, 128, 128, 3), uint8."""
        shape = (SIZE_PX, SIZE_PX, 3)
        return replace(previous_state, shape=shape, jit_mode=True), AllocationQuery(shape, np.dtype("u1"))

    def generate_code(self) -> Callable[..., Any]:
        """Return the function that Numba compiles; plain loops are fastest."""
        images_of, given = Compiler.get_iterator(), self._angles

        def turn(images: Any, views: Any, indices: Any) -> Any:
            for each in images_of(images.shape[0]):
                image, view = images[each], views[each]
                place = indices[each]
                angle = given[place] if place < given.size else np.random.uniform(0, 2 * math.pi)
                cos, sin, middle = math.cos(angle), math.sin(angle), image.shape[0] / 2 - 0.5
                for y in range(SIZE_PX):
                    for x in range(SIZE_PX):
                        red, green, blue = 0.0, 0.0, 0.0
                        for part in range(4):
                            u, v = 2 * x + part % 2 - SIZE_PX + 0.5, 2 * y + part // 2 - SIZE_PX + 0.5
                            at_x, at_y = middle + cos * u - sin * v, middle + sin * u + cos * v
                            left, top = int(at_x), int(at_y)
                            right, low = at_x - left, at_y - top
                            a, b = (1 - right) * (1 - low), right * (1 - low)
                            c, d = (1 - right) * low, right * low
                            p, q = image[top, left], image[top, left + 1]
                            r, s = image[top + 1, left], image[top + 1, left + 1]
                            red += a * p[0] + b * q[0] + c * r[0] + d * s[0]
                            green += a * p[1] + b * q[1] + c * r[1] + d * s[1]
                            blue += a * p[2] + b * q[2] + c * r[2] + d * s[2]
                        view[y, x, 0] = np.uint8(red / 4 + 0.5)
                        view[y, x, 1] = np.uint8(green / 4 + 0.5)
                        view[y, x, 2] = np.uint8(blue / 4 + 0.5)
            return views[: images.shape[0]]

        turn.is_parallel = True  # type: ignore[attr-defined]
        turn.with_indices = True  # type: ignore[attr-defined]
        return turn
