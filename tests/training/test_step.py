"""Steps that are recorded and replayed: on a GPU as CUDA graphs, on a CPU by doing the same again."""

import gc
import tomllib
import weakref
from collections.abc import Callable
from functools import partial
from importlib import resources
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ensemble.recipe import Recipe, recipe_from_table
from galaxy_zoo.tree import load_tree
from training.checkpoint import Snapshot, load_state
from training.member import Member, _loss_function, _loss_of
from training.step import (
    COMPILED_GAIN_S,
    COMPILING_S,
    WARM_UPS,
    CudaGraphs,
    Recorder,
    Replay,
    _no_collection,
    compiling_pays,
)
from training.streams import side_by_side

TREE = load_tree("gz2-kaggle")
SIZE = 8
ON_GPU = pytest.param(
    "cuda",
    marks=[
        pytest.mark.gpu,
        pytest.mark.filterwarnings("default"),  # torch warns about the card's settings, and of uncaptured steps
        pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
    ],
)
devices = pytest.mark.parametrize("device", ["cpu", ON_GPU])
OPTIMISERS = ["adam", "adamw", "adamax", "muon", "sgd"]


class Again:
    """Records by remembering the work; spoilt: what a wrong recording does after each replay."""

    def __init__(self, spoilt: Callable[[], None] = lambda: None) -> None:
        self._spoilt, self.replays = spoilt, 0

    def record(self, work: Callable[[], Tensor]) -> Replay:
        for _ in range(WARM_UPS):
            work()

        def replay(seed: int) -> Tensor:
            self.replays += 1
            torch.manual_seed(seed)
            result = work()
            self._spoilt()
            return result

        return replay


def recipe(optimiser: str, **training: object) -> Recipe:
    """`quick`, smaller, with all that a step can have."""
    table = tomllib.loads(resources.files("ensemble.recipes").joinpath("quick.toml").read_text())
    table["network"] |= {"channels": [8, 16], "kernels": [3, 3], "batch_norm": True, "dropout": 0.3}
    table["view"]["size_px"] = 16
    table["optimiser"] = {"kind": optimiser, "lr": 0.004} | ({"momentum": 0.9} if optimiser == "sgd" else {})
    table["training"] |= {"batch_size": SIZE, "ema_decay": 0.9, "gradient_clip": 0.5, **training}
    return recipe_from_table(table, "small", where="small")


def make(device: str, optimiser: str = "adamw", *, recorder: Recorder | None = None, say=pytest.fail) -> Member:
    return Member(
        recipe(optimiser),
        TREE,
        seed=3,
        steps_per_epoch=4,
        device=torch.device(device),
        recorder=recorder,
        say=say,
    )


def recorder_for(device: str) -> Recorder:
    return Again() if device == "cpu" else CudaGraphs()


def batch(number: int, device: str, size: int = SIZE) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(number)
    images = torch.rand(size, 3, 16, 16, generator=generator).to(memory_format=torch.channels_last)
    return images.to(device), torch.rand(size, len(TREE.columns), generator=generator).to(device)


def check_alike(one: Member, other: Member, device: str) -> None:
    """Check that members have the same state but for rounding, which Adam makes large where a gradient is 0."""
    ours, theirs = one.state(), other.state()
    assert ours["schedule"] == theirs["schedule"]
    assert [group["lr"] for group in ours["optimiser"]["param_groups"]] == [
        group["lr"] for group in theirs["optimiser"]["param_groups"]
    ]
    start = make(device).state()
    for kind in ("network", "ema"):
        apart, moved = (
            float(sum((ours[kind][name] - each[kind][name]).double().square().sum() for name in ours[kind])) ** 0.5
            for each in (theirs, start)
        )
        assert apart <= (0.02 if device == "cpu" else 0.2) * moved


@devices
def test_replayed_steps_learn_what_ordinary_ones_do_whatever_the_size_of_the_batch(
    device: str, subtests: pytest.Subtests
) -> None:
    for optimiser in OPTIMISERS:
        with subtests.test(optimiser=optimiser):
            recorder = recorder_for(device)
            ordinary, replayed = make(device, optimiser), make(device, optimiser, recorder=recorder)
            for number, size in enumerate([SIZE, SIZE, 3, SIZE, 0, SIZE]):
                losses = [float(member.step(*batch(number, device, size))) for member in (ordinary, replayed)]
                assert losses[1] == pytest.approx(losses[0], rel=1e-3 if device == "cpu" else 0.05)
            check_alike(ordinary, replayed, device)
            assert not isinstance(recorder, Again) or recorder.replays == 4


@devices
def test_losses_of_replayed_steps_are_kept_for_those_who_read_them_later(device: str) -> None:
    member = make(device, recorder=recorder_for(device))
    losses = [member.step(*batch(number, device)) for number in range(4)]
    values = [float(loss) for loss in losses]
    assert len(set(values)) == len(values)


