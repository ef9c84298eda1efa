"""The parts of a view that Dieleman's network looks at: its corners, mirrored and not, all turned the same way."""

import torch
from torch import Tensor


def corner_parts(images: Tensor, part_px: int) -> Tensor:
    """Cut the four corners of each image and of its mirror image, turned so that the image's middle is bottom right.

    Rotating by quarters and mirroring are exact on pixels, so the network does them; turns by other angles have to
    be warped from the stamp, so the pipeline does those (`View.turns_deg`).

    Args:
        images: shape (batch, turns, 3, size, size).
        part_px: side of a part. Parts overlap where it is over half the size.

    Returns:
        Shape (batch, turns * 8, 3, part_px, part_px); 16 parts for the turns [0, 45]. New memory.

    Source: Dieleman 2014, kaggle-galaxies (layers.py, MultiRotSliceLayer).
    """
    seen = torch.stack([images, images.flip(-1)], dim=2)
    corners = [torch.rot90(seen, quarter, (-2, -1))[..., :part_px, :part_px] for quarter in range(4)]
    return torch.stack(corners, dim=3).flatten(1, 3)
