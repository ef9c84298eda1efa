import copy
import tomllib
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ensemble import model
from ensemble.recipe import Recipe, load_recipe, recipe_from_table
from galaxy_zoo.tree import load_tree
from galaxy_zoo.votes import check_votes, normalise_votes, rmse
from training.checkpoint import Snapshot, load_state
from training.member import Member

TREE = load_tree("gz2-kaggle")
CPU = torch.device("cpu")


def recipe(*, optimiser: str = "adamw", **network: object) -> Recipe:
    """`quick`, smaller."""
    table = tomllib.loads(resources.files("ensemble.recipes").joinpath("quick.toml").read_text())
    table["network"] |= {"channels": [8, 16], "kernels": [3, 3], **network}
    table["view"]["size_px"] = 16
    table["optimiser"]["kind"] = optimiser
    return recipe_from_table(table, "small", where="small")


def make(seed: int = 0, *, optimiser: str = "adamw", **network: object) -> Member:
    return Member(recipe(optimiser=optimiser, **network), TREE, seed=seed, steps_per_epoch=4, device=CPU)


def batches(count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    votes = [torch.rand(8, 37, generator=generator) for _ in range(count)]
    return [(torch.rand(8, 3, 16, 16, generator=generator), vote) for vote in votes]


def equal(a: Member, b: Member) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.weights().values(), b.weights().values(), strict=True))


def test_a_member_learns_a_batch_by_heart() -> None:
    member = make()
    images, votes = batches(1)[0]
    votes = torch.from_numpy(normalise_votes(votes.numpy() ** 3, TREE)).float()
    losses = [member.step(images, votes).item() for _ in range(40)]
    assert losses[-1] < 0.5 * losses[0]


def test_a_member_starts_from_the_weights_of_another_with_a_new_optimiser() -> None:
    trained, member, again = make(), make(seed=1), make(seed=1)
    for images, votes in batches(3):
        trained.step(images, votes)
    for each in (member, again):
        each.start_from(trained.weights())
    assert equal(member, trained)
    for each in (trained, member, again):
        each.step(*batches(1)[0])
    assert equal(member, again)
    assert not equal(member, trained)


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_member_taken_up_from_its_checkpoint_ends_with_the_same_weights(
    dropout: float, optimiser: str, tmp_path: Path
) -> None:
    unbroken = make(dropout=dropout, optimiser=optimiser)
    for images, votes in batches(6):
        unbroken.step(images, votes)
    first = make(dropout=dropout, optimiser=optimiser)
    for images, votes in batches(6)[:3]:
        first.step(images, votes)
    Snapshot.of(first.state()).write(tmp_path / "first.safetensors")
    second = make(seed=9, dropout=dropout, optimiser=optimiser)
    second._seed = 0
    second.load_state(load_state(tmp_path / "first.safetensors"))
    for images, votes in batches(6)[3:]:
        second.step(images, votes)
    assert equal(unbroken, second)
    assert second.steps == 6


SCHEDULES = [
    {"kind": "constant"},
    {"kind": "step", "milestones": [0.5]},
    {"kind": "cosine"},
    {"kind": "warm_restarts", "t_0": 1},
    {"kind": "one_cycle"},
]


def test_every_schedule_and_optimiser_takes_its_own_state(tmp_path: Path, subtests: pytest.Subtests) -> None:
    for schedule in SCHEDULES:
        for optimiser in ["adam", "adamw", "adamax", "muon", "sgd"]:
            with subtests.test(schedule=schedule, optimiser=optimiser):
                table = {**recipe(optimiser=optimiser).table, "schedule": schedule}
                one, other = (
                    Member(recipe_from_table(table, "x", where="x"), TREE, seed=0, steps_per_epoch=4, device=CPU)
                    for _ in range(2)
                )
                one.step(*batches(1)[0])
                Snapshot.of(one.state()).write(tmp_path / "m")
                other.load_state(load_state(tmp_path / "m"))
                assert equal(one, other)


WRONG = [
    {"steps": "1"},
    {"steps": -1},
    {"stopped": None},
    {"network": []},
    {"network": {"0.0.weight": 1}},
    {"ema": None},
    {"schedule": {}},
    {"schedule": {"last_epoch": "x"}},
    {"optimiser": {}},
    {"optimiser": {"param_groups": [], "state": {}}},
    {"steps": 2.5},
]


def other_schedule(state: dict[str, Any]) -> None:
    state["schedule"]["more"] = 1


def other_type(state: dict[str, Any]) -> None:
    state["network"] = {name: each.double() for name, each in state["network"].items()}


def other_moments(state: dict[str, Any]) -> None:
    state["optimiser"]["state"][0]["exp_avg"] = torch.zeros(3)


def other_optimiser(state: dict[str, Any]) -> None:
    state["optimiser"]["param_groups"][0]["amsgrad"] = True


@pytest.mark.parametrize("forge", [other_schedule, other_type, other_moments, other_optimiser])
def test_a_state_with_one_part_of_another_kind_is_refused(forge: Callable[[dict[str, Any]], None]) -> None:
    member = make()
    member.step(*batches(1)[0])
    state = copy.deepcopy(member.state())
    forge(state)
    with pytest.raises(ValueError, match=r"schedule|network|optimiser"):
        make().load_state(state)