@devices
def test_a_training_goes_on_from_the_checkpoint_of_replayed_and_of_ordinary_steps(
    device: str, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    for optimiser, resumed_replays in product(OPTIMISERS, [True, False]):
        with subtests.test(optimiser=optimiser, resumed_replays=resumed_replays):
            unbroken = make(device, optimiser)
            begun = make(device, optimiser, recorder=None if resumed_replays else recorder_for(device))
            resumed = make(device, optimiser, recorder=recorder_for(device) if resumed_replays else None)
            for number in range(5):
                unbroken.step(*batch(number, device))
            for number in range(3):
                begun.step(*batch(number, device))
            Snapshot.of(begun.state()).write(tmp_path / "state")
            resumed.step(*batch(9, device))  # what this recorded is forgotten
            resumed.load_state(load_state(tmp_path / "state"))
            for number in range(3, 5):
                resumed.step(*batch(number, device))
            check_alike(unbroken, resumed, device)


def spoil(what: str) -> tuple[Member, Member, list[str]]:
    """Return a member that takes ordinary steps, and one whose replays do something wrong, and what the latter says."""
    said: list[str] = []

    def spoilt() -> None:
        with torch.no_grad():
            if what == "parameters":
                next(replayed._network.parameters()).add_(0.1)
            elif what == "average":
                next(replayed.predictor.network.parameters()).add_(1)
            elif what == "buffers":
                next(each for each in replayed._network.buffers() if each.is_floating_point()).add_(1)
            elif what == "exp_avg":
                replayed._optimiser.state[next(replayed._network.parameters())]["exp_avg"].add_(1)

    replayed = make("cpu", recorder=Again(spoilt), say=said.append)
    return make("cpu"), replayed, said


@pytest.mark.parametrize("what", ["parameters", "average", "buffers", "exp_avg"])
def test_where_a_replay_differs_from_an_ordinary_step_training_goes_on_with_ordinary_ones_and_says_so(
    what: str,
) -> None:
    ordinary, replayed, said = spoil(what)
    for number, size in enumerate([SIZE, 3, SIZE]):
        for member in (ordinary, replayed):
            member.step(*batch(number, "cpu", size))
    assert all(
        torch.equal(a, b) for a, b in zip(ordinary.weights().values(), replayed.weights().values(), strict=True)
    )
    assert len(said) == 1
    assert f"its change of {what} differs" in said[0]


class Refusing:
    """Records nothing, after having changed everything."""

    def record(self, work: Callable[[], Tensor]) -> Replay:
        work()
        raise RuntimeError("operation not permitted when stream is capturing\nand more")


def test_what_cannot_be_recorded_is_one_line_and_costs_nothing_else() -> None:
    said: list[str] = []
    ordinary, other = make("cpu"), make("cpu", recorder=Refusing(), say=said.append)
    for number in range(3):
        for member in (ordinary, other):
            member.step(*batch(number, "cpu"))
    assert all(
        torch.equal(a, b) for a, b in zip(ordinary.weights().values(), other.weights().values(), strict=True)
    )
    assert len(said) == 1
    assert "not permitted" in said[0]
    assert "\n" not in said[0]


def test_values_that_change_from_step_to_step_are_not_those_of_the_recording() -> None:
    """A recording that keeps the learning rate it was made with, 0, is found out."""

    class Frozen(Again):
        def record(self, work: Callable[[], Tensor]) -> Replay:
            def replay(seed: int) -> Tensor:
                torch.manual_seed(seed)
                for rate in member._step._inputs._rates:  # type: ignore[attr-defined]
                    rate.zero_()
                return work()

            return replay

    said: list[str] = []
    member = make("cpu", recorder=Frozen(), say=said.append)
    member.step(*batch(0, "cpu"))
    assert "its change of parameters differs" in said[0]


def test_equal_networks_are_compiled_once() -> None:
    compiled = []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    torch.compiler.reset()
    loss_of = torch.compile(_loss_of, backend=backend)
    for _ in range(3):
        member = make("cpu")
        loss_of(member._network, _loss_function(recipe("adamw").loss, TREE), *batch(0, "cpu")).backward()
    assert len(compiled) == 1


def test_a_short_training_does_not_compile() -> None:
    enough = round(COMPILING_S / COMPILED_GAIN_S)
    assert [compiling_pays(steps) for steps in (1, enough - 1, enough, 10 * enough)] == [False, False, True, True]


@devices
def test_a_member_that_is_not_used_any_more_frees_its_memory_and_its_graph_at_once(device: str) -> None:
    recorder = CudaGraphs() if device == "cuda" else Refusing()
    member = make(device, recorder=recorder, say=lambda _: None)
    member.step(*batch(0, device))
    network = weakref.ref(member._network)
    gc.disable()
    try:
        del member
        assert network() is None
    finally:
        gc.enable()


def test_no_garbage_is_collected_while_steps_are_recorded() -> None:
    with pytest.raises(RuntimeError, match="capture"), _no_collection():
        assert not gc.isenabled()
        raise RuntimeError("capture failed")
    assert gc.isenabled()


@devices
def test_members_side_by_side_learn_what_each_learns_alone(device: str) -> None:
    kinds = 2 * OPTIMISERS  # more members than streams
    alone, beside = ([make(device, kind, recorder=recorder_for(device)) for kind in kinds] for _ in range(2))
    for number, size in enumerate([SIZE, SIZE, 3, SIZE, SIZE]):
        images, votes = batch(number, device, size)
        expected = [float(member.step(images, votes)) for member in alone]
        losses = side_by_side([partial(member.step, images, votes) for member in beside], torch.device(device))
        assert torch.stack(losses).tolist() == pytest.approx(expected, rel=1e-6 if device == "cpu" else 0.05)
    for one, other in zip(alone, beside, strict=True):
        check_alike(one, other, device)
