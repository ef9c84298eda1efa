"""Ranks: how they share work, and what they say where they cannot."""

import pytest
import torch
from torch import distributed

from galaxy_zoo.errors import RunError
from training.loop import weight_of
from training.ranks import Ranks, joined_ranks, members_of


def test_every_member_has_one_rank(subtests: pytest.Subtests) -> None:
    for world_size in [1, 2, 3, 5]:
        with subtests.test(world_size=world_size):
            shares = [members_of(5, Ranks(rank, world_size), "members") for rank in range(world_size)]
            assert sorted(member for share in shares for member in share) == list(range(5))


def test_weights_of_ranks_make_the_mean_of_all_samples() -> None:
    counts, losses = [3, 2, 0], [1.0, 5.0, 0.0]
    weights = [weight_of(count, sum(counts), Ranks(rank, 3)) for rank, count in enumerate(counts)]
    mean = sum(weight * loss for weight, loss in zip(weights, losses, strict=True)) / 3
    assert mean == pytest.approx((3 * 1.0 + 2 * 5.0) / 5)


TORCHRUN = {
    "WORLD_SIZE": "2",
    "RANK": "0",
    "LOCAL_RANK": "0",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "1",
}


def test_half_an_environment_of_torchrun_is_one_message(
    monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests
) -> None:
    for missing in [name for name in TORCHRUN if name != "WORLD_SIZE"]:
        with subtests.test(missing=missing):
            for name, value in TORCHRUN.items():
                monkeypatch.setenv(name, value)
            monkeypatch.delenv(missing)
            with (
                pytest.raises(RunError, match=f"WORLD_SIZE is set and {missing} is not"),
                joined_ranks(torch.device("cpu")),
            ):
                pass


def test_a_rank_that_finds_no_other_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a restart, where it may look for one that has died; torch says so in a RuntimeError of many lines."""

    def refuse(*args: object, **options: object) -> None:
        raise RuntimeError("Gloo connectFullMesh failed with [gloo/pair.cc:152] Connection refused\nmore")

    monkeypatch.setattr(distributed, "init_process_group", refuse)
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    with (
        pytest.raises(RunError, match=r"rank 0 lost contact with another rank \(Gloo .* refused\); with"),
        joined_ranks(torch.device("cpu")),
    ):
        pass


def test_a_rank_that_sees_other_shards_than_the_first_is_stopped() -> None:
    class Second(Ranks):
        def broadcast_object(self, value):
            return "of the first"

    Ranks().check_same("anything", "the manifest")
    Second(1, 2).check_same("of the first", "the manifest")
    with pytest.raises(RunError, match="the manifest differs between rank 1 and the first rank"):
        Second(1, 2).check_same("another", "the manifest")
