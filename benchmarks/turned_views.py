"""Views turned by given angles, to compare the pixels of loaders."""

from dataclasses import dataclass

import numpy as np

from galaxy_zoo.view import Stamp, View
from pipeline.augment import Parameters, Positions, warp_matrices


@dataclass(frozen=True)
class TurnedViews:
    """One view of each of the first samples, turned by its angle; see `pipeline.augment.Views`."""

    view: View
    angles_deg: tuple[float, ...]

    def __len__(self) -> int:
        return 1

    def stamp(self, image_px: tuple[int, int]) -> Stamp:
        """See `Views`."""
        return self.view.stamp(image_px)

    def parameters(self, stamp: Stamp, epoch: int, positions: Positions) -> list[Parameters]:  # noqa: ARG002
        """See `Views`; samples after the last angle are not turned."""
        given = dict(enumerate(np.radians(self.angles_deg)))
        angles = np.array([given.get(position, 0.0) for position in positions])
        plain = np.zeros(len(positions), bool)
        return [
            Parameters(warp_matrices(self.view, stamp, angle=angles, zoom=np.ones_like(angles), flip=plain), None)
        ]
