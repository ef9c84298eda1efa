"""Light profiles: coordinates in, surface brightness out, as float32 arrays.

Lengths are in frame pixels. Every profile has unit total light unless its docstring says otherwise.
"""

import math
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from shard_tool.synthetic.galaxies import Arc

Array = npt.NDArray[np.float32]

RED_LIGHT = np.array([1.36, 1.02, 0.62], np.float32)
BLUE_LIGHT = np.array([0.87, 0.93, 1.20], np.float32)
"""Colours (R, G, B) of mean 1 of an old and of a young population, read off Kaggle images at half light."""

EDGE_ON_BOXINESS = -0.18
"""Isophotes of edge-on disks are a little pointed."""


def colour(blueness: float) -> Array:
    """Return the (R, G, B) weights of light between red (0) and blue (1).

    Values beyond are extrapolated; below 0 green falls too, towards the deep red of cool stars.
    """
    mixed = RED_LIGHT + np.float32(blueness) * (BLUE_LIGHT - RED_LIGHT)
    mixed[1] *= np.float32(1.0 + 0.35 * min(blueness, 0.0))
    return np.maximum(mixed, np.float32(0.08))


def turn(x: Array, y: Array, angle: float) -> tuple[Array, Array]:
    """Return coordinates along and across a direction."""
    cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    return x * cos + y * sin, y * cos - x * sin


def exponential(value: Array) -> Array:
    """Return e to the power of `value`, several times faster than numpy."""
    return cast(Array, cv2.exp(value))


def length(x: Array, y: Array) -> Array:
    """Return the length of the vectors (x, y)."""
    return cast(Array, cv2.magnitude(x, y))


def boxy_radius(x: Array, y: Array, boxiness: float) -> Array:
    """Return a radius whose circles turn into boxes: (|x|^c + |y|^c)^(1/c) with c = 2 + 2 boxiness.

    Source: generalised ellipses, Athanassoula et al. 1990, MNRAS 245, 130.
    """
    power = 2.0 + 2.0 * boxiness
    return cast(Array, cv2.pow(cv2.pow(np.abs(x), power) + cv2.pow(np.abs(y), power), 1.0 / power))


def sersic(radius: Array, half_light_px: float, index: float, axis_ratio: float) -> Array:
    """Return a Sersic profile exp(-b (r / re)^(1/n)) over the elliptical `radius`.

    The core is softened by half a pixel, since the blur that follows cannot undo a spike between two pixels.
    Source: Graham & Driver 2005, https://arxiv.org/abs/astro-ph/0503176 (b = 2n - 1/3, eq. 4 for the total light).
    """
    b = 2.0 * index - 1.0 / 3.0
    area = 2.0 * math.pi * axis_ratio * half_light_px**2
    total = area * index * b ** (-2.0 * index) * math.gamma(2.0 * index)
    scaled = cv2.pow((radius + np.float32(0.5)) / np.float32(half_light_px), 1.0 / index)
    return exponential(np.float32(-b) * scaled) / np.float32(total)


def disk(radius: Array, scale_px: float, axis_ratio: float) -> Array:
    """Return an exponential disk over its deprojected `radius`."""
    amplitude = 1.0 / (2.0 * math.pi * axis_ratio * scale_px**2)
    return np.float32(amplitude) * exponential(-radius / np.float32(scale_px))


def edge_on_disk(along: Array, across: Array, scale_px: float, height_px: float) -> Array:
    """Return a disk seen from its edge: exponential over isophotes between an ellipse and a diamond.

    The area within |x|^c + |y|^c = 1 is 4 Gamma(1 + 1/c)^2 / Gamma(1 + 2/c); the total of exp(-r) is twice that.
    """
    power = 2.0 + 2.0 * EDGE_ON_BOXINESS
    area = 4.0 * math.gamma(1.0 + 1.0 / power) ** 2 / math.gamma(1.0 + 2.0 / power)
    radius = boxy_radius(along / np.float32(scale_px), across / np.float32(height_px), EDGE_ON_BOXINESS)
    return exponential(-radius) / np.float32(2.0 * area * scale_px * height_px)


def dust_lane(along: Array, across: Array, scale_px: float, height_px: float) -> Array:
    """Return the share of light that a lane in the mid-plane takes away: 1 in its middle."""
    lane = (across / np.float32(0.25 * height_px + 1.0)) ** 2 + (along / np.float32(1.6 * scale_px)) ** 4
    return exponential(np.float32(-0.5) * lane.astype(np.float32))


def bar(along: Array, across: Array, length_px: float, axis_ratio: float) -> Array:
    """Return a flat bar with soft ends; `axis_ratio` is that of the disk it lies in.

    The total of exp(-(r/a)^3) over an ellipse of semi-axes a and b is pi a b Gamma(5/3); the corners of the box
    add a few per cent to it.
    """
    width_px = 0.28 * length_px
    radius = boxy_radius(along / np.float32(length_px), across / np.float32(width_px), 0.3)
    total = math.pi * length_px * width_px * axis_ratio * math.gamma(5.0 / 3.0)
    return exponential(-(radius**3)) / np.float32(total)


def ring(radius: Array, radius_px: float, axis_ratio: float) -> Array:
    """Return a ring with a Gaussian cross-section."""
    width_px = 0.11 * radius_px
    total = 2.0 * math.pi * axis_ratio * radius_px * width_px * math.sqrt(2.0 * math.pi)
    return exponential(-0.5 * ((radius - np.float32(radius_px)) / np.float32(width_px)) ** 2) / np.float32(total)


def spiral(phase: Array, sharpness: float) -> Array:
    """Return arms as a factor of mean 1 over `phase` (2 pi from arm to arm): a von Mises bump at phase 0."""
    bump = exponential(np.float32(sharpness) * (np.cos(phase) - np.float32(1.0)))
    return bump / np.float32(np.i0(sharpness) * math.exp(-sharpness))


def arc(x: Array, y: Array, shape: Arc) -> Array:
    """Return a piece of a logarithmic spiral (a circle for `widening` 0), fading to its ends; its peak is 1."""
    swing = np.arctan2(y, x) - np.float32(shape.angle)
    swing = np.remainder(swing + np.float32(math.pi), np.float32(2.0 * math.pi)) - np.float32(math.pi)
    middle = np.float32(shape.radius_px) * exponential(np.float32(shape.widening) * swing)
    off = (length(x, y) - middle) / np.float32(shape.width_px)
    return exponential(np.float32(-0.5) * (off**2 + (swing / np.float32(0.5 * shape.extent)) ** 2))
