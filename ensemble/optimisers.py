"""Optimisers and learning-rate schedules of torch and timm, as a recipe describes them."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import nn
from torch.optim import lr_scheduler

from galaxy_zoo.strict import check_range


@dataclass(frozen=True, kw_only=True)
class Optimiser:
    """One of torch's optimisers, or timm's Muon. Only SGD takes momentum and nesterov.

    Muon makes the update of each weight matrix (for a convolution: outputs x the rest) orthogonal, with steps as large
    as AdamW's; AdamW updates biases and norms. A step takes longer, but fewer steps are needed.
    Source: Jordan et al. 2024, Muon: an optimizer for hidden layers in neural networks; the size of its steps: Liu et
    al. 2025, Muon is scalable for LLM training.

    kind: the optimiser.
    lr: learning rate, which the schedule changes.
    weight_decay: decay of the weights in each step; for "adamw" and "muon" apart from the gradient.
    momentum: share of the last update that is kept; for "sgd".
    nesterov: use Nesterov's momentum; for "sgd".
    layer_decay: ratio of a layer's learning rate to that of the next layer, as timm counts layers; one-dimensional
        weights then have no weight decay. 1: all layers learn at the same rate.
    """

    kind: Literal["adam", "adamw", "adamax", "muon", "sgd"]
    lr: float
    weight_decay: float = 0.0
    momentum: float = 0.0
    nesterov: bool = False
    layer_decay: float = 1.0

    def __post_init__(self) -> None:
        """Raise ValueError if no optimiser can have these values."""
        if not 0 < self.lr < 1e6:
            raise ValueError(f"lr must be above 0 and below 1e6, not {self.lr}")
        if not 0 <= self.weight_decay < 1e6:
            raise ValueError(f"weight_decay must be 0 or above, not {self.weight_decay}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), not {self.momentum}")
        if self.kind != "sgd" and (self.momentum or self.nesterov):
            raise ValueError(f"momentum and nesterov are for kind 'sgd', not {self.kind!r}")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay must be above 0 and at most 1, not {self.layer_decay}")

    def build(self, network: nn.Module, *, fused: bool, capturable: bool = False) -> torch.optim.Optimizer:
        """Build the optimiser of a network.

        Args:
            fused: the parameters are on a GPU; a step is one kernel where the optimiser has one.
            capturable: CUDA graphs are made of its steps.
        """
        parameters = self._parameters(network)
        shared: dict[str, Any] = {"lr": self.lr, "weight_decay": self.weight_decay}
        if self.kind != "sgd":  # whose steps can always be captured
            shared["capturable"] = capturable
        match self.kind:
            case "adam":
                return torch.optim.Adam(parameters, fused=fused, **shared)
            case "adamw":
                return torch.optim.AdamW(parameters, fused=fused, **shared)
            case "adamax":
                return torch.optim.Adamax(parameters, **shared)
            case "muon":
                from timm.optim.muon import Muon  # noqa: PLC0415 (takes seconds)

                return Muon(parameters, **shared)
            case "sgd":
                return torch.optim.SGD(
                    parameters, momentum=self.momentum, nesterov=self.nesterov, fused=fused, **shared
                )

    def _parameters(self, network: nn.Module) -> Any:
        trained = [each for each in network.parameters() if each.requires_grad]
        if self.layer_decay == 1:
            return trained
        from timm.optim._param_groups import param_groups_layer_decay  # noqa: PLC0415

        groups = param_groups_layer_decay(network, self.weight_decay, layer_decay=self.layer_decay)
        return [group | {"lr": self.lr * group["lr_scale"]} for group in groups]


class Schedule(Protocol):
    """Description of a learning-rate schedule in a recipe; it advances after every step of the optimiser.

    It changes nothing but learning rates: a step that is replayed as a CUDA graph reads only those anew.

    spans_training: whether learning rates depend on the number of epochs, so that a longer training has others from
    the start.
    """

    spans_training: ClassVar[bool]

    def build(
        self, optimiser: torch.optim.Optimizer, *, epochs: int, steps_per_epoch: int
    ) -> lr_scheduler.LRScheduler:
        """Build the schedule for a training of `epochs` epochs of `steps_per_epoch` steps."""


@dataclass(frozen=True)
class Constant:
    """Keep the optimiser's learning rate."""

    spans_training: ClassVar[bool] = False

    def build(
        self,
        optimiser: torch.optim.Optimizer,
        *,
        epochs: int,  # noqa: ARG002
        steps_per_epoch: int,  # noqa: ARG002
    ) -> lr_scheduler.LRScheduler:
        """Build the schedule."""
        return lr_scheduler.ConstantLR(optimiser, factor=1.0, total_iters=0)


