"""Parameters of views, drawn or fixed: one affine warp and one affine change of colours.

Coordinates are continuous: pixel i covers [i, i + 1), the centre of an image of `size` pixels is `size / 2`.
A warp maps a point of the view to the point of the stamp it shows:

    stamp = middle(stamp) + reduction * (shift + scale * rotation @ shear @ flip @ (view - middle(view))),
    scale = crop / zoom / size

Every parameter is a function of (seed, epoch, position in the epoch's order), so views do not depend on the number of
ranks, threads or members, nor on the step at which an epoch is resumed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from galaxy_zoo.view import CHANNELS, LUMA, Stamp, View

Floats = NDArray[np.float64]
Positions = range | NDArray[np.int64]
"""Positions in the order of an epoch, ascending. Random numbers are drawn for gaps too, so keep them close together."""

COLOUR_COMPONENT = np.array([-0.0148366, -0.01253134, -0.01040762])
"""The principal colour component of the challenge's images, times its spread. Source: Dieleman 2014,
kaggle-galaxies (realtime_augmentation.py)."""

UNIFORMS = 12
"""Number of uniform random numbers a view uses; a multiple of the 4 that one step of Philox yields."""


@dataclass(frozen=True)
class Parameters:
    """Parameters of the views of some samples.

    warps: float32, shape (samples, 2, 3), from view to stamp coordinates.
    colours: float32, shape (samples, 3, 4): [matrix | offset] for pixels in [0, 1]; the result is clipped.
        None, if and only if `View.changes_colour` is false, leaves colours as they are.
    """

    warps: NDArray[np.float32]
    colours: NDArray[np.float32] | None

    def __getitem__(self, some: slice) -> "Parameters":
        """Return the parameters of some of the samples."""
        return Parameters(self.warps[some], None if self.colours is None else self.colours[some])


class Views(Protocol):
    """The views to make of each sample."""

    @property
    def view(self) -> View:
        """The recipe's view, which gives the size, the turns and the normalisation."""

    def __len__(self) -> int:
        """Return the number of views of each sample, not counting their turns."""

    def stamp(self, image_px: tuple[int, int]) -> Stamp:
        """Return the stamp that all views of an image of (height, width) are warped from."""

    def parameters(self, stamp: Stamp, epoch: int, positions: Positions) -> list[Parameters]:
        """Return the parameters of each view and turn, for the samples at `positions` in the order of the epoch."""


@dataclass(frozen=True)
class RandomViews:
    """Random views from the ranges of `view`: one of each sample for each seed; each member has a seed.

    >>> view = View(crop_px=256, size_px=128, rotation_deg=180)
    >>> len(RandomViews(view)), len(RandomViews(view, seeds=(1, 2)))
    (1, 2)
    """

    view: View
    seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        """Raise ValueError if the normalisation is not known yet."""
        _check_normalisation(self.view)

    def __len__(self) -> int:
        return len(self.seeds)

    def stamp(self, image_px: tuple[int, int]) -> Stamp:
        """Return the stamp for all views."""
        return self.view.stamp(image_px)

    def parameters(self, stamp: Stamp, epoch: int, positions: Positions) -> list[Parameters]:
        """Return the parameters of each view and turn."""
        drawn = (draw_uniforms(seed, epoch, positions) for seed in self.seeds)
        return [
            each
            for u in drawn
            for each in _turned(self.view, random_warps(self.view, stamp, u), random_colours(self.view, u))
        ]


@dataclass(frozen=True)
class FixedView:
    """One test-time view: an angle, a zoom, and whether it is mirrored.

    >>> FixedView(rotation_deg=90, flip=True)
    FixedView(rotation_deg=90, zoom=1.0, flip=True)
    """

    rotation_deg: float = 0.0
    zoom: float = 1.0
    flip: bool = False


