"""One model of an ensemble and all its training state.

A member depends only on its own seed and on its batches, not on the members trained beside it.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ensemble.model import Predictor, build_network
from ensemble.networks.weights import Weights
from ensemble.recipe import Recipe
from galaxy_zoo.tree import DecisionTree
from training.ranks import ALONE, Ranks


class Member:
    """A network with its optimiser, schedule and running average of weights.

    predictor: the network, with the running average of the weights if the recipe asks for one.

    Args:
        seed: seed of the initial weights and of dropout.
        pretrained: use pretrained weights if the recipe asks for them.
        weights: pretrained weights from a file, for a timm network.
        trial: number of the trial; each has other initial weights.
        team: ranks that train the member together.
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
        weights: Weights | None = None,
        trial: int = 0,
        team: Ranks = ALONE,
    ) -> None:
        torch.manual_seed(_sub_seed(seed, trial) if trial else seed)
        self._recipe, self._seed, self._team = recipe, seed, team
        self._network = build_network(recipe, tree, pretrained=pretrained, weights=weights).to(device)
        self._trained = DistributedDataParallel(self._network) if team.world_size > 1 else self._network
        self._loss = recipe.loss.build(tree)
        self._loss_of: Any = torch.compile(self._forward) if device.type == "cuda" else self._forward
        self._optimiser = recipe.optimiser.build(self._network[0], fused=device.type == "cuda")
        self._schedule = recipe.schedule.build(
            self._optimiser, epochs=recipe.training.epochs, steps_per_epoch=steps_per_epoch
        )
        decay = recipe.training.ema_decay
        self._ema = ModelEmaV3(self._network, decay=decay, use_warmup=True) if decay else None
        self.predictor = Predictor(self._network if self._ema is None else self._ema.module, device)
        self.steps, self.stopped = 0, False

    @property
    def learning_rate(self) -> float:
        """Learning rate of the next step."""
        return float(self._optimiser.param_groups[0]["lr"])

    @property
    def num_parameters(self) -> int:
        """Number of parameters of the network with its head."""
        return sum(each.numel() for each in self._network.parameters())

    def step(self, images: Tensor, votes: Tensor, *, weight: float = 1.0) -> Tensor:
        """Update the weights once, and return the loss, a scalar on the device.

        A member that has stopped does nothing and returns 0.

        Args:
            images: shape (batch, 3, size, size), channels-last, on the device.
            votes: shape (batch, answers); missing votes are NaN.
            weight: factor on the loss for the gradients; its mean over the ranks is 1.
        """
        if self.stopped:
            return votes.new_zeros(())
        if not len(
            images
        ):  # a rank without samples in a short last step takes part with an image that has no votes
            images = images.new_zeros(1, *images.shape[1:])
            votes = votes.new_full((1, votes.shape[1]), torch.nan)
        torch.manual_seed(_sub_seed(self._seed, self.steps))  # for dropout
        self._network.train()
        loss: Tensor = self._loss_of(images, votes)
        self._optimiser.zero_grad()
        (loss * weight if weight != 1 else loss).backward()  # type: ignore[no-untyped-call]
        if self._recipe.training.gradient_clip:
            nn.utils.clip_grad_norm_(self._network.parameters(), self._recipe.training.gradient_clip)
        self._optimiser.step()
        self._schedule.step()
        self.steps += 1
        if self._ema is not None:
            self._ema.update(self._network, step=self.steps)
        return loss.detach()

    def _forward(self, images: Tensor, votes: Tensor) -> Tensor:
        """Return the loss of a batch; torch compiles this and its gradients as one graph."""
        return self._loss(self._trained(images), votes)

    def broadcast_buffers(self) -> None:
        """Give all ranks the batch-norm statistics of the first; they differ, as each rank sees other samples."""
        for module in (self._network, self.predictor.network):
            self._team.broadcast(module.buffers())

    def weights(self) -> dict[str, Tensor]:
        """Return the weights that `predictor` uses."""
        return dict(self.predictor.network.state_dict())

    def start_from(self, weights: dict[str, Tensor]) -> None:
        """Start from weights that `Member.weights` returned, with a new optimiser."""
        self._network.load_state_dict(weights)
        if self._ema is not None:
            self._ema.module.load_state_dict(weights)

    def state(self) -> dict[str, Any]:
        """Return everything needed to resume training with the same result."""
        return {
            "network": self._network.state_dict(),
            "ema": None if self._ema is None else self._ema.module.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "schedule": self._schedule.state_dict(),
            "steps": self.steps,
            "stopped": self.stopped,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned.

        Raises:
            KeyError, TypeError, ValueError, RuntimeError: the state is not that of such a member.
        """
        own = self.state()
        own["optimiser"] = {
            "param_groups": own["optimiser"]["param_groups"]
        }  # the optimiser makes the rest at the first step
        _check_structure(state, own, "the state")
        if state["steps"] < 0:
            raise ValueError(f"{state['steps']} steps")
        self._network.load_state_dict(state["network"])
        if self._ema is not None:
            self._ema.module.load_state_dict(state["ema"])
        _load_optimiser(self._optimiser, state["optimiser"])
        self._schedule.load_state_dict(state["schedule"])
        self.steps, self.stopped = state["steps"], state["stopped"]


def _check_structure(found: Any, own: Any, name: str) -> None:
    """Check that a loaded state has the same keys, lengths, shapes and types as a member's own.

    Raises:
        ValueError: it differs; `name` says where.
    """
    if isinstance(own, Mapping):
        fits = isinstance(found, Mapping) and own.keys() <= found.keys()
        parts = [(found[key], own[key], f"{name}, {key}") for key in own] if fits else []
    elif isinstance(own, list | tuple):
        fits = isinstance(found, list | tuple) and len(own) == len(found)
        parts = [(*pair, name) for pair in zip(found, own, strict=True)] if fits else []
    elif isinstance(own, Tensor):
        fits, parts = isinstance(found, Tensor) and found.shape == own.shape, []
    else:
        kinds = (int, float) if isinstance(own, int | float) and not isinstance(own, bool) else type(own)
        fits, parts = isinstance(found, kinds), []
    if not fits:
        raise ValueError(f"{name} is not what this recipe makes")
    for part in parts:
        _check_structure(*part)


def _load_optimiser(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load an optimiser's state for use on this device.

    A checkpoint does not keep memory formats, and fused optimisers need those of the parameters. The device, not the
    checkpoint, decides whether the optimiser is fused.
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


def _sub_seed(seed: int, number: int) -> int:
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