def test_the_state_of_something_else_is_refused(subtests: pytest.Subtests) -> None:
    for wrong in WRONG:
        with subtests.test(wrong=wrong):
            member = make()
            member.step(*batches(1)[0])
            before = {name: each.clone() for name, each in member.weights().items()}
            with pytest.raises(ValueError, match=f"{next(iter(wrong))}|steps"):
                member.load_state({**member.state(), **wrong})
            assert all(torch.equal(each, before[name]) for name, each in member.weights().items())


def test_a_loaded_optimiser_state_lies_in_memory_as_its_parameters_do(tmp_path: Path) -> None:
    """Fused optimisers, on a GPU, need it."""
    member = make()
    member.step(*batches(1)[0])
    Snapshot.of(member.state()).write(tmp_path / "member.safetensors")
    again = make()
    again.load_state(load_state(tmp_path / "member.safetensors"))
    strides = [(p.stride(), v.stride()) for p, s in again._optimiser.state.items() for v in s.values() if v.ndim]
    assert strides
    assert all(of_parameter == of_state for of_parameter, of_state in strides)


def test_a_member_is_the_same_alone_and_in_company() -> None:
    alone, first, second = make(1, dropout=0.5), make(1, dropout=0.5), make(2, dropout=0.5)
    for images, votes in batches(4):
        alone.step(images, votes)
    for images, votes in batches(4):
        second.step(images, votes)
        first.step(images, votes)
    assert equal(alone, first)
    assert not equal(first, second)


def test_predictions_come_from_the_running_average_and_are_not_random() -> None:
    member = make(dropout=0.5)
    images, votes = batches(1)[0]
    for _ in range(3):
        member.step(images, votes)
    predicted = member.predictor.predict(images)
    assert torch.equal(predicted, member.predictor.predict(images))
    assert not predicted.requires_grad
    assert not torch.equal(member.weights()["0.0.weight"], member.state()["network"]["0.0.weight"])


@pytest.mark.parametrize("name", ["quick", "plain", "small_data"])
@pytest.mark.parametrize("size", [0, 1])
def test_our_recipes_take_a_last_batch_of_one_image_or_of_none(name: str, size: int) -> None:
    ours = load_recipe(name)
    member = Member(ours, TREE, seed=0, steps_per_epoch=4, device=CPU)
    loss = member.step(torch.rand(size, 3, *2 * [ours.view.size_px]), torch.rand(size, len(TREE.columns)))
    assert loss.isfinite()
    assert (loss > 0) == (size > 0)
    assert all(each.isfinite().all() for each in member.weights().values())


def test_an_empty_batch_teaches_nothing_and_breaks_nothing() -> None:
    """What a rank gets in a last step with fewer samples than ranks."""
    member = Member(recipe(), TREE, seed=0, steps_per_epoch=4, device=CPU)
    images, votes = batches(1)[0]
    assert member.step(images[:0], votes[:0], weight=0.0) == 0
    assert all(each.isfinite().all() for each in member.weights().values())
    assert not any(each.grad.any() for each in member._network.parameters())


def test_a_member_that_has_stopped_keeps_its_weights_and_its_state() -> None:
    member = make()
    images, votes = batches(1)[0]
    member.step(images, votes)
    member.stopped = True
    before = {name: each.clone() for name, each in member.weights().items()}
    assert member.step(images, votes) == 0
    assert all(torch.equal(each, before[name]) for name, each in member.weights().items())
    again = make()
    again.load_state(member.state())
    assert again.stopped
    assert again.steps == 1


def test_bf16_on_a_cpu_is_close_to_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "cpu_has_bf16", lambda: True)  # others emulate it
    images, votes = batches(1)[0]
    members = []
    for precision in ("auto", "bf16"):
        table = {key: dict(value) for key, value in recipe().table.items()}
        table["training"]["precision"] = precision
        members.append(
            Member(recipe_from_table(table, "x", where="x"), TREE, seed=0, steps_per_epoch=4, device=CPU)
        )
    full, half = (float(member.step(images, votes)) for member in members)
    assert full != half
    assert half == pytest.approx(full, rel=0.02)
    assert members[1].predictor.predict(images).dtype == torch.float32


def test_a_dirichlet_member_learns_from_voters_and_predicts_votes() -> None:
    table = {key: dict(value) for key, value in recipe().table.items()}
    table["head"], table["loss"] = {"kind": "dirichlet"}, {"kind": "dirichlet_multinomial"}
    table["training"]["ema_decay"] = 0.0
    member = Member(recipe_from_table(table, "x", where="x"), TREE, seed=0, steps_per_epoch=40, device=CPU)
    images, votes = batches(1)[0]
    votes = torch.from_numpy(normalise_votes(votes.numpy() ** 3, TREE)).float()
    losses = [float(member.step(images, votes)) for _ in range(30)]
    assert losses[-1] < losses[0]
    predicted = member.predictor.predict(images).double().numpy()
    assert check_votes(predicted, TREE, tolerance=1e-5) == []
    assert rmse(predicted, votes.numpy()) < rmse(normalise_votes(np.ones((8, 37)), TREE), votes.numpy())
