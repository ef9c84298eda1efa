"""Views turned by given angles, to compare the pixels of loaders."""

from dataclasses import dataclass

import numpy as np

from galaxy_zoo.view import Stamp, View
from pipeline.augment import Parameters, warp_matrices


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

    def parameters(self, stamp: Stamp, epoch: int, positions: range) -> list[Parameters]:  # noqa: ARG002
        """See `Views`; samples after the last angle are not turned."""
        angles = np.zeros(len(positions))
        some = self.angles_deg[positions.start : positions.stop]
        angles[: len(some)] = np.radians(some)
        plain = np.zeros(len(positions), bool)
        return [
            Parameters(warp_matrices(self.view, stamp, angle=angles, zoom=np.ones_like(angles), flip=plain), None)
        ]
