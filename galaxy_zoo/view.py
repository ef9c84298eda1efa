"""What a network sees of a galaxy: one affine warp of the image and one affine change of its colours.

A `View` is the range a view is drawn from. It is part of a recipe (`ensemble`) and carried out by `pipeline`,
so it lives below both.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

STAMP_OVERSAMPLING = 1.75
"""Resolution of the stamp over that of the view. The warp interpolates bilinearly without antialiasing; against
an 8 x 8 supersampled reference on 60 real galaxies and four views, 1.75 gives 0.39 to 0.58 grey levels RMSE, 1.5
gives 0.41 to 0.62, 1.0 gives 0.64 to 1.27, 2.0 gives 0.52 to 0.78 (docs/experiments.md, 2026-11-20)."""

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green, blue in luma. Source: ITU-R BT.601."""

CHANNELS = ("red", "green", "blue")
Channel = Literal["all", "red", "green", "blue"]
Framing = Literal["image", "centred", "scaled"]
Triple = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class View:
    """The ranges a view is drawn from, in pixels of the original image.

    crop_px: side of the square window around the image's centre that fills the view, at zoom 1.
    size_px: side of the view, what the network gets.
    framing: what the window goes by: the "image"; "centred", the galaxy as `shard_tool objects` measured it, at which
        its middle is; or "scaled", which also makes the window as much larger as the galaxy is than object_radius_px.
    object_radius_px: what the radius of each galaxy is scaled to, at zoom 1; for "scaled" alone.
    rotation_deg: angle uniform in +-rotation_deg; 180 is any angle.
    zoom: (lowest, highest), log-uniform; above 1 the galaxy looks larger.
    shift_px: shift of the window, uniform in +-shift_px along each axis.
    shear_deg: shear angle, uniform in +-shear_deg.
    flip: mirror half of the views left to right.
    brightness, contrast, saturation: factor uniform in [1 - x, 1 + x]; contrast is about mid-grey.
    colour_noise: standard deviation of the strength of the single colour component of Dieleman 2014.
    grey: luma in all three channels.
    channel: "red", "green" or "blue": that one in all three channels; "all" leaves them as they are.
    turns_deg: angles by which each drawn view is seen turned about its middle, everything else the same. With one
        (0 is the view itself) a network gets images of shape (batch, 3, size, size), with several
        (batch, turns, 3, size, size).
    normalisation: "given" by mean and std, or "measured": the mean and std of the training images, which the shards'
        manifest holds; `with_statistics` fills them in.
    mean, std: of the normalisation (pixel - mean) / std, pixels in [0, 1], red, green, blue.
    """

    crop_px: float
    size_px: int
    framing: Framing = "image"
    object_radius_px: float = 0.0
    rotation_deg: float = 0.0
    zoom: tuple[float, float] = (1.0, 1.0)
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
        """Raise ValueError where a value makes no view."""
        _require(self.crop_px > 0, f"crop_px must be above 0, not {self.crop_px}")
        _require(self.size_px > 0, f"size_px must be above 0, not {self.size_px}")
        _require(0 < self.zoom[0] <= self.zoom[1], f"zoom must be [lowest, highest], above 0, not {self.zoom}")
        _require(0 <= self.shear_deg < 90, f"shear_deg must be in [0, 90), not {self.shear_deg}")
        for name in ("rotation_deg", "shift_px", "brightness", "contrast", "saturation", "colour_noise"):
            _require(getattr(self, name) >= 0, f"{name} must not be negative, not {getattr(self, name)}")
        _require(min(self.std) > 0, f"std must be above 0, not {self.std}")
        _require(
            not (self.grey and self.channel != "all"), f"grey and channel = {self.channel!r} exclude each other"
        )
        _require(len(self.turns_deg) > 0, "turns_deg must hold an angle; [0.0] is the view itself")
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
        """Whether a view's colours differ from the image's, apart from the normalisation."""
        jitters = any((self.brightness, self.contrast, self.saturation, self.colour_noise))
        return self.grey or self.channel != "all" or jitters

    def with_statistics(self, mean: Triple, std: Triple) -> "View":
        """The same view with the measured mean and std of the images' red, green, blue, where it asks for them.

        Of grey pixels only the mean follows from those: luma of the std is what it would be if the channels rose
        and fell together, and never less than it is.
        """
        if self.normalisation == "given":
            return self
        if self.grey:
            mean, std = ((sum(w * v for w, v in zip(LUMA, each, strict=True)),) * 3 for each in (mean, std))
        elif self.channel != "all":
            mean, std = ((each[CHANNELS.index(self.channel)],) * 3 for each in (mean, std))
        return replace(self, normalisation="given", mean=mean, std=std)

    def stamp(self, image_px: tuple[int, int], zooms: Sequence[float] = ()) -> "Stamp":
        """What to keep of an image of (height, width) so that every view of this range can be warped from it.

        Any rotation is allowed for, also where training rotates less, so that test-time views are cut from the
        same stamps. `zooms` are further ones that the window has to cover; the resolution is that of the range. Of
        framed views it is the whole image, for a galaxy may be anywhere in it.
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
    """A centred window of an image, reduced with antialiasing; both (height, width) in pixels."""

    window_px: tuple[int, int]
    size_px: tuple[int, int]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
