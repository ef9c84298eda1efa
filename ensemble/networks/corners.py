"""The parts of a view that Dieleman's network looks at: its corners, mirrored or not, all in one orientation."""

import torch
from torch import Tensor


def corner_parts(images: Tensor, part_px: int) -> Tensor:
    """Return the four corners of each image and of its mirror image, rotated to put the image's centre bottom right.

    Rotations by 90 degrees and mirroring are exact on pixels, so the network does them. Other angles need a warp of
    the stamp, so the pipeline does those (`View.turns_deg`).

    Args:
        images: shape (batch, turns, 3, size, size).
        part_px: side of a part. Parts overlap if it is over half the size.

    Returns:
        Shape (batch, turns * 8, 3, part_px, part_px); 16 parts for the turns [0, 45]. New memory.

    Source: Dieleman 2014, kaggle-galaxies (layers.py, MultiRotSliceLayer).
    """
    seen = torch.stack([images, images.flip(-1)], dim=2)
    corners = [torch.rot90(seen, quarter, (-2, -1))[..., :part_px, :part_px] for quarter in range(4)]
    return torch.stack(corners, dim=3).flatten(1, 3)