@dataclass(frozen=True)
class FixedViews:
    """The same views of every sample, without random changes.

    >>> view = View(crop_px=256, size_px=128)
    >>> len(FixedViews(view)), len(FixedViews(view, (FixedView(), FixedView(rotation_deg=90))))
    (1, 2)
    """

    view: View
    views: tuple[FixedView, ...] = (FixedView(),)

    def __post_init__(self) -> None:
        """Raise ValueError if the normalisation is not known yet."""
        _check_normalisation(self.view)

    def __len__(self) -> int:
        return len(self.views)

    def stamp(self, image_px: tuple[int, int]) -> Stamp:
        """Return the stamp for all views."""
        return self.view.stamp(image_px, [each.zoom for each in self.views])

    def parameters(self, stamp: Stamp, epoch: int, positions: Positions) -> list[Parameters]:  # noqa: ARG002
        """Return the parameters of each view and turn."""
        count = len(positions)
        colours = _fixed_colours(self.view, count)
        warps = (
            warp_matrices(
                self.view,
                stamp,
                angle=np.full(count, math.radians(each.rotation_deg)),
                zoom=np.full(count, each.zoom),
                flip=np.full(count, each.flip),
            )
            for each in self.views
        )
        return [each for warp in warps for each in _turned(self.view, warp, colours)]


