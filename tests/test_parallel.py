"""Trainings of several processes under torchrun, on the CPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_train import RECIPE, metrics, run, run_and_interrupt, same, weights

from ensemble.checkpoint import load_state
from ensemble.ranks import Ranks
from galaxy_zoo.errors import RunError

ROOT = Path(__file__).parents[1]


def torchrun(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run train.py in two processes, each with as many threads as this one: sums depend on it."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = [ROOT / "train.py", *arguments, "--device", "cpu", "--threads", "1"]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads()), "PYTHONPATH": str(ROOT)}
    everything = [*command, *map(str, script)]
    return subprocess.run(everything, env=os.environ | threads, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe whose result does not depend on how a batch is cut: no batch norm, no dropout."""
    path = tmp_path_factory.mktemp("recipe") / "plain.toml"
    text = RECIPE.replace("batch_norm = true", "batch_norm = false").replace("dropout = 0.1", "dropout = 0.0")
    path.write_text(text.replace("epochs = 4", "epochs = 2"))
    return path


@pytest.mark.slow
def test_members_on_ranks_of_their_own_are_the_same_as_in_one_process(
    shards: Path, plain: Path, tmp_path: Path
) -> None:
    arguments = (shards, "--recipe", plain, "--members", 3, "--fold", "1/5")
    alone = run(*arguments, "--out", tmp_path / "alone")
    assert alone.exit_code == 0, alone.output
    spread = torchrun(*arguments, "--out", tmp_path / "spread", "--parallel", "members")
    assert spread.returncode == 0, spread.stderr
    for member in range(3):
        assert same(weights(tmp_path / "alone", member), weights(tmp_path / "spread", member))
        scores = [[line["rmse"] for line in metrics(tmp_path / name, member)] for name in ("alone", "spread")]
        assert scores[0] == scores[1]


@pytest.mark.slow
def test_ranks_that_share_batches_go_on_within_an_epoch_of_one_process_and_learn_what_it_learns(
    shards: Path, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last step of an epoch has fewer samples: every sample still counts once, and the same."""
    arguments = (shards, "--recipe", plain, "--fold", "1/5")
    assert run(*arguments, "--out", tmp_path / "alone").exit_code == 0
    with monkeypatch.context() as patch:
        run_and_interrupt(patch, 3, *arguments, "--out", tmp_path / "shared")
    parallel = ("--parallel", "data", "--save-steps", "2", "--resume")
    shared = torchrun(*arguments, "--out", tmp_path / "shared", *parallel)
    assert shared.returncode == 0, shared.stderr
    ours, theirs = (load_state(tmp_path / name / "member-00" / "best.safetensors") for name in ("alone", "shared"))
    assert ours["epoch"] == theirs["epoch"]
    for name, weight in ours["weights"].items():
        torch.testing.assert_close(theirs["weights"][name], weight, atol=1e-4, rtol=1e-3)
    for one, other in zip(metrics(tmp_path / "alone"), metrics(tmp_path / "shared"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert one["rmse"] == pytest.approx(other["rmse"], rel=1e-4)


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_every_member_has_one_rank(world_size: int) -> None:
    shares = [Ranks(rank, world_size).members(5) for rank in range(world_size)]
    assert sorted(member for share in shares for member in share) == list(range(5))


def test_weights_of_ranks_make_the_mean_of_all_samples() -> None:
    counts, losses = [3, 2, 0], [1.0, 5.0, 0.0]
    weights = [Ranks(rank, 3, "data").weight(count, sum(counts)) for rank, count in enumerate(counts)]
    mean = sum(weight * loss for weight, loss in zip(weights, losses, strict=True)) / 3
    assert mean == pytest.approx((3 * 1.0 + 2 * 5.0) / 5)


def test_a_rank_that_sees_other_shards_than_the_first_is_stopped() -> None:
    class Second(Ranks):
        def agree(self, value):
            return "of the first"

    Ranks().check_same("anything", "the manifest")
    Second(1, 2).check_same("of the first", "the manifest")
    with pytest.raises(RunError, match="the manifest is another one on rank 1 than on the first"):
        Second(1, 2).check_same("another", "the manifest")
