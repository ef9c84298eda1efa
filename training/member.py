"""One model of an ensemble and all its training state.

A member depends only on its own seed and on its batches, not on the members trained beside it.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ensemble.losses import Loss, LossFunction
from ensemble.model import Predictor, build_network
from ensemble.networks.weights import Weights
from ensemble.recipe import Recipe
from galaxy_zoo.tree import DecisionTree
from training.ranks import ALONE, Ranks
from training.step import CapturedStep, EagerStep, Learner, Recorder, Step, compiling_pays

SCALAR_STATES = {"step", "mu_product"}
"""Names of the scalars in an optimiser's state; its other tensors have the shape of the parameter."""


class Member:
    """A network with its optimiser, schedule and running average of weights.

    predictor: the network, with the running average of the weights if the recipe asks for one.

    Args:
        seed: seed of the initial weights and of dropout.
        pretrained: use pretrained weights if the recipe asks for them.
        weights: pretrained weights from a file, for a timm network.
        trial: number of the trial; each has other initial weights.
        team: ranks that train the member together.
        recorder: what records steps to replay them; None: every step is an ordinary one.
        say: takes a line that the user should read.
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
        recorder: Recorder | None = None,
        say: Callable[[str], object] = print,
    ) -> None:
        torch.manual_seed(_sub_seed(seed, trial) if trial else seed)
        self._recipe, self._seed, self._team = recipe, seed, team
        self._network = build_network(recipe, tree, pretrained=pretrained, weights=weights).to(device)
        self._trained = DistributedDataParallel(self._network) if team.world_size > 1 else self._network
        self._loss = _loss_function(recipe.loss, tree)  # type: ignore[arg-type] # a frozen dataclass
        on_gpu = device.type == "cuda"
        self._optimiser = recipe.optimiser.build(
            self._network[0], fused=on_gpu, capturable=on_gpu and recorder is not None
        )
        self._schedule = recipe.schedule.build(
            self._optimiser, epochs=recipe.training.epochs, steps_per_epoch=steps_per_epoch
        )
        decay = recipe.training.ema_decay
        self._ema = ModelEmaV3(self._network, decay=decay, use_warmup=True) if decay else None
        self._device, self._recorder, self._say = device, recorder, say
        self._compiles = recorder is None or compiling_pays(recipe.training.epochs * steps_per_epoch)
        averaged = self._network if self._ema is None else self._ema.module
        self.predictor = Predictor(averaged, device, compiled=self._compiles)
        self._step = self._new_step()
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
        # a rank without samples in a short last step takes part with an image that has no votes
        if not len(images):
            images = images.new_zeros(1, *images.shape[1:])
            votes = votes.new_full((1, votes.shape[1]), torch.nan)
        seed = _sub_seed(self._seed, self.steps)
        self.steps += 1
        loss = self._step(images, votes, seed=seed, number=self.steps, weight=weight)
        self._schedule.step()
        return loss

    def _new_step(self) -> Step:
        """Return a step that has recorded nothing yet."""
        plain = Learner(
            network=self._network,
            loss_of=partial(_loss_of, self._trained, self._loss),
            optimiser=self._optimiser,
            average=self._ema,
            gradient_clip=self._recipe.training.gradient_clip,
        )
        compiled = plain
        if self._device.type == "cuda":
            compiled = replace(plain, loss_of=partial(_compiled_loss_of(), self._trained, self._loss))
        if self._recorder is None:
            return EagerStep(compiled)
        return CapturedStep(
            compiled if self._compiles else plain,
            smaller=EagerStep(plain),
            ordinary=EagerStep(compiled),
            batch_size=self._recipe.training.batch_size,
            recorder=self._recorder,
            say=self._say,
        )

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
        # the optimiser makes the rest at the first step
        own["optimiser"] = {"param_groups": own["optimiser"]["param_groups"]}
        _check_structure(state, own, "the state")
        if not isinstance(state["steps"], int) or state["steps"] < 0:
            raise ValueError(f"{state['steps']} steps")
        if state["schedule"].keys() != own["schedule"].keys():
            raise ValueError("the state of another schedule")
        self._network.load_state_dict(state["network"])
        if self._ema is not None:
            self._ema.module.load_state_dict(state["ema"])
        _load_optimiser(self._optimiser, state["optimiser"])
        self._step = self._new_step()  # what was recorded writes to the old state of the optimiser
        self._schedule.load_state_dict(state["schedule"])
        self.steps, self.stopped = state["steps"], state["stopped"]


def _loss_of(network: nn.Module, loss: LossFunction, images: Tensor, votes: Tensor) -> Tensor:
    """Return the loss of a batch; torch compiles this and its gradients as one graph."""
    return loss(network(images), votes)


@cache
def _compiled_loss_of() -> Any:
    """Return `_loss_of` compiled, the same for all members, so that only the first of equal networks compiles."""
    return torch.compile(_loss_of)


@cache
def _loss_function(loss: Loss, tree: DecisionTree) -> LossFunction:
    """Return the loss of a recipe, the same for all members: another function would be compiled anew."""
    return loss.build(tree)


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
        fits = isinstance(found, Tensor) and (found.shape, found.dtype) == (own.shape, own.dtype)
        parts = []
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
    checkpoint, decides whether the optimiser is fused and can be captured.
    """
    own = [
        {key: group[key] for key in ("fused", "capturable") if key in group} for group in optimiser.param_groups
    ]
    groups = [group | here for group, here in zip(state["param_groups"], own, strict=True)]
    for group, mine in zip(groups, optimiser.param_groups, strict=True):
        if any(group[key] is not value for key, value in mine.items() if isinstance(value, bool)):
            raise ValueError("the state of another optimiser")
    optimiser.load_state_dict({**state, "param_groups": groups})
    for parameter, values in optimiser.state.items():
        for name, value in values.items():
            if not isinstance(value, Tensor):
                continue
            if value.shape != (torch.Size() if name in SCALAR_STATES else parameter.shape):
                raise ValueError("the optimiser's state has another shape")
            if value.shape == parameter.shape:
                values[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _sub_seed(seed: int, number: int) -> int:
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
