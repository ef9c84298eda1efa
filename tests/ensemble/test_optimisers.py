from itertools import product

import pytest
import timm
import torch
from timm.optim import Muon
from torch import nn

from ensemble.optimisers import SCHEDULES, Constant, Cosine, MultiStep, OneCycle, Optimiser, Schedule, WarmRestarts

EPOCHS, STEPS = 4, 10


def rates(schedule: Schedule, lr: float = 0.1, epochs: int = EPOCHS) -> list[float]:
    """The learning rate of every step of a training."""
    optimiser = Optimiser(kind="sgd", lr=lr).build(nn.Linear(1, 1), fused=False)
    moving = schedule.build(optimiser, epochs=epochs, steps_per_epoch=STEPS)
    seen = []
    for _ in range(epochs * STEPS):
        seen.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        moving.step()
    return seen


def test_constant_stays() -> None:
    assert set(rates(Constant())) == {0.1}


def test_cosine_falls_from_the_first_to_the_last_step() -> None:
    seen = rates(Cosine(eta_min=0.01))
    assert seen[0] == 0.1
    assert seen == sorted(seen, reverse=True)
    assert 0.01 <= seen[-1] < 0.011


def test_warm_restarts_start_again_after_whole_epochs() -> None:
    seen = rates(WarmRestarts(t_0=1, t_mult=2))
    assert [step for step, rate in enumerate(seen) if rate == 0.1] == [0, STEPS, 3 * STEPS]


def test_one_cycle_peaks_after_its_warm_up_and_ends_near_zero() -> None:
    seen = rates(OneCycle(warmup=0.25))
    assert max(seen) == pytest.approx(0.1, rel=0.02)
    assert seen.index(max(seen)) == pytest.approx(0.25 * len(seen), abs=1)
    assert seen[-1] < 0.001


ALL = [Constant(), MultiStep((0.5,)), Cosine(), WarmRestarts(1), OneCycle()]


def test_a_schedule_spans_the_training_if_a_longer_one_has_other_rates(subtests: pytest.Subtests) -> None:
    assert {type(each) for each in ALL} == set(SCHEDULES.values())
    for schedule in ALL:
        with subtests.test(schedule=schedule):
            longer = rates(schedule, epochs=EPOCHS + 1)
            assert schedule.spans_training == (longer[: EPOCHS * STEPS] != rates(schedule))


def test_a_schedule_changes_learning_rates_alone(subtests: pytest.Subtests) -> None:
    """Or steps that are replayed as a CUDA graph would go on with the values of the first."""
    for schedule, kind in product(ALL, ("adam", "adamw", "adamax", "muon", "sgd")):
        with subtests.test(schedule=schedule, kind=kind):
            momentum = 0.9 if kind == "sgd" else 0.0
            optimiser = Optimiser(kind=kind, lr=0.1, momentum=momentum).build(nn.Linear(2, 2), fused=False)
            group = optimiser.param_groups[0]
            expected = {key: value for key, value in group.items() if "lr" not in key}
            moving = schedule.build(optimiser, epochs=EPOCHS, steps_per_epoch=STEPS)
            for _ in range(EPOCHS * STEPS):
                optimiser.step()
                moving.step()
                assert {key: group[key] for key in expected} == expected


def test_steps_are_at_shares_of_the_training() -> None:
    assert rates(MultiStep((0.25, 0.75), factor=0.5)) == [0.1] * 10 + [0.05] * 20 + [0.025] * 10


def test_layers_learn_the_slower_the_further_they_are_from_the_last() -> None:
    network = timm.create_model("resnet10t", num_classes=3)
    optimiser = Optimiser(kind="adamw", lr=0.1, weight_decay=0.3, layer_decay=0.5).build(network, fused=False)
    rate = {
        id(p): (group["lr"], group["weight_decay"]) for group in optimiser.param_groups for p in group["params"]
    }
    assert rate.keys() == {id(parameter) for parameter in network.parameters()}
    assert rate[id(network.fc.weight)] == (0.1, 0.3)
    assert rate[id(network.fc.bias)] == (0.1, 0.0)
    depths = [network.conv1[0].weight, network.layer1[0].conv1.weight, network.layer4[0].conv1.weight]
    assert 0 < rate[id(depths[0])][0] < rate[id(depths[1])][0] < rate[id(depths[2])][0] < 0.1


def test_one_cycle_keeps_the_ratios_of_layers() -> None:
    optimiser = Optimiser(kind="adamw", lr=0.1, layer_decay=0.5).build(timm.create_model("resnet10t"), fused=False)
    before = [group["lr"] / 0.1 for group in optimiser.param_groups]
    OneCycle().build(optimiser, epochs=1, steps_per_epoch=10)
    started = [group["lr"] for group in optimiser.param_groups]
    assert [each / max(started) for each in started] == pytest.approx(before)


def test_one_cycle_survives_however_short_the_training(subtests: pytest.Subtests) -> None:
    for steps in range(1, 13):
        for warmup in [0.01, 0.2, 0.5, 0.99]:
            with subtests.test(steps=steps, warmup=warmup):
                optimiser = Optimiser(kind="sgd", lr=0.1).build(nn.Linear(1, 1), fused=False)
                moving = OneCycle(warmup).build(optimiser, epochs=1, steps_per_epoch=steps)
                for _ in range(steps):
                    assert 0 < optimiser.param_groups[0]["lr"] <= 0.1
                    optimiser.step()
                    moving.step()


KINDS = [
    ("adam", torch.optim.Adam),
    ("adamw", torch.optim.AdamW),
    ("adamax", torch.optim.Adamax),
    ("muon", Muon),
    ("sgd", torch.optim.SGD),
]


def test_optimisers_are_torchs_and_timms_own(subtests: pytest.Subtests) -> None:
    for kind, expected in KINDS:
        with subtests.test(kind=kind):
            optimiser = Optimiser(kind=kind, lr=0.2, weight_decay=0.3).build(nn.Linear(1, 1), fused=False)
            assert type(optimiser) is expected
            assert optimiser.param_groups[0]["lr"] == 0.2
            assert optimiser.param_groups[0]["weight_decay"] == 0.3


def test_a_step_of_muon_is_orthogonal_for_matrices_and_filters_alike() -> None:
    torch.manual_seed(0)
    layers = nn.ModuleList([nn.Linear(12, 6, bias=False), nn.Conv2d(3, 8, 3, bias=False)])
    before = [each.weight.detach().clone() for each in layers]
    optimiser = Optimiser(kind="muon", lr=0.1).build(layers, fused=False)
    for each in layers:
        each.weight.grad = torch.randn_like(each.weight)
    optimiser.step()
    for each, was in zip(layers, before, strict=True):
        values = torch.linalg.svdvals((each.weight.detach() - was).flatten(1))
        assert values.min() > 0.5 * values.max()  # the iteration is coarse on purpose
