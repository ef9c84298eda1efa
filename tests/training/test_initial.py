"""Runs that start from the weights of another one."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from making import TREE, pack
from trained import metrics, run, run_and_interrupt, same, weights

from ensemble.model import build_network, last_layer
from ensemble.recipe import load_recipe
from galaxy_zoo.manifest import read_manifest
from galaxy_zoo.tree import load_tree
from training.checkpoint import load_state, load_weights
from training.run import load_run

TIMM = ("--set", "network.kind=timm", "--set", "network.model=resnet10t")


@pytest.fixture
def earlier(finished: Path) -> Path:
    """The run that others start from."""
    return finished


@pytest.fixture(scope="module")
def other_shards(kaggle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("other")
    (folder / "tree.toml").write_text(TREE)
    return pack(kaggle_folder, folder / "shards", "--shards", "10", "--tree", str(folder / "tree.toml"))


@pytest.fixture(autouse=True)
def untouched(earlier: Path) -> Iterator[None]:
    before = {path: path.read_bytes() for path in earlier.rglob("*") if path.is_file()}
    yield
    assert {path: path.read_bytes() for path in earlier.rglob("*") if path.is_file()} == before


def begun(folder: Path, member: int = 0) -> dict[str, torch.Tensor]:
    """The weights that a member started from."""
    state = load_state(folder / f"member-{member:02d}" / "last-00000-0000000.safetensors")
    assert state["member"]["steps"] == 0
    return state["member"]["network"]


def best(folder: Path, member: int) -> dict[str, torch.Tensor]:
    return load_weights(folder / f"member-{member:02d}" / "best.safetensors")


def test_members_start_from_the_best_weights_of_the_earlier_run(
    earlier: Path, shards: Path, recipe: Path, tmp_path: Path
) -> None:
    options = ("--recipe", recipe, "--members", 3, "--fold", "1/5", "--epochs", 1)
    tuned = run(shards, *options, "--init-from", earlier, "--out", tmp_path / "tuned")
    assert tuned.exit_code == 0, tuned.output
    assert f"members start from the weights of {earlier}\n" in tuned.stderr
    for member in range(3):
        assert same(begun(tmp_path / "tuned", member), best(earlier, member % 2))
    assert not same(weights(tmp_path / "tuned", 0), weights(tmp_path / "tuned", 2))  # they see other views


def test_on_another_tree_all_but_the_last_layer_is_taken_over(
    earlier: Path, other_shards: Path, recipe: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    options = ("--recipe", recipe, "--set", "schedule.kind=constant", "--init-from", earlier, "--out", out)
    result = run(other_shards, *options, "--epochs", 1)
    assert result.exit_code == 0, result.output
    assert "their last layer is new" in result.stderr
    started, was = begun(out), best(earlier, 0)
    new = {name for name in started if name not in was or not torch.equal(started[name], was[name])}
    layer = last_layer(load_recipe(str(recipe)), 3)
    assert new == layer
    assert {tuple(started[name].shape) for name in layer} == {(3, 16), (3,)}
    assert any("running_mean" in name for name in started)
    assert run(other_shards, *options, "--epochs", 3, "--resume").exit_code == 0
    assert metrics(out)[2]["loss"] < metrics(out)[0]["loss"]
    assert load_run(out).data.tree == read_manifest(other_shards).tree


@pytest.mark.slow
def test_another_head_on_the_same_tree_gets_a_new_last_layer(
    earlier: Path, shards: Path, recipe: Path, tmp_path: Path
) -> None:
    options = ("--recipe", recipe, "--set", "head.kind=sigmoid", "--fold", "1/5", "--epochs", 1)
    result = run(shards, *options, "--init-from", earlier, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    started, was = begun(tmp_path / "run"), best(earlier, 0)
    assert {
        name for name in was if name not in started or not torch.equal(started[name], was[name])
    } == last_layer(load_recipe(str(recipe)), 37)


@pytest.mark.slow
def test_a_run_goes_on_without_the_run_it_started_from(
    earlier: Path, shards: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = shutil.copytree(earlier, tmp_path / "source")
    arguments = (shards, "--recipe", recipe, "--init-from", source, "--fold", "1/5", "--epochs", 1)
    assert run(*arguments, "--out", tmp_path / "whole").exit_code == 0
    with monkeypatch.context() as patch:
        run_and_interrupt(patch, 2, *arguments, "--out", tmp_path / "run")
    for path in (tmp_path / "run").glob("member-00/last-00000-0000002*"):
        path.unlink()  # as if killed before it was saved
    shutil.rmtree(source)
    resumed = run(*arguments, "--out", tmp_path / "run", "--resume")
    assert resumed.exit_code == 0, resumed.output
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "run"))
    without = [each for each in arguments if each not in ("--init-from", source)]
    assert run(*without, "--out", tmp_path / "run", "--resume").exit_code == 0
    other = run(*without, "--init-from", earlier, "--out", tmp_path / "run", "--resume")
    assert (other.exit_code, "was started with init_from.run" in other.output) == (1, True), other.output


@pytest.mark.slow
def test_a_run_killed_before_its_first_checkpoint_starts_from_the_same_weights_or_not_at_all(
    earlier: Path, shards: Path, recipe: Path, tmp_path: Path
) -> None:
    source = shutil.copytree(earlier, tmp_path / "source")
    arguments = (shards, "--recipe", recipe, "--init-from", source, "--fold", "1/5", "--epochs", 1)
    out = ("--out", tmp_path / "run")
    assert run(*arguments, *out).exit_code == 0
    expected = weights(tmp_path / "run")
    for path in (tmp_path / "run" / "member-00").iterdir():
        path.unlink()
    assert run(*arguments, *out, "--resume").exit_code == 0
    assert same(weights(tmp_path / "run"), expected)
    for path in (tmp_path / "run" / "member-00").iterdir():
        path.unlink()
    shutil.copy(source / "member-01" / "best.safetensors", source / "member-00" / "best.safetensors")
    result = run(*arguments, *out, "--resume")
    assert (result.exit_code, f"{source} has changed since" in result.output) == (1, True), result.output


DIFFERENT = {
    "network.channels=[8, 12]": "tensor 0.4.weight is of shape (16, 8, 3, 3), and of shape (12, 8, 3, 3) in",
    "network.batch_norm=false": "tensor 0.3.weight is missing, and of shape (16, 8, 3, 3) in",
    "network.features=flatten": "tensor 0.10.weight is missing, and of shape (37, 256) in",
}


def test_a_network_that_differs_is_refused_with_its_first_tensor(
    earlier: Path, shards: Path, recipe: Path, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    options = ("--recipe", recipe, "--init-from", earlier, "--fold", "1/5", "--out", tmp_path / "run")
    for setting, message in DIFFERENT.items():
        with subtests.test(setting):
            result = run(shards, *options, "--set", setting)
            last = result.output.splitlines()[-1]
            assert (result.exit_code, message in last) == (1, True), result.output
            assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_view_of_another_size_is_refused_only_by_a_network_that_needs_it(
    earlier: Path, shards: Path, recipe: Path, tmp_path: Path
) -> None:
    smaller = ("--fold", "1/5", "--epochs", 1, "--set", "view.size_px=12")
    result = run(shards, "--recipe", recipe, *smaller, "--init-from", earlier, "--out", tmp_path / "any")
    assert result.exit_code == 0, result.output  # its features are means over pixels
    flat = ("--recipe", recipe, "--set", "network.features=flatten")
    assert run(shards, *flat, "--fold", "1/5", "--epochs", 1, "--out", tmp_path / "flat").exit_code == 0
    result = run(shards, *flat, *smaller, "--init-from", tmp_path / "flat", "--out", tmp_path / "no")
    assert result.exit_code == 1
    assert "with a view of 12 px; give the network and view of" in result.output


IMPOSSIBLE = [
    (("--fold", "0/5"), "was trained on these shards with fold 1/5, so also on galaxies that fold 0/5 holds out"),
    (("--init-from", "nowhere"), "nowhere: no run.json"),
    ((*TIMM, "--set", "network.frozen=true"), "add --set network.frozen=false"),
    (("--resume", "--init-from", "nowhere"), "nowhere: no run.json"),
]


def test_a_run_that_cannot_be_started_from_is_refused_before_any_work(
    earlier: Path, shards: Path, recipe: Path, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    start = ("--recipe", recipe, "--fold", "1/5", "--init-from", earlier, "--out", tmp_path / "run")
    for options, message in IMPOSSIBLE:
        with subtests.test(options=options):
            result = run(shards, *start, *options)
            assert (result.exit_code, result.output.count("\n")) == (1, 1), result.output
            assert message in result.output
            assert not (tmp_path / "run").exists()


def test_a_run_is_not_written_over_by_one_that_starts_from_it(earlier: Path, shards: Path, recipe: Path) -> None:
    for option in ((), ("--resume",)):
        result = run(shards, "--recipe", recipe, "--init-from", earlier, "--out", earlier / ".", *option)
        assert (result.exit_code, "is read by this command" in result.output) == (1, True), result.output


@pytest.mark.slow
def test_what_an_earlier_run_started_from_counts_too(
    shards: Path, kaggle_folder: Path, recipe: Path, tmp_path: Path
) -> None:
    between = pack(kaggle_folder, tmp_path / "between", "--shards", "10", "--seed", "1")
    options = ("--recipe", recipe, "--epochs", 1)
    assert run(shards, *options, "--fold", "none", "--out", tmp_path / "a").exit_code == 0
    second = run(between, *options, "--init-from", tmp_path / "a", "--out", tmp_path / "b")
    assert second.exit_code == 0, second.output
    third = run(shards, *options, "--init-from", tmp_path / "b", "--fold", "0/5", "--out", tmp_path / "c")
    assert (third.exit_code, f"{tmp_path / 'a'} was trained on these shards" in third.output) == (1, True)


def test_no_fold_may_start_from_any_fold(earlier: Path, shards: Path, recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = ("--recipe", recipe, "--fold", "none", "--epochs", 1, "--init-from", earlier, "--out", out)
    assert run(shards, *options).exit_code == 0
    saved = json.loads((out / "run.json").read_text())["init_from"]
    assert (saved["run"], len(set(saved["weights_sha256"]))) == (str(earlier), 2)


def test_the_last_layer_is_a_matrix_and_a_bias(subtests: pytest.Subtests) -> None:
    for name in ("quick", "small_data", "dieleman", "notebook_linnet", "fast", "ng_dinov2"):
        with subtests.test(name=name):
            recipe = load_recipe(name)
            tree = load_tree(recipe.about.tree)
            with torch.device("meta"):
                tensors = build_network(recipe, tree, pretrained=False).state_dict()
            layer = last_layer(recipe, len(tree.columns))
            assert sorted(tensors[key].ndim for key in layer) == [1, 2]
            assert {len(tensors[key]) for key in layer} == {len(tree.columns)}


def test_a_run_is_not_made_inside_the_one_it_starts_from(earlier: Path, shards: Path, recipe: Path) -> None:
    result = run(shards, "--recipe", recipe, "--init-from", earlier, "--out", earlier / "member-00" / "new")
    assert result.exit_code == 1
    assert "which --init-from reads; give another --out" in result.output
