"""Views framed by the galaxy: the window centred on it, and as large as it asks for, whatever else a view does.

A warp (`augment`) shows the stamp about its middle. A frame moves what it shows, in the coordinates of the stamp:

    framed = galaxy + scale * (stamp - middle(stamp)),    scale = radius / View.object_radius_px, or 1 unless "scaled"

So an angle, a zoom, a shift of a view are about the galaxy, and a shift is as much larger as the galaxy is.
Source: Dieleman 2014, kaggle-galaxies (realtime_augmentation.py).
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from galaxy_zoo.view import Stamp, View
from pipeline.augment import Parameters
from pipeline.shards import Samples

MAX_SCALE = 1.5
"""A window grows and shrinks by this at most, for a radius that is far off is mostly wrong. Source: Dieleman 2014."""

Frame = Callable[[list[Parameters], NDArray[np.int64]], list[Parameters]]
"""From the parameters of the views of some samples to those of the framed views."""


def make_framing(view: View, stamp: Stamp, samples: Samples) -> Frame:
    """What frames views of `samples` as `view` says.

    Raises:
        ShardError: the galaxies have to be known and were not measured.
    """
    if view.framing == "image":
        return lambda views, _: views
    width_and_height = np.array(stamp.size_px[::-1])
    reduction = width_and_height / stamp.window_px[::-1]
    middle = width_and_height / 2
    galaxies = middle + reduction * (samples.objects.centres_px - np.array(samples.image_px[::-1]) / 2)
    scales = np.ones(len(samples))
    if view.framing == "scaled":
        scales = np.clip(samples.objects.radii_px / view.object_radius_px, 1 / MAX_SCALE, MAX_SCALE)

    def frame(views: list[Parameters], chosen: NDArray[np.int64]) -> list[Parameters]:
        scale, galaxy = scales[chosen, None, None], galaxies[chosen]
        framed = []
        for each in views:
            warps = scale * each.warps
            warps[:, :, 2] += galaxy - scale[:, 0] * middle
            framed.append(replace(each, warps=warps.astype(np.float32)))
        return framed

    return frame
