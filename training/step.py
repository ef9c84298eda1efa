"""One step of a member: its kernels launched one by one, or replayed as one CUDA graph.

A network of many small kernels keeps a GPU waiting for Python, which launches them: `ng_resnet50` took 34 ms a step on
an H200, of which the GPU worked 18. `CapturedStep` records forward pass, loss, gradients, clipping, optimiser and
running average once, and replays them with one call.
"""

import gc
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn

from training.ranks import Ranks

LossOf = Callable[[Tensor, Tensor], Tensor]
"""Takes images and votes, returns the loss of a network, a scalar."""
Replay = Callable[[int], Tensor]
"""Takes the seed of random numbers, does what was recorded, and returns its result."""

TOLERANCE = 0.2
"""Largest difference between a replayed step and an ordinary one, as a share of what the step changes.

Both run the same kernels, some of which add in no fixed order. That changes a gradient by about 1e-6 of the largest
terms, but the first step of Adam is the sign of the gradient, so weights whose gradient is nearly 0, as that of a bias
before a batch norm, may move the other way: if one in 200 does, the difference is 0.14. Another dropout mask, or a
learning rate, an average or a clipping that was left out, differs by more. Calculated; to be confirmed on a GPU.
"""

WARM_UPS = 3
"""Steps before a capture, in which libraries choose kernels and reserve memory. Source: torch.cuda.graphs."""

COMPILING_S, COMPILED_GAIN_S = 40.0, 2e-3
"""Seconds for which a network compiles (22 to over 50 on an H200), and those that a captured step then saves.

The saving is an assumption, to be confirmed on a GPU: nobody has measured captured steps with and without compiling.
"""


NOT_REPLAYED = "steps are not replayed as CUDA graphs, which is slower"


def compiling_pays(num_steps: int) -> bool:
    """Return whether compiling saves more time than it costs over so many captured steps."""
    return num_steps * COMPILED_GAIN_S >= COMPILING_S


class Step(Protocol):
    """Updates a member once."""

    def __call__(self, images: Tensor, votes: Tensor, *, seed: int, number: int, weight: float = 1.0) -> Tensor:
        """Update everything but the schedule, and return the loss, a scalar on the device.

        Args:
            images: shape (batch, 3, size, size), channels-last, on the device.
            votes: shape (batch, answers); missing votes are NaN.
            seed: seed of dropout.
            number: number of this step, counted from 1.
            weight: factor on the loss for the gradients.
        """


@dataclass(frozen=True, kw_only=True)
class Learner:
    """What a step works on. average: running average of the weights; gradient_clip: largest norm, 0 for any."""

    network: nn.Module
    loss_of: LossOf
    optimiser: torch.optim.Optimizer
    average: ModelEmaV3 | None
    gradient_clip: float

    def learn(self, images: Tensor, votes: Tensor, weight: float = 1.0) -> Tensor:
        """Update the network and the state of the optimiser, and return the loss."""
        self.network.train()
        loss = self.loss_of(images, votes)
        self.optimiser.zero_grad()
        (loss * weight if weight != 1 else loss).backward()  # type: ignore[no-untyped-call]
        if self.gradient_clip:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.gradient_clip)
        self.optimiser.step()
        return loss.detach()

    def tensors(self) -> dict[str, list[Tensor]]:
        """Return everything that a step changes, by kind."""
        found: dict[str, list[Tensor]] = {
            "parameters": list(self.network.parameters()),
            "buffers": list(self.network.buffers()),
        }
        if self.average is not None:
            found["average"] = list(self.average.module.state_dict().values())
        for values in self.optimiser.state.values():
            for name, value in values.items():
                if isinstance(value, Tensor):
                    found.setdefault(name, []).append(value)
        return found


class EagerStep:
    """A step whose kernels are launched one by one."""

    def __init__(self, learner: Learner) -> None:
        self._learner = learner

    def __call__(self, images: Tensor, votes: Tensor, *, seed: int, number: int, weight: float = 1.0) -> Tensor:
        """Update everything but the schedule; see `Step`."""
        torch.manual_seed(seed)
        loss = self._learner.learn(images, votes, weight)
        if self._learner.average is not None:
            self._learner.average.update(self._learner.network, step=number)
        return loss


class Recorder(Protocol):
    """Records work on a device."""

    def record(self, work: Callable[[], Tensor]) -> Replay:
        """Record `work`, running it a few times, and return a function that replays it on the same tensors.

        The result is overwritten by the next call.
        """


