"""One model of an ensemble and all its training state.

What a member becomes depends on its own seed and on the batches it is given, not on the members beside it.
"""

from typing import Any

import numpy as np
import torch
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn

from ensemble.recipe import Recipe
from galaxy_zoo.tree import DecisionTree


def build_network(recipe: Recipe, tree: DecisionTree, *, pretrained: bool) -> nn.Sequential:
    """The network of a recipe with its head: images to votes."""
    network = recipe.network.build(size_px=recipe.view.size_px, outputs=len(tree.columns), pretrained=pretrained)
    return nn.Sequential(network, recipe.head.build(tree)).to(memory_format=torch.channels_last)


class Predictor:
    """Images to votes with bf16 autocast on a GPU; the head and all after it in float32.

    Args:
        compiled: on a GPU, compile the network; not where hooks have to see its layers.
    """

    def __init__(self, network: nn.Sequential, device: torch.device, *, compiled: bool = True) -> None:
        self.network = network.to(device)
        self._device = device
        is_compiled = compiled and device.type == "cuda"
        self._votes: Any = torch.compile(self._make_votes) if is_compiled else self._make_votes

    def __call__(self, images: Tensor) -> Tensor:
        """Votes of shape (batch, answers), float32, in [0, 1].

        Args:
            images: shape (batch, 3, size, size), channels-last, on the device.
        """
        votes: Tensor = self._votes(images)
        return votes

    @torch.no_grad()
    def predict(self, images: Tensor) -> Tensor:
        """As calling it, in evaluation mode and without gradients."""
        self.network.eval()
        return self(images)

    def _make_votes(self, images: Tensor) -> Tensor:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._device.type == "cuda"):
            logits = self.network[0](images)
        votes: Tensor = self.network[1](logits.float())
        return votes


class Member:
    """A network with its optimiser, schedule and running average of weights.

    Args:
        seed: of the initial weights and of dropout.
        pretrained: use pretrained weights where the recipe asks for them.
    """

    def __init__(
        self,
        recipe: Recipe,
        tree: DecisionTree,
        *,
        seed: int,
        steps_per_epoch: int,
        device: torch.device,
        pretrained: bool = True,
    ) -> None:
        torch.manual_seed(seed)
        self._recipe, self._seed = recipe, seed
        self._model = Predictor(build_network(recipe, tree, pretrained=pretrained), device)
        network = self._model.network
        self._optimiser = recipe.optimiser.build(network.parameters(), fused=device.type == "cuda")
        self._schedule = recipe.schedule.build(
            self._optimiser, epochs=recipe.training.epochs, steps_per_epoch=steps_per_epoch
        )
        decay = recipe.training.ema_decay
        self._ema = ModelEmaV3(network, decay=decay, use_warmup=True) if decay else None
        self._scored = self._model if self._ema is None else Predictor(self._ema.module, device)
        self.steps = 0

    @property
    def learning_rate(self) -> float:
        """Of the next step."""
        return float(self._optimiser.param_groups[0]["lr"])

    def step(self, images: Tensor, votes: Tensor) -> Tensor:
        """One update of the weights; returns the loss, a scalar on the device.

        Args:
            images: shape (batch, 3, size, size), channels-last, on the device.
            votes: shape (batch, answers), NaN where missing.
        """
        torch.manual_seed(_step_seed(self._seed, self.steps))  # for dropout
        network = self._model.network.train()
        loss = self._recipe.loss(self._model(images), votes)
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if self._recipe.training.gradient_clip:
            nn.utils.clip_grad_norm_(network.parameters(), self._recipe.training.gradient_clip)
        self._optimiser.step()
        self._schedule.step()
        self.steps += 1
        if self._ema is not None:
            self._ema.update(network, step=self.steps)
        return loss.detach()

    def predict(self, images: Tensor) -> Tensor:
        """Votes of shape (batch, answers), float32, from the running average of the weights where there is one."""
        return self._scored.predict(images)

    def weights(self) -> dict[str, Tensor]:
        """The weights that `predict` uses."""
        return dict(self._scored.network.state_dict())

    def state(self) -> dict[str, Any]:
        """All that is needed to go on as if nothing had happened."""
        return {
            "network": self._model.network.state_dict(),
            "ema": None if self._ema is None else self._ema.module.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "schedule": self._schedule.state_dict(),
            "steps": self.steps,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what `state` gave."""
        self._model.network.load_state_dict(state["network"])
        if self._ema is not None:
            self._ema.module.load_state_dict(state["ema"])
        _load_optimiser(self._optimiser, state["optimiser"])
        self._schedule.load_state_dict(state["schedule"])
        self.steps = state["steps"]


def _load_optimiser(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load an optimiser's state for use on this device.

    A checkpoint does not keep memory formats, and fused optimisers need those of the parameters. Nor should it
    decide whether the optimiser is fused: that depends on the device.
    """
    fused = [group.get("fused") for group in optimiser.param_groups]
    optimiser.load_state_dict(state)
    for group, here in zip(optimiser.param_groups, fused, strict=True):
        if "fused" in group:
            group["fused"] = here
    for parameter, values in optimiser.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                values[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _step_seed(seed: int, step: int) -> int:
    return int(np.random.SeedSequence([seed, step]).generate_state(1)[0])
