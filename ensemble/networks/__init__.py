"""Networks: images of shape (batch, 3, size, size) to logits of shape (batch, outputs).

Networks that look at several turns of a view take images of shape (batch, turns, 3, size, size).

A kind of network is a frozen dataclass whose fields are the keys of [network] in a recipe.
"""

from typing import ClassVar, Protocol

from torch import nn

from ensemble.networks.backbones import Timm
from ensemble.networks.convolutional import Cnn, LinNet
from ensemble.networks.dieleman import Dieleman
from ensemble.networks.equivariant import GroupCnn


class Network(Protocol):
    """The description of a network in a recipe. num_turns: number of turns of a view that it looks at."""

    num_turns: ClassVar[int]

    def build(self, *, size_px: int, outputs: int, pretrained: bool) -> nn.Module:
        """Make the network with fresh (or, where it has them and `pretrained`, downloaded) weights."""


NETWORKS: dict[str, type[Network]] = {
    "cnn": Cnn,
    "dieleman": Dieleman,
    "group_cnn": GroupCnn,
    "linnet": LinNet,
    "timm": Timm,
}