@dataclass(frozen=True)
class MultiStep:
    """Multiply the learning rate by `factor` at each of the `milestones`.

    milestones: fractions of the training, above 0 and below 1.
    factor: below 1 to lower the learning rate.
    """

    spans_training: ClassVar[bool] = True

    milestones: tuple[float, ...]
    factor: float = 0.1

    def __post_init__(self) -> None:
        """Raise ValueError if no schedule can have these values."""
        if not self.milestones or not all(0 < each < 1 for each in self.milestones):
            raise ValueError(f"milestones must be above 0 and below 1, not {self.milestones}")
        if not self.factor > 0:
            raise ValueError(f"factor must be above 0, not {self.factor}")

    def build(
        self, optimiser: torch.optim.Optimizer, *, epochs: int, steps_per_epoch: int
    ) -> lr_scheduler.LRScheduler:
        """Build the schedule."""
        milestones = [round(each * epochs * steps_per_epoch) for each in self.milestones]
        return lr_scheduler.MultiStepLR(optimiser, milestones, self.factor)


@dataclass(frozen=True)
class Cosine:
    """Fall as a cosine from the optimiser's learning rate to `eta_min` over the whole training.

    eta_min: learning rate at the end.
    """

    spans_training: ClassVar[bool] = True

    eta_min: float = 0.0

    def build(
        self, optimiser: torch.optim.Optimizer, *, epochs: int, steps_per_epoch: int
    ) -> lr_scheduler.LRScheduler:
        """Build the schedule."""
        return lr_scheduler.CosineAnnealingLR(optimiser, T_max=epochs * steps_per_epoch, eta_min=self.eta_min)


@dataclass(frozen=True)
class WarmRestarts:
    """Fall as a cosine from the optimiser's learning rate to `eta_min`; restart after t_0, t_0 * t_mult, ... epochs.

    t_0: number of epochs before the first restart.
    t_mult: ratio of the number of epochs between two restarts to that before the first of them.
    eta_min: learning rate just before each restart.

    Source: Loshchilov & Hutter 2017, SGDR.
    """

    spans_training: ClassVar[bool] = False

    t_0: int
    t_mult: int = 1
    eta_min: float = 0.0

    def __post_init__(self) -> None:
        """Raise ValueError if no schedule can have these values."""
        check_range("t_0", self.t_0, 1, 1_000_000)
        check_range("t_mult", self.t_mult, 1, 1_000_000)

    def build(
        self,
        optimiser: torch.optim.Optimizer,
        *,
        epochs: int,  # noqa: ARG002
        steps_per_epoch: int,
    ) -> lr_scheduler.LRScheduler:
        """Build the schedule."""
        return lr_scheduler.CosineAnnealingWarmRestarts(
            optimiser, T_0=self.t_0 * steps_per_epoch, T_mult=self.t_mult, eta_min=self.eta_min
        )


@dataclass(frozen=True)
class OneCycle:
    """Rise to the optimiser's learning rate over the fraction `warmup` of the training, then fall to nearly 0.

    Momentum stays the same.

    warmup: fraction of the training, above 0 and below 1.

    Source: Smith & Topin 2018, "Super-Convergence".
    """

    spans_training: ClassVar[bool] = True

    warmup: float = 0.3

    def __post_init__(self) -> None:
        """Raise ValueError if no schedule can have these values."""
        if not 0 < self.warmup < 1:
            raise ValueError(f"warmup must be above 0 and below 1, not {self.warmup}")

    def build(
        self, optimiser: torch.optim.Optimizer, *, epochs: int, steps_per_epoch: int
    ) -> lr_scheduler.LRScheduler:
        """Build the schedule."""
        total_steps = epochs * steps_per_epoch + 1  # the schedule advances after the last step too
        return lr_scheduler.OneCycleLR(
            optimiser,
            max_lr=[group["lr"] for group in optimiser.param_groups],
            total_steps=total_steps,
            pct_start=max(self.warmup, 2 / total_steps),  # torch divides by zero if the warm-up is one step
            cycle_momentum=False,
        )


SCHEDULES: dict[str, type[Schedule]] = {
    "constant": Constant,
    "step": MultiStep,
    "cosine": Cosine,
    "warm_restarts": WarmRestarts,
    "one_cycle": OneCycle,
}