def rotations_and_flips(count: int, zooms: Sequence[float] = (1.0,)) -> tuple[FixedView, ...]:
    """Return `count` views, rotations x zooms x flip: each angle at every zoom, plain and mirrored.

    `count` is the number of zooms (only the plain view at each zoom) or a multiple of twice that number. Angles are
    360 / rotations degrees apart, except that angles a multiple of 90 degrees apart are moved by a part of that step:
    otherwise they would be the same view to a network that is equivariant to rotations by 90 degrees.

    Raises:
        ValueError: there are no such views, or a zoom is not above 0.
    """
    if not zooms or not all(0 < zoom < math.inf for zoom in zooms):
        raise ValueError(f"zooms must be above 0, not {', '.join(map(str, zooms)) or 'none'}")
    if count == len(zooms):
        return tuple(FixedView(zoom=zoom) for zoom in zooms)
    rotations, rest = divmod(count, 2 * len(zooms))
    if count < 1 or rest:
        at = f" at {len(zooms)} zooms" if len(zooms) > 1 else ""
        raise ValueError(
            f"{count} views{at}: give {len(zooms)} or a multiple of {2 * len(zooms)}, "
            "since each rotation is seen at each zoom, plain and mirrored"
        )
    alike = math.gcd(rotations, 4)  # number of angles that differ by multiples of 90 degrees
    angles = [(360.0 * i + 90.0 * (i * alike // rotations)) / rotations for i in range(rotations)]
    return tuple(FixedView(angle, zoom, flip) for angle in angles for zoom in zooms for flip in (False, True))


def draw_uniforms(seed: int, epoch: int, positions: Positions) -> Floats:
    """Return uniform numbers in [0, 1), shape (positions, UNIFORMS); each row depends only on its position."""
    if not len(positions):
        return np.empty((0, UNIFORMS))
    first, last = int(positions[0]), int(positions[-1])
    key = np.random.SeedSequence([seed, epoch]).generate_state(2, np.uint64)
    generator = np.random.Philox(key=key).advance(first * (UNIFORMS // 4))
    numbers = np.random.Generator(generator).random((last - first + 1, UNIFORMS))
    return np.asarray(numbers[np.asarray(positions) - first])


def random_warps(view: View, stamp: Stamp, uniforms: Floats) -> NDArray[np.float32]:
    """Return warps drawn from the ranges of `view`, shape (samples, 2, 3)."""
    angle, zoom, shift_x, shift_y, shear, flip = uniforms.T[:6]
    return warp_matrices(
        view,
        stamp,
        angle=np.radians(_symmetric(angle, view.rotation_deg)),
        zoom=_drawn_zoom(view, zoom),
        shift=np.stack([_symmetric(shift_x, view.shift_px), _symmetric(shift_y, view.shift_px)], axis=1),
        shear=np.radians(_symmetric(shear, view.shear_deg)),
        flip=view.flip & (flip < 0.5),
    )


def _drawn_zoom(view: View, uniform: Floats) -> Floats:
    """Map [0, 1) to the range of zooms by the view's law."""
    if view.zoom_law == "uniform_side":  # the side is crop_px / zoom
        widest, narrowest = 1 / np.array(view.zoom)
        return np.asarray(1 / (widest + (narrowest - widest) * uniform))
    low, high = np.log(view.zoom)
    return np.asarray(np.exp(low + (high - low) * uniform))


def warp_matrices(
    view: View,
    stamp: Stamp,
    *,
    angle: Floats,
    zoom: Floats,
    shift: Floats | None = None,
    shear: Floats | None = None,
    flip: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """Build warps, shape (samples, 2, 3): see the formula at the top of this file.

    Args:
        angle, shear: radians, shape (samples,).
        shift: pixels of the image, (x, y), shape (samples, 2).
    """
    mirror = np.where(flip, -1.0, 1.0)
    slant = np.tan(shear) if shear is not None else np.zeros_like(angle)
    cos, sin = np.cos(angle), np.sin(angle)
    # rotation @ [[1, slant], [0, 1]] @ [[mirror, 0], [0, 1]]
    linear = np.stack([cos * mirror, cos * slant - sin, sin * mirror, sin * slant + cos], axis=1).reshape(-1, 2, 2)
    linear *= (view.crop_px / view.size_px / zoom)[:, None, None]
    reduction = np.array(stamp.size_px[::-1]) / np.array(stamp.window_px[::-1])  # x, y
    linear *= reduction[:, None]
    middle = np.array(stamp.size_px[::-1]) / 2 - linear @ np.full(2, view.size_px / 2)
    if shift is not None:
        middle += reduction * shift
    return np.concatenate([linear, middle[:, :, None]], axis=2).astype(np.float32)


def random_colours(view: View, uniforms: Floats) -> NDArray[np.float32] | None:
    """Return colour changes drawn from the ranges of `view`, shape (samples, 3, 4); None if it changes no colours.

    The order is: contrast about mid-grey, brightness, saturation (these as DALI's brightness_contrast and saturation),
    Dieleman's noise along one colour component, then grey or a single channel.
    """
    if not view.changes_colour:
        return None
    brightness, contrast, saturation, radius, angle = uniforms.T[6:11]
    factor = 1 + _symmetric(brightness, view.brightness)
    gain = factor * (1 + _symmetric(contrast, view.contrast))
    offset = factor * -0.5 * _symmetric(contrast, view.contrast)
    colourful = 1 + _symmetric(saturation, view.saturation)
    normal = np.sqrt(-2 * np.log1p(-radius)) * np.cos(2 * np.pi * angle)  # Box-Muller
    # rows: red, green, blue
    saturate = colourful[:, None, None] * np.eye(3) + (1 - colourful)[:, None, None] * LUMA
    noise = view.colour_noise * normal[:, None] * COLOUR_COMPONENT
    matrix = gain[:, None, None] * saturate
    changes = np.concatenate([matrix, (offset[:, None] + noise)[:, :, None]], axis=2)
    return np.asarray(_chosen_channels(view) @ changes, np.float32)


def _fixed_colours(view: View, count: int) -> NDArray[np.float32] | None:
    if not view.changes_colour:
        return None
    matrix = np.concatenate([_chosen_channels(view), np.zeros((3, 1))], axis=1)
    return np.tile(matrix, (count, 1, 1)).astype(np.float32)


def _chosen_channels(view: View) -> Floats:
    """Return the matrix from red, green, blue to the three channels of the view, shape (3, 3)."""
    if view.grey:
        return np.tile(LUMA, (3, 1))
    if view.channel != "all":
        return np.tile(np.eye(3)[CHANNELS.index(view.channel)], (3, 1))
    return np.eye(3)


def _turned(view: View, warps: NDArray[np.float32], colours: NDArray[np.float32] | None) -> list[Parameters]:
    """Return the views rotated about their centre by each of `view.turns_deg`."""
    return [Parameters(_turn(warps, view.size_px / 2, math.radians(deg)), colours) for deg in view.turns_deg]


def _turn(warps: NDArray[np.float32], middle: float, angle: float) -> NDArray[np.float32]:
    if angle == 0:
        return warps
    cos, sin = math.cos(angle), math.sin(angle)
    rotation = np.array([[cos, -sin], [sin, cos]])
    offset = np.full(2, middle) - rotation @ np.full(2, middle)
    about_middle = np.concatenate([rotation, offset[:, None]], axis=1)
    turned = warps[:, :, :2].astype(np.float64) @ about_middle
    turned[:, :, 2] += warps[:, :, 2]
    return np.asarray(turned, np.float32)


def _check_normalisation(view: View) -> None:
    if view.normalisation == "measured":
        raise ValueError("the normalisation has not been measured yet; call View.with_statistics first")


def _symmetric(uniform: Floats, limit: float) -> Floats:
    """Map [0, 1) to [-limit, limit)."""
    return (2 * uniform - 1) * limit


def member_seeds(seed: int, members: Sequence[int]) -> tuple[int, ...]:
    """Return a seed for each member, which does not depend on the members that train beside it."""
    return tuple(int(np.random.SeedSequence([seed, member]).generate_state(1)[0]) for member in members)
