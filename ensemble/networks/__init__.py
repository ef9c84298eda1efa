"""Networks turn images, shape (batch, 3, size, size), into logits, shape (batch, outputs).

A network that looks at several turns (rotated copies) of a view takes images of shape (batch, turns, 3, size, size).

A kind of network is a frozen dataclass whose fields are the keys of [network] in a recipe.
"""

from typing import ClassVar, Protocol

from torch import nn

from ensemble.networks.backbones import Timm
from ensemble.networks.convolutional import Cnn, LinNet
from ensemble.networks.dieleman import Dieleman
from ensemble.networks.equivariant import GroupCnn


class Network(Protocol):
    """Description of a network in a recipe. num_turns: number of turns of a view that the network looks at."""

    num_turns: ClassVar[int]

    def build(self, *, size_px: int, outputs: int, pretrained: bool) -> nn.Module:
        """Build the network with random weights, or with downloaded ones if `pretrained` and the network has some."""


NETWORKS: dict[str, type[Network]] = {
    "cnn": Cnn,
    "dieleman": Dieleman,
    "group_cnn": GroupCnn,
    "linnet": LinNet,
    "timm": Timm,
}
