"""Networks of the timm library, with their pretrained weights if wanted."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from ensemble.networks.limits import MOST_LAYERS, MOST_UNITS
from ensemble.networks.weights import Weights
from galaxy_zoo.errors import RunError
from galaxy_zoo.strict import check_range


@dataclass(frozen=True, kw_only=True)
class Timm:
    """A network of the timm library (see timm.list_models()) with its last layer replaced.

    model: its name in timm; a tag after a dot names one of several sets of weights.
    pretrained: start from timm's weights instead of random ones.
    hidden: widths of linear layers with a ReLU between the features and the last layer.
    dropout: rate before the last layer.
    frozen: train only what replaces the last layer; batch norm keeps its statistics. Needs pretrained weights.
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

    def build(self, *, size_px: int, outputs: int, pretrained: bool, weights: Weights | None = None) -> nn.Module:
        """Build the network. weights: pretrained weights to use whatever the recipe says, instead of downloaded ones.

        Raises:
            RunError: the weights cannot be downloaded or are not those of the model, or the network does not take
                images of `size_px`.
        """
        from timm.utils.model import freeze  # noqa: PLC0415

        wanted = weights is not None or (self.pretrained and pretrained)
        network: Any = self._create(size_px, outputs, pretrained=wanted, weights=weights)
        if self.hidden:
            inputs = network.get_classifier().in_features
            network.set_submodule(network.pretrained_cfg["classifier"], self._linear(inputs, outputs))
        if self.frozen:
            freeze(network)  # type: ignore[no-untyped-call]
            network.get_classifier().requires_grad_(requires_grad=True)
        module: nn.Module = network
        return module

    def _create(self, size_px: int, outputs: int, *, pretrained: bool, weights: Weights | None) -> Any:
        import timm  # noqa: PLC0415

        options: dict[str, Any] = {"num_classes": outputs, "pretrained": pretrained}
        # with hidden layers, `_linear` puts dropout before the last one
        options["drop_rate"] = 0.0 if self.hidden else self.dropout
        if getattr(timm.get_pretrained_cfg(self.model), "fixed_input_size", False):
            options["img_size"] = size_px  # vision transformers resample their position embedding
        try:
            if weights is not None:
                return self._load(weights, options)
            return timm.create_model(self.model, **options)
        except AssertionError as error:
            raise RunError(f"{self.model} does not take images of {size_px} px: {error}") from error
        except Exception as error:  # the hub's client raises errors of four libraries, depending on its version
            if not pretrained or weights is not None:
                raise
            reason = str(error).partition("\n")[0].rstrip(".")
            raise RunError(
                f"the pretrained weights of {self.model} cannot be downloaded: {type(error).__name__}: {reason}; "
                f"where there is a network, get {_published(self.model)}; give it with --weights FILE, or start from "
                "random weights with --no-pretrained"
            ) from error

    def _load(self, weights: Weights, options: dict[str, Any]) -> Any:
        """Create the network with weights from a file, except for the last layer, which is new.

        Raises:
            RunError: tensors are missing, unexpected or of another shape; the message names some.
        """
        import timm  # noqa: PLC0415

        published: Any = timm.get_pretrained_cfg(self.model)
        names = published.classifier or ()
        last = tuple(f"{name}." for name in ((names,) if isinstance(names, str) else names))
        kept = {name: each for name, each in weights.tensors.items() if not name.startswith(last)}
        whole = options | {"num_classes": published.num_classes}
        with torch.device("meta"):
            own = timm.create_model(self.model, **whole | {"pretrained": False}).state_dict()
            shapes = {name: each.to("meta") for name, each in kept.items()}
            shapes |= {name: each for name, each in own.items() if name.startswith(last)}
            try:  # timm forgives missing tensors unless it loads the last layer too
                timm.create_model(self.model, **whole, pretrained_cfg_overlay={"state_dict": shapes})
            except Exception as error:  # what converts the names of a model's older weights raises anything
                raise RunError(
                    f"{weights.path}: not weights of {self.model}: {_misfit(str(error))}; "
                    f"get {_published(self.model)}"
                ) from error
        # with another number of classes than in `options`, timm draws the last layer anew
        overlay = {"state_dict": kept, "num_classes": 0}
        network: Any = timm.create_model(self.model, **options, pretrained_cfg_overlay=overlay)
        del network.pretrained_cfg["state_dict"]
        return network

    def _linear(self, inputs: int, outputs: int) -> nn.Sequential:
        """Build the linear layers that replace timm's last one."""
        layers: list[nn.Module] = []
        for width in self.hidden:
            layers += [nn.Linear(inputs, width), nn.ReLU(inplace=True)]
            inputs = width
        return nn.Sequential(*layers, nn.Dropout(self.dropout), nn.Linear(inputs, outputs))


def _published(model: str) -> str:
    """Return the name, model and address of the file with a model's published weights."""
    import timm  # noqa: PLC0415

    published: Any = timm.get_pretrained_cfg(model)
    if published.hf_hub_id:
        name = published.hf_hub_filename or "model.safetensors"
        return (
            f"{name} of {published.hf_hub_id} (https://huggingface.co/{published.hf_hub_id}/resolve/main/{name})"
        )
    return f"the weights of {model}" + (f" ({published.url})" if published.url else "")


def _misfit(text: str) -> str:
    """Summarise an error of `Module.load_state_dict`, which lists every tensor that does not fit."""
    found = []
    for word in ("Missing", "Unexpected"):
        for line in re.findall(rf"{word} key\(s\) in state_dict: (.*)", text):
            found.append(f"{word.lower()} " + _first_three(re.findall(r'"(.+?)"', line)))
    if shapes := re.findall(r"size mismatch for (\S+): .*?Size\((.*?)\).*?Size\((.*?)\)", text):
        found.append(
            "wrong shapes " + _first_three([f"{name} {has} instead of {wanted}" for name, has, wanted in shapes])
        )
    return "; ".join(found) or f"timm cannot convert them ({text.partition(chr(10))[0]})"


def _first_three(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")
