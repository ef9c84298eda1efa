"""Frame views by the galaxy: centre the window on it and, if asked, scale the window with its size.

A warp (`augment`) shows the stamp about the stamp's centre. A frame moves the points it shows, in stamp coordinates:

    framed = galaxy + scale * (stamp - middle(stamp)),    scale = radius / View.object_radius_px, or 1 unless "scaled"

So a view rotates and zooms about the galaxy, and its shift grows with the galaxy.
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
"""Largest factor by which a window grows or shrinks; a radius beyond it is mostly wrong. Source: Dieleman 2014."""

Frame = Callable[[list[Parameters], NDArray[np.int64]], list[Parameters]]
"""Takes the parameters of the views of some samples, returns those of the framed views."""


def make_framing(view: View, stamp: Stamp, samples: Samples) -> Frame:
    """Return the function that frames views of `samples` as `view` says.

    Raises:
        ShardError: the view needs measured galaxies, and they were not measured.
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