class CudaGraphs:
    """Records kernels as a CUDA graph of torch.

    Each graph has a random generator of its own, and those recorded on one stream are replayed on it, so that graphs
    may be replayed on several streams at the same time.
    """

    def record(self, work: Callable[[], Tensor]) -> Replay:
        """Record work; see `Recorder`."""
        here = torch.cuda.current_stream()
        is_default = here == torch.cuda.default_stream()
        stream = torch.cuda.Stream() if is_default else here  # type: ignore[no-untyped-call]
        generator, graph = torch.Generator(here.device), torch.cuda.CUDAGraph()
        with _random_numbers_from(generator):
            stream.wait_stream(here)
            try:
                with torch.cuda.stream(stream):
                    for _ in range(WARM_UPS):
                        work()
            finally:
                here.wait_stream(stream)
            # other threads load images meanwhile, so only what this one does may spoil the capture
            with _no_collection(), torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                result = work()

        def replay(seed: int) -> Tensor:
            generator.manual_seed(seed)
            graph.replay()
            return result

        return replay


@contextmanager
def _random_numbers_from(generator: torch.Generator) -> Iterator[None]:
    """Let kernels take random numbers from a generator of a GPU within the block.

    A failed capture leaves its generator unusable. This keeps the default generator out of it.
    """
    default = torch.cuda.default_generators[generator.device.index]
    before = default.graphsafe_get_state()
    default.graphsafe_set_state(generator.graphsafe_get_state())
    try:
        yield
    finally:
        default.graphsafe_set_state(before)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Collect garbage before the block and none within it: destroying a graph or a kernel would spoil a capture."""
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def recorder_on(device: torch.device, team: Ranks, say: Callable[[str], object]) -> Recorder | None:
    """Return what records steps on a device; None on a CPU and, which is said, where ranks share batches."""
    if device.type != "cuda":
        return None
    if team.world_size > 1:
        say(f"{NOT_REPLAYED} (ranks that share batches exchange gradients within a step)")
        return None
    warnings.filterwarnings("ignore", "This instance was constructed with capturable=True")  # short batches
    return CudaGraphs()


class CapturedStep:
    """A step that is recorded on the first full batch and replayed on those that follow.

    Smaller batches take a step that is not compiled, or torch would compile anew. The first replay starts from the same
    state as an ordinary step. If they differ, or nothing can be recorded, full batches take ordinary steps from then
    on, and `say` is told why. The recorded kernels read whatever changes from step to step from tensors: images, votes,
    learning rates, the rate of the running average. The rates are 0 during recording, so the first replay differs if
    one of them was recorded as a number.

    Args:
        learner: what full batches are learned with.
        smaller: step on smaller batches.
        ordinary: step on full batches if nothing is recorded.
    """

    def __init__(
        self,
        learner: Learner,
        *,
        smaller: Step,
        ordinary: Step,
        batch_size: int,
        recorder: Recorder,
        say: Callable[[str], object],
    ) -> None:
        self._learner, self._recorder, self._say = learner, recorder, say
        self._smaller, self._ordinary, self._batch_size = smaller, ordinary, batch_size
        self._replay: Replay | None = None
        self._has_failed = False

    def __call__(self, images: Tensor, votes: Tensor, *, seed: int, number: int, weight: float = 1.0) -> Tensor:
        """Update everything but the schedule; see `Step`."""
        if len(images) != self._batch_size or weight != 1:
            return self._smaller(images, votes, seed=seed, number=number, weight=weight)
        if self._has_failed:
            return self._ordinary(images, votes, seed=seed, number=number, weight=weight)
        if self._replay is None:
            return self._first(images, votes, seed=seed, number=number)
        return self._replayed(self._replay, images, votes, seed=seed, number=number)

    def _first(self, images: Tensor, votes: Tensor, *, seed: int, number: int) -> Tensor:
        """Take an ordinary step, then the same as a replay; return the loss of the one that is kept."""
        before = _copied(self._learner.tensors())
        loss = EagerStep(self._learner)(images, votes, seed=seed, number=number)
        after = _copied(self._learner.tensors())
        try:
            _restore(self._learner.tensors(), before)
            self._inputs = _Inputs(images, votes, self._learner)
            replay = self._recorder.record(self._work)
            _restore(self._learner.tensors(), before)
            replayed = self._replayed(replay, images, votes, seed=seed, number=number)
            different = _difference(
                {**before, "loss": [torch.zeros_like(loss)]},
                {**after, "loss": [loss]},
                {**self._learner.tensors(), "loss": [replayed]},
            )
        except Exception as error:  # whatever prevents a capture, ordinary steps need none of it
            different = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        if not different:
            self._replay = replay
            return replayed
        self._say(f"{NOT_REPLAYED} ({different})")
        self._has_failed = True
        _restore(self._learner.tensors(), after)
        return loss

    def _replayed(self, replay: Replay, images: Tensor, votes: Tensor, *, seed: int, number: int) -> Tensor:
        self._inputs.fill(images, votes, number)
        return replay(seed).clone()

    def _work(self) -> Tensor:
        """Learn from the inputs: what is recorded."""
        with self._inputs.learning_rates():
            loss = self._learner.learn(self._inputs.images, self._inputs.votes)
        self._inputs.update_average()
        return loss


class _Inputs:
    """Tensors that the recorded kernels read, and which are filled before each replay."""

    def __init__(self, images: Tensor, votes: Tensor, learner: Learner) -> None:
        self.images, self.votes = images.clone(), votes.clone()
        self._learner, self._groups = learner, learner.optimiser.param_groups
        self._rates = [votes.new_zeros(()) for _ in self._groups]
        self._average_rate = votes.new_zeros(())

    def fill(self, images: Tensor, votes: Tensor, number: int) -> None:
        self.images.copy_(images)
        self.votes.copy_(votes)
        for rate, group in zip(self._rates, self._groups, strict=True):
            rate.fill_(group["lr"])
        if self._learner.average is not None:
            self._average_rate.fill_(1 - self._learner.average.get_decay(number))

    @contextmanager
    def learning_rates(self) -> Iterator[None]:
        """Let the optimiser read learning rates from the tensors within the block."""
        numbers = [group["lr"] for group in self._groups]
        try:
            for group, rate in zip(self._groups, self._rates, strict=True):
                group["lr"] = rate
            yield
        finally:
            for group, number in zip(self._groups, numbers, strict=True):
                group["lr"] = number

    @torch.no_grad()
    def update_average(self) -> None:
        """Do what `ModelEmaV3.update` does, at a rate that is a tensor."""
        averages, values, counts = self._averaged
        if averages:
            changes = torch._foreach_sub(values, averages)
            torch._foreach_mul_(changes, self._average_rate)
            torch._foreach_add_(averages, changes)
        for mine, theirs in counts:
            mine.copy_(theirs)

    @cached_property
    def _averaged(self) -> tuple[list[Tensor], list[Tensor], list[tuple[Tensor, Tensor]]]:
        """Running averages and the values they follow, and pairs of what is only copied."""
        if self._learner.average is None:
            return [], [], []
        states: list[Any] = [each.state_dict() for each in (self._learner.average.module, self._learner.network)]
        pairs = list(zip(states[0].values(), states[1].values(), strict=True))
        averaged = [pair for pair in pairs if pair[0].is_floating_point()]
        counts = [pair for pair in pairs if not pair[0].is_floating_point()]
        return [mine for mine, _ in averaged], [theirs for _, theirs in averaged], counts


def _copied(state: dict[str, list[Tensor]]) -> dict[str, list[Tensor]]:
    return {kind: [each.detach().clone() for each in tensors] for kind, tensors in state.items()}


@torch.no_grad()
def _restore(state: dict[str, list[Tensor]], saved: dict[str, list[Tensor]]) -> None:
    """Overwrite a state in place; what an optimiser has added since starts from 0, as it did."""
    for kind, tensors in state.items():
        for index, tensor in enumerate(tensors):
            if kind in saved:
                tensor.copy_(saved[kind][index])
            else:
                tensor.zero_()


def _difference(
    before: dict[str, list[Tensor]], after: dict[str, list[Tensor]], replayed: dict[str, list[Tensor]]
) -> str:
    """Name the first kind of tensor that a replayed step changed differently; "" if all agree within `TOLERANCE`."""
    for kind, tensors in after.items():
        origin = before.get(kind, [torch.zeros_like(each) for each in tensors])
        change, other = _distance(tensors, origin), _distance(tensors, replayed[kind])
        if not other <= TOLERANCE * change:
            return f"its change of {kind} differs by {other:.3g} from that of an ordinary step, {change:.3g}"
    return ""


def _distance(some: list[Tensor], others: list[Tensor]) -> float:
    """Return the Euclidean distance."""
    squares = [
        (a.detach().double() - b.detach().double()).square().sum() for a, b in zip(some, others, strict=True)
    ]
    return float(torch.stack(squares).sum().sqrt()) if squares else 0.0
