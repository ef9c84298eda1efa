"""Views, the images a network sees of a galaxy: one affine warp of the image, one affine change of its colours.

A `View` holds the ranges that views are drawn from. It is part of a recipe (`ensemble`), and `pipeline` carries it out,
so it lives below both.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from galaxy_zoo.strict import check_range

STAMP_OVERSAMPLING = 1.75
"""Ratio of the stamp's resolution to the view's. The warp interpolates bilinearly without antialiasing; against
an 8 x 8 supersampled reference on 60 real galaxies and four views, 1.75 gives 0.39 to 0.58 grey levels RMSE, 1.5
gives 0.41 to 0.62, 1.0 gives 0.64 to 1.27, 2.0 gives 0.52 to 0.78 (docs/experiments.md, 2026-11-20)."""

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green, blue in luma. Source: ITU-R BT.601."""

LARGEST_CROP_PX = 100_000
LARGEST_SIZE_PX = 8_192
ZOOMS = (0.001, 1_000)
"""Limits on zooms, far beyond any real view; others are a mistake or an attempt to exhaust the memory."""

CHANNELS = ("red", "green", "blue")
Channel = Literal["all", "red", "green", "blue"]
Framing = Literal["image", "centred", "scaled"]
Triple = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class View:
    """The ranges that views are drawn from, in pixels of the original image.

    >>> view = View(crop_px=256, size_px=128, rotation_deg=180, zoom=(0.9, 1.1), shift_px=4, flip=True)
    >>> view.stamp((424, 424))  # what is decoded and kept of an image, at 1.75 times the view's resolution
    Stamp(window_px=(412, 412), size_px=(359, 359))

    crop_px: side of the square window that fills the view at zoom 1; it is centred on the image.
    size_px: side of the view, the network's input.
    framing: "image" centres the window on the image; "centred" centres it on the galaxy as measured by `shard_tool
        objects`; "scaled" also multiplies the window by the ratio of the galaxy's radius to object_radius_px.
    object_radius_px: radius that each galaxy is scaled to at zoom 1; only for "scaled".
    rotation_deg: angle uniform in +-rotation_deg; 180: any angle.
    zoom: (lowest, highest); above 1 enlarges the galaxy.
    zoom_law: "log_uniform": the logarithm of the zoom is uniform; "uniform_side": the side of the window is.
    shift_px: shift of the window, uniform in +-shift_px along each axis.
    shear_deg: shear angle, uniform in +-shear_deg.
    flip: mirror half of the views left to right.
    brightness, contrast, saturation: factor uniform in [1 - x, 1 + x]; contrast is about mid-grey.
    colour_noise: standard deviation of the strength of the single colour component of Dieleman 2014.
    grey: put luma into all three channels.
    channel: "red", "green" or "blue": put that one into all three channels; "all": leave them as they are.
    turns_deg: angles by which each drawn view is rotated about its centre; everything else stays the same. With one
        angle (0: the view itself) images have shape (batch, 3, size, size), with several (batch, turns, 3, size, size).
    normalisation: "given": use mean and std as they are; "measured": use those of the training images in the shards'
        manifest, which `with_statistics` fills in.
    mean, std: red, green, blue of the normalisation (pixel - mean) / std, pixels in [0, 1].
    """

    crop_px: float
    size_px: int
    framing: Framing = "image"
    object_radius_px: float = 0.0
    rotation_deg: float = 0.0
    zoom: tuple[float, float] = (1.0, 1.0)
    zoom_law: Literal["log_uniform", "uniform_side"] = "log_uniform"
    shift_px: float = 0.0
    shear_deg: float = 0.0
    flip: bool = False
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    colour_noise: float = 0.0
    grey: bool = False
    channel: Channel = "all"
    turns_deg: tuple[float, ...] = (0.0,)
    normalisation: Literal["given", "measured"] = "given"
    mean: Triple = (0.5, 0.5, 0.5)
    std: Triple = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        """Raise ValueError if no view can have these values."""
        check_range("crop_px", self.crop_px, 1, LARGEST_CROP_PX)
        check_range("size_px", self.size_px, 1, LARGEST_SIZE_PX)
        check_range("zoom", self.zoom, *ZOOMS)
        _require(self.zoom[0] <= self.zoom[1], f"zoom must be [lowest, highest], not {self.zoom}")
        check_range("rotation_deg", self.rotation_deg, 0, 360)
        check_range("shift_px", self.shift_px, 0, LARGEST_CROP_PX)
        check_range("shear_deg", self.shear_deg, 0, 89)
        for name in ("brightness", "contrast", "saturation", "colour_noise"):
            check_range(name, getattr(self, name), 0, 100)
        check_range("mean", self.mean, -1e6, 1e6)
        check_range("std", self.std, 1e-6, 1e6)
        _require(
            not (self.grey and self.channel != "all"), f"grey and channel = {self.channel!r} exclude each other"
        )
        check_range("the number of turns_deg", len(self.turns_deg), 1, 64)
        check_range("turns_deg", self.turns_deg, -360, 360)
        _require(
            self.object_radius_px > 0 if self.framing == "scaled" else self.object_radius_px == 0,
            'object_radius_px, above 0, and framing = "scaled" go together',
        )
        given = (self.mean, self.std) != (View.mean, View.std)
        _require(
            not (given and self.normalisation == "measured"), "mean and std are given, or 'measured', not both"
        )

    @property
    def changes_colour(self) -> bool:
        """Whether a view changes colours, apart from the normalisation."""
        jitters = any((self.brightness, self.contrast, self.saturation, self.colour_noise))
        return self.grey or self.channel != "all" or jitters

    def with_statistics(self, mean: Triple, std: Triple) -> "View":
        """Return the view with the measured mean and std of red, green, blue filled in if it asks for them.

        For grey views the mean is exact. The std is an upper bound: the std of luma if the channels were fully
        correlated.
        """
        if self.normalisation == "given":
            return self
        if self.grey:
            mean, std = ((sum(w * v for w, v in zip(LUMA, each, strict=True)),) * 3 for each in (mean, std))
        elif self.channel != "all":
            mean, std = ((each[CHANNELS.index(self.channel)],) * 3 for each in (mean, std))
        return replace(self, normalisation="given", mean=mean, std=std)

    def stamp(self, image_px: tuple[int, int], zooms: Sequence[float] = ()) -> "Stamp":
        """Return the stamp of an image of (height, width) that every view in these ranges can be warped from.

        It allows for any rotation, even if training rotates less, so that test-time views use the same stamps.
        `zooms` are further zooms that the window has to cover; they do not change the resolution. Framed views need
        the whole image, since a galaxy may be anywhere in it.
        """
        widest = self.crop_px / min((self.zoom[0], *zooms)) * (1 + math.tan(math.radians(self.shear_deg)))
        reach = math.ceil(widest * math.sqrt(2) + 2 * self.shift_px)
        if self.framing != "image":
            reach = max(image_px)
        window = tuple(min(side, reach + (side - reach) % 2) for side in image_px)
        neutral_zoom = math.sqrt(self.zoom[0] * self.zoom[1])
        scale = min(1.0, STAMP_OVERSAMPLING * self.size_px * neutral_zoom / self.crop_px)
        size = tuple(max(1, round(side * scale)) for side in window)
        return Stamp((window[0], window[1]), (size[0], size[1]))


@dataclass(frozen=True)
class Stamp:
    """A centred window of an image and the size it is reduced to with antialiasing, (height, width) in pixels."""

    window_px: tuple[int, int]
    size_px: tuple[int, int]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
