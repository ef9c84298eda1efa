"""Networks of the timm library, with their pretrained weights if wanted."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from ensemble.networks.limits import MOST_LAYERS, MOST_UNITS
from galaxy_zoo.errors import RunError
from galaxy_zoo.strict import check_range


@dataclass(frozen=True, kw_only=True)
class Timm:
    """A network of the timm library (see timm.list_models()) with its last layer replaced.

    model: its name in timm; a tag after a dot names one of several sets of weights.
    pretrained: start from timm's weights instead of random ones.
    hidden: widths of linear layers with a ReLU between the features and the last layer.
    dropout: rate before the last layer.
    frozen: train only what replaces the last layer; batch norm keeps its statistics.
    """

    num_turns: ClassVar[int] = 1

    model: str
    pretrained: bool = True
    hidden: tuple[int, ...] = ()
    dropout: float = 0.0
    frozen: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError if timm has no such model."""
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), not {self.dropout}")
        check_range("the number of hidden layers", len(self.hidden), 0, MOST_LAYERS)
        check_range("hidden", self.hidden, 1, MOST_UNITS)
        if self.frozen and not self.pretrained:
            raise ValueError("frozen without pretrained would never learn")
        import timm  # noqa: PLC0415 (takes seconds)

        if not timm.is_model(self.model):
            close = timm.list_models(f"*{self.model.split('.')[0][:6]}*")[:5]
            raise ValueError(f"timm has no model {self.model!r}; close: {', '.join(close) or 'none'}")

    def build(self, *, size_px: int, outputs: int, pretrained: bool) -> nn.Module:
        """Build the network.

        Raises:
            RunError: the weights cannot be downloaded, or the network does not take images of `size_px`.
        """
        from timm.utils.model import freeze  # noqa: PLC0415

        wanted = self.pretrained and pretrained
        network: Any = self._create(size_px, outputs, pretrained=wanted)
        if self.hidden:
            inputs = network.get_classifier().in_features
            network.set_submodule(network.pretrained_cfg["classifier"], self._linear(inputs, outputs))
        if self.frozen and wanted:  # frozen random weights would be useless
            freeze(network)  # type: ignore[no-untyped-call]
            network.get_classifier().requires_grad_(requires_grad=True)
        module: nn.Module = network
        return module

    def _create(self, size_px: int, outputs: int, *, pretrained: bool) -> Any:
        import timm  # noqa: PLC0415

        options: dict[str, Any] = {"num_classes": outputs, "pretrained": pretrained}
        options["drop_rate"] = (
            0.0 if self.hidden else self.dropout
        )  # otherwise dropout sits in front of our last layer
        if getattr(timm.get_pretrained_cfg(self.model), "fixed_input_size", False):
            options["img_size"] = size_px  # vision transformers resample their position embedding
        try:
            return timm.create_model(self.model, **options)
        except AssertionError as error:
            raise RunError(f"{self.model} does not take images of {size_px} px: {error}") from error
        except Exception as error:  # the hub's client raises errors of four libraries, depending on its version
            if not pretrained:
                raise
            reason = str(error).partition("\n")[0].rstrip(".")
            raise RunError(
                f"the pretrained weights of {self.model} cannot be loaded: {type(error).__name__}: {reason}; "
                "connect to the internet once (they are then kept in the Hugging Face cache), or start from "
                "random weights with --no-pretrained"
            ) from error

    def _linear(self, inputs: int, outputs: int) -> nn.Sequential:
        """Build the linear layers that replace timm's last one."""
        layers: list[nn.Module] = []
        for width in self.hidden:
            layers += [nn.Linear(inputs, width), nn.ReLU(inplace=True)]
            inputs = width
        return nn.Sequential(*layers, nn.Dropout(self.dropout), nn.Linear(inputs, outputs))
