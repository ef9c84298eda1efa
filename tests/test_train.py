import errno
import json
import math
import os
import re
import shutil
import signal
import threading
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import timm
import torch
from click.testing import CliRunner, Result
from dying import train_and_die, train_and_die_writing
from making import NUM_TRAIN, pack, write_kaggle_folder
from starting import start
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from trained import RECIPE, metrics, run, run_and_interrupt, same, weights

import evaluate
import predict
import train
from ensemble import model
from ensemble.recipe import load_recipe
from galaxy_zoo.files import exclusive, sha256_of
from galaxy_zoo.fold import Fold
from galaxy_zoo.manifest import read_manifest
from galaxy_zoo.submission import read_submission
from galaxy_zoo.tree import load_tree
from galaxy_zoo.votes import rmse
from pipeline.shards import open_shards
from prediction.members import find_members
from training import loop
from training.checkpoint import (
    Position,
    Snapshot,
    checkpoint_path,
    load_state,
    load_weights,
    positions,
    save_state,
)
from training.meter import Meter
from training.run import load_run


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="session")
def finished(shards: Path, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    result = run(shards, "--recipe", recipe, "--members", 2, "--fold", "1/5", "--out", out)
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="session")
def two_epochs(shards: Path, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("two") / "run"
    result = run(shards, "--recipe", recipe, "--epochs", 2, "--fold", "1/5", "--out", out)
    assert result.exit_code == 0, result.output
    return out


def test_a_run_leaves_logs_and_checkpoints_for_every_member(finished: Path) -> None:
    for member in range(2):
        folder = finished / f"member-{member:02d}"
        assert [line["epoch"] for line in metrics(finished, member)] == [0, 1, 2, 3]
        assert {"loss", "rmse", "baseline_rmse", "learning_rate", "images_per_s", "data_wait"} < set(
            metrics(finished, member)[0]
        )
        assert (folder / "best.safetensors").exists()
        assert positions(folder)[-1] == (4, 0)
        assert list(folder.glob("events.out.tfevents*"))
        assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
        events = EventAccumulator(str(folder)).Reload()
        assert {"loss", "rmse", "learning_rate", "rmse/spiral", "accuracy/spiral"} < set(events.Tags()["scalars"])
        assert [event.step for event in events.Scalars("rmse/spiral")] == [0, 1, 2, 3]
        assert events.Tags()["images"] == ["galaxies"]
    saved = json.loads((finished / "run.json").read_text())
    assert torch.__version__.startswith(saved["versions"]["torch"])
    assert saved["recipe"] == tomllib.loads(RECIPE)
    assert saved["seed"] == 0
    assert not same(weights(finished, 0), weights(finished, 1))


def test_the_first_epoch_tells_how_long_the_start_took(shards: Path, recipe: Path, tmp_path: Path) -> None:
    arguments = (shards, "--recipe", recipe, "--fold", "1/5", "--epochs", 2, "--out", tmp_path / "run")
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert (
        len(re.findall(r"^first step done \d+\.\d s after the start: imports \d.* s$", result.output, re.M)) == 1
    )
    first, second = metrics(tmp_path / "run")
    parts = {f"start_{part}_s" for part in ("imports", "shards", "members", "first_batch", "first_step")}
    assert {key for key in first if key.startswith("start_")} == parts
    assert not any(key.startswith("start_") for key in second)


def test_the_loss_falls(finished: Path) -> None:
    losses = [line["loss"] for line in metrics(finished)]
    assert losses[-1] < losses[0]


def test_the_best_checkpoint_is_that_of_the_lowest_rmse(finished: Path) -> None:
    scores = [line["rmse"] for line in metrics(finished)]
    best = load_state(finished / "member-00" / "best.safetensors")
    assert best["epoch"] == scores.index(min(scores))


@pytest.mark.slow
def test_a_run_repeats_bit_for_bit(finished: Path, shards: Path, recipe: Path, tmp_path: Path) -> None:
    result = run(shards, "--recipe", recipe, "--members", 2, "--fold", "1/5", "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    for member in range(2):
        assert same(weights(finished, member), weights(tmp_path / "run", member))
        for ours, theirs in zip(metrics(finished, member), metrics(tmp_path / "run", member), strict=True):
            assert (ours["loss"], ours["rmse"]) == (theirs["loss"], theirs["rmse"])


def test_a_member_alone_is_the_same_as_in_company(
    finished: Path, shards: Path, recipe: Path, tmp_path: Path
) -> None:
    result = run(shards, "--recipe", recipe, "--members", 1, "--fold", "1/5", "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert same(weights(finished, 0), weights(tmp_path / "run", 0))


@pytest.mark.slow
@pytest.mark.parametrize("stop_after", [2, 5, 9])
def test_a_run_interrupted_at_a_step_and_resumed_ends_with_the_same_weights(
    finished: Path, shards: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_after: int
) -> None:
    out = tmp_path / "run"
    arguments = (shards, "--recipe", recipe, "--members", 2, "--fold", "1/5", "--out", out)
    with monkeypatch.context() as patch:
        stopped = run_and_interrupt(patch, stop_after, *arguments)
    assert "--resume" in stopped.output
    resumed = run(*arguments, "--resume")
    assert resumed.exit_code == 0, resumed.output
    for member in range(2):
        assert same(weights(finished, member), weights(out, member))
        assert [m["loss"] for m in metrics(out, member)] == [m["loss"] for m in metrics(finished, member)]


@pytest.mark.slow
def test_a_network_that_looks_at_several_turns_of_a_view_trains_resumes_and_predicts(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = "crop_px = 69\nsize_px = 69\nturns_deg = [0, 45]"
    network = 'kind = "dieleman"\ndense = [8]\ntop_filters = 8'
    _, _, rest = RECIPE.partition("[head]")
    own = tmp_path / "own.toml"
    own.write_text(f'[about]\nsource = "the tests"\n[view]\n{view}\n[network]\n{network}\n[head]{rest}')
    arguments = (shards, "--recipe", own, "--epochs", 1, "--fold", "1/5", "--out", tmp_path / "run")
    with monkeypatch.context() as patch:
        run_and_interrupt(patch, 2, *arguments)
    resumed = run(*arguments, "--resume")
    assert resumed.exit_code == 0, resumed.output
    options = ["--views", "2", "--out", tmp_path / "s.csv", "--device", "cpu", "--workers", "1"]
    done = CliRunner().invoke(predict.main, [str(each) for each in (tmp_path / "run", shards, *options)])
    assert done.exit_code == 0, done.output
    assert len(read_submission(tmp_path / "s.csv", load_tree("gz2-kaggle"))) == 21


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_with_the_same_weights(
    finished: Path, shards: Path, recipe: Path, tmp_path: Path
) -> None:
    """Killed five times, in the middle of epochs and at their ends, while checkpoints come every other step."""
    out = tmp_path / "run"
    options = ["--members", 2, "--fold", "1/5", "--out", out, "--save-steps", 2, "--device", "cpu", "--workers", 1]
    arguments = [str(each) for each in (shards, "--recipe", recipe, *options)]
    codes = []
    for steps in (3, 1, 6, 5, 4, 0):
        process = start(train_and_die, [*arguments, "--resume"], steps)
        process.join(120)
        codes.append(process.exitcode)
    assert codes == [-signal.SIGKILL] * 5 + [0]
    for member in range(2):
        assert same(weights(finished, member), weights(out, member))
        assert [m["loss"] for m in metrics(out, member)] == [m["loss"] for m in metrics(finished, member)]


@pytest.mark.slow
@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("file", ["run.json", "metrics.jsonl", "last-00002-0000000.safetensors", "curves.png"])
def test_a_run_killed_in_its_first_or_last_moments_ends_with_the_same_weights(
    file: str, is_done: bool, shards: Path, recipe: Path, two_epochs: Path, tmp_path: Path
) -> None:
    """Killed just before or just after a file gets its name."""
    out = tmp_path / "run"
    options = ("--epochs", 2, "--fold", "1/5", "--out", out)
    arguments = [str(each) for each in (shards, "--recipe", recipe, *options, "--device", "cpu", "--workers", 1)]
    process = start(train_and_die_writing, arguments, file, is_done)
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    resumed = run(shards, "--recipe", recipe, *options, "--resume")
    assert resumed.exit_code == 0, resumed.output
    assert same(weights(two_epochs), weights(out))
    names = [sorted(p.name for p in each.rglob("*") if "tfevents" not in p.name) for each in (two_epochs, out)]
    assert names[0] == names[1]


@pytest.mark.slow
def test_checkpoints_come_also_after_so_many_steps_and_minutes(
    shards: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[Position] = []
    monkeypatch.setattr(loop, "save_checkpoint", lambda folder, position, state: saved.append(position))
    arguments = (shards, "--recipe", recipe, "--fold", "1/5", "--epochs", 2)
    assert run(*arguments, "--out", tmp_path / "a", "--save-steps", 2).exit_code == 0
    assert saved == [(0, 2), (0, 4), (1, 0), (1, 2), (1, 4), (2, 0)]
    saved.clear()
    assert run(*arguments, "--out", tmp_path / "b", "--save-minutes", 1e-9).exit_code == 0
    assert saved[-6:] == [(1, step) for step in range(5)] + [(2, 0)]
    saved.clear()
    assert run(*arguments, "--out", tmp_path / "c").exit_code == 0
    assert saved == [(1, 0), (2, 0)]


@pytest.mark.slow
def test_training_goes_on_while_a_checkpoint_is_written_and_waits_before_the_next(
    two_epochs: Path, shards: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first checkpoint takes until the second epoch has begun, and the log of that epoch waits for it."""
    out, has_gone_on, add, save = tmp_path / "run", threading.Event(), Meter.add, loop.save_checkpoint
    logged = []

    def adding(self: Meter, *args: Any) -> None:
        add(self, *args)
        if (out / "member-00" / "metrics.jsonl").stat().st_size:
            has_gone_on.set()

    def saving(folder: Path, *args: Any) -> None:
        assert has_gone_on.wait(60)
        logged.append(len((folder / "metrics.jsonl").read_text().splitlines()))
        save(folder, *args)

    monkeypatch.setattr(Meter, "add", adding)
    monkeypatch.setattr(loop, "save_checkpoint", saving)
    result = run(shards, "--recipe", recipe, "--epochs", 2, "--fold", "1/5", "--out", out)
    assert result.exit_code == 0, result.output
    assert logged == [1, 2]
    assert same(weights(two_epochs), weights(out))


@pytest.mark.slow
@pytest.mark.parametrize("position", [(0, 2), (2, 0)], ids=["in an epoch", "the last"])
def test_a_checkpoint_that_cannot_be_written_ends_the_training_with_one_message(
    two_epochs: Path,
    position: Position,
    shards: Path,
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def write(self: Snapshot, path: Path) -> None:
        if path == checkpoint_path(tmp_path / "run" / "member-00", Position(*position)):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        whole(self, path)

    whole = Snapshot.write
    arguments = (shards, "--recipe", recipe, "--epochs", 2, "--fold", "1/5", "--save-steps", 2)
    with monkeypatch.context() as patch:
        patch.setattr(Snapshot, "write", write)
        result = run(*arguments, "--out", tmp_path / "run")
    assert result.exit_code == 1
    assert re.search(r"^Error: .*member-00/last-\d+-\d+\.safetensors.*No space left.*$", result.output, re.M)
    assert "Traceback" not in result.output
    resumed = run(*arguments, "--out", tmp_path / "run", "--resume")
    assert resumed.exit_code == 0, resumed.output
    assert same(weights(two_epochs), weights(tmp_path / "run"))


@pytest.mark.slow
def test_every_fold_gets_a_run_of_its_own(shards: Path, recipe: Path, tmp_path: Path) -> None:
    arguments = (shards, "--recipe", recipe, "--fold", "all/2", "--epochs", 1, "--out", tmp_path / "runs")
    assert run(*arguments).exit_code == 0
    assert [
        json.loads((tmp_path / "runs" / f"fold-{k}-of-2" / "run.json").read_text())["fold"] for k in (0, 1)
    ] == [
        "0/2",
        "1/2",
    ]
    resumed = run(*arguments, "--resume")
    assert resumed.exit_code == 0, resumed.output
    assert len(metrics(tmp_path / "runs" / "fold-1-of-2")) == 1


def with_training(recipe: Path, folder: Path, **values: object) -> Path:
    """The same recipe with other keys in [training], its last table."""
    path = folder / "other.toml"
    path.write_text(recipe.read_text() + "".join(f"{key} = {value}\n" for key, value in values.items()))
    return path


@pytest.mark.slow
def test_a_member_stops_after_rises_of_its_score_in_a_row(shards: Path, recipe: Path, tmp_path: Path) -> None:
    """At this learning rate the score goes up and down."""
    other = with_training(recipe, tmp_path, patience=1)
    other.write_text(other.read_text().replace("lr = 0.003", "lr = 0.3").replace("epochs = 4", "epochs = 30"))
    out = tmp_path / "run"
    result = run(shards, "--recipe", other, "--members", 2, "--fold", "1/5", "--out", out)
    assert result.exit_code == 0, result.output
    for member in range(2):
        scores = [line["rmse"] for line in metrics(out, member)]
        rises = [later > earlier for earlier, later in pairwise(scores)]
        assert len(scores) < 30
        assert rises == [False] * (len(rises) - 1) + [True]


@pytest.mark.slow
def test_training_goes_on_from_the_weights_of_the_trial_that_scores_best(
    shards: Path, recipe: Path, tmp_path: Path
) -> None:
    other = with_training(recipe, tmp_path, trials=3)
    result = run(shards, "--recipe", other, "--fold", "1/5", "--epochs", 1, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    loss = metrics(tmp_path / "run")[0]["loss"]
    result = run(shards, "--recipe", other, "--fold", "none", "--out", tmp_path / "none")
    assert result.exit_code == 1
    assert "needs a fold" in result.output
    plain = run(shards, "--recipe", recipe, "--fold", "1/5", "--epochs", 1, "--out", tmp_path / "plain")
    assert plain.exit_code == 0
    assert loss < metrics(tmp_path / "plain")[0]["loss"]  # that epoch was the first trial


@pytest.mark.slow
def test_before_the_first_step_it_says_what_it_will_do(
    shards: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The set has 10 shards, the recipe asks for fold 7 of 12 and for what this CPU does not have."""
    monkeypatch.setattr(model, "cpu_has_bf16", lambda: False)
    other = with_training(recipe, tmp_path, fold='"7/12"', precision='"bf16"')
    changed = ("--epochs", 1, "--set", "training.batch_size=8")
    result = run(shards, "--recipe", other, "--members", 2, *changed, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    num_kept = NUM_TRAIN - len(open_shards(shards, fold=Fold(7, 10), held_out=True).votes)
    fold, device, system, settings, samples, steps, *_ = result.stderr.splitlines()
    assert fold == "holding out fold 7/10, not the recipe's 7/12: the set has 10 training shards"
    assert device.startswith("training on the CPU")
    network = model.build_network(load_recipe(str(other)), read_manifest(shards).tree, pretrained=False)
    num_parameters = sum(each.numel() for each in network.parameters())
    assert system == (
        f"2 x other: {num_parameters:,} parameters each, in float32 (this CPU has no instructions for bf16)"
    )
    assert settings == "set in place of the recipe's: training.batch_size = 8, training.epochs = 1"
    assert samples == f"{num_kept} samples to train on, {NUM_TRAIN - num_kept} held out to score on (fold 7/10)"
    assert steps == f"{-(-num_kept // 8)} steps: 1 epoch of {-(-num_kept // 8)} batches of 8 samples"
    saved = load_run(tmp_path / "run").recipe
    assert (saved.training.batch_size, saved.training.epochs, saved.name) == (8, 1, "other")
    resumed = run(shards, "--recipe", other, "--members", 2, *changed, "--out", tmp_path / "run", "--resume")
    assert resumed.exit_code == 0, resumed.output
    forgot = run(shards, "--recipe", other, "--members", 2, "--epochs", 1, "--out", tmp_path / "run", "--resume")
    assert "was started with recipe.training.batch_size 8, not 16" in forgot.output
    assert "holding out" not in run(shards, "--recipe", recipe, "--out", tmp_path / "fits", "--epochs", 1).stderr


@pytest.mark.parametrize(
    ("setting", "code", "message"),
    [
        ("batch_size=8", 2, "as in training.batch_size=64"),
        ("training.bach_size=8", 1, "did you mean 'batch_size'?"),
    ],
)
def test_a_wrong_setting_ends_before_any_work(
    shards: Path, tmp_path: Path, setting: str, code: int, message: str
) -> None:
    result = run(shards, "--set", setting, "--out", tmp_path / "run")
    assert (result.exit_code, message in result.output) == (code, True), result.output
    assert not (tmp_path / "run").exists()


def test_the_list_of_recipes_needs_no_shards() -> None:
    result = CliRunner().invoke(train.main, ["--list"])
    assert result.exit_code == 0
    assert "19,460,645" in result.output


@pytest.mark.slow
def test_members_saved_at_different_steps_go_back_to_the_newest_common_one(
    finished: Path, shards: Path, recipe: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    arguments = (shards, "--recipe", recipe, "--members", 2, "--fold", "1/5", "--out", out)
    assert run(*arguments).exit_code == 0
    (out / "member-01" / "last-00004-0000000.safetensors").unlink()  # as if killed between the two members
    assert run(*arguments, "--resume").exit_code == 0
    for member in range(2):
        assert same(weights(finished, member), weights(out, member))


@pytest.mark.slow
@pytest.mark.parametrize("has_one", [False, True], ids=["no checkpoint", "the first member's checkpoint"])
def test_a_run_killed_while_it_saved_for_the_first_time_begins_again(
    finished: Path, shards: Path, recipe: Path, tmp_path: Path, has_one: bool
) -> None:
    """As it is after kill -9 at the end of the first epoch: best weights and logs are there, or one checkpoint too."""
    out = copy_of(finished, tmp_path)
    for path in [*out.glob("member-*/last-*"), *out.glob("member-*/metrics.jsonl")]:
        lines = path.read_bytes().splitlines(keepends=True)
        path.unlink()
        if path.suffix == ".jsonl":
            path.write_bytes(lines[0])
    if has_one:
        (out / "member-00" / "last-00001-0000000.safetensors").write_bytes(b"of the first epoch")
    (out / "member-01" / "last-00001-0000000.safetensors.part").write_bytes(b"cut off")
    result = resume(shards, recipe, out)
    assert result.exit_code == 0, result.output
    assert not list(out.rglob("*.part"))
    for member in range(2):
        assert same(weights(finished, member), weights(out, member))
        assert [line["epoch"] for line in metrics(out, member)] == [0, 1, 2, 3]


def test_what_was_killed_while_it_wrote_down_the_run_leaves_the_folder_free(
    shards: Path, recipe: Path, tmp_path: Path
) -> None:
    (tmp_path / "run" / "member-00").mkdir(parents=True)
    for name in ("lock", "run.json.part"):
        (tmp_path / "run" / name).touch()
    result = run(shards, "--recipe", recipe, "--fold", "1/5", "--epochs", 1, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert not list(tmp_path.rglob("*.part"))


def copy_of(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "run")


def resume(shards: Path, recipe: Path, out: Path) -> Result:
    return run(shards, "--recipe", recipe, "--members", 2, "--fold", "1/5", "--out", out, "--resume")


def test_lost_checkpoints_are_an_error_and_nothing_is_overwritten(
    finished: Path, shards: Path, recipe: Path, tmp_path: Path
) -> None:
    out = copy_of(finished, tmp_path)
    for path in out.glob("member-01/last-*"):
        path.unlink()
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    result = resume(shards, recipe, out)
    assert result.exit_code == 1
    assert "no whole checkpoint that all members have" in result.output
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("fold", "2/5", 'fold "1/5", not "2/5"'),
        ("seed", 1, "seed 0, not 1"),
        ("manifest_sha256", "0" * 64, "data.manifest_sha256"),
        ("crop_px", 60, "recipe.view.crop_px 64, not 60"),
    ],
)
def test_an_edited_run_is_not_scored_predicted_with_or_resumed(
    finished: Path, shards: Path, recipe: Path, tmp_path: Path, key: str, value: object, says: str
) -> None:
    out = copy_of(finished, tmp_path)
    saved = json.loads((out / "run.json").read_text())
    part = {"manifest_sha256": saved["data"], "crop_px": saved["recipe"]["view"]}.get(key, saved)
    part[key] = value
    (out / "run.json").write_text(json.dumps(saved))
    where = ("--device", "cpu", "--workers", "1")
    commands = {
        predict.main: (out, shards, "--out-of-fold", "--out", tmp_path / "s.csv", *where),
        evaluate.main: (out, shards, "--out", tmp_path / "report", *where),
    }
    for command, arguments in commands.items():
        result = CliRunner().invoke(command, list(map(str, arguments)))
        assert (result.exit_code, result.output.count("\n")) == (1, 1), result.output
        assert "run.json is not what" in result.output
        assert says in result.output
    if key in {"fold", "seed"}:
        result = run(shards, "--recipe", recipe, "--members", 2, "--fold", "1/5", "--out", out, "--resume")
        assert "was started with" in result.output
        asked = ("--fold", saved["fold"], "--seed", saved["seed"])
        result = run(shards, "--recipe", recipe, "--members", 2, *asked, "--out", out, "--resume")
        assert result.exit_code == 1
        assert says in result.output


def test_links_in_a_run_lead_to_nothing_being_written_or_removed(
    finished: Path, shards: Path, recipe: Path, tmp_path: Path
) -> None:
    (precious := tmp_path / "precious").mkdir()
    (precious / "a.txt").write_text("mine")
    (precious / "b.part").write_text("mine")
    out = copy_of(finished, tmp_path)
    (out / "lock").unlink()
    (out / "lock").symlink_to(precious / "a.txt")
    assert "lock is a symbolic link" in resume(shards, recipe, out).output
    (out / "lock").unlink()
    member = out / "member-00"
    sorted(member.glob("last-*"))[-1].unlink()  # so that an epoch is trained and written anew
    names = ("metrics.jsonl", "curves.png.part", "best.safetensors.part", "last-00004-0000000.safetensors.part")
    for name in names:
        (member / name).unlink(missing_ok=True)
        (member / name).symlink_to(precious / "a.txt")
    (member / "metrics.jsonl").unlink()
    shutil.copy(finished / "member-00" / "metrics.jsonl", precious / "log")
    (member / "metrics.jsonl").symlink_to(precious / "log")
    result = resume(shards, recipe, out)
    assert result.exit_code == 0, result.output
    assert same(weights(finished), weights(out))
    assert (precious / "log").read_bytes() == (finished / "member-00" / "metrics.jsonl").read_bytes()
    shutil.rmtree(out / "member-01")
    (out / "member-01").symlink_to(precious)
    result = resume(shards, recipe, out)
    assert (result.exit_code, "member-01 is a symbolic link" in result.output) == (1, True), result.output
    assert {path.name: path.read_text() for path in precious.iterdir() if path.name != "log"} == {
        "a.txt": "mine",
        "b.part": "mine",
    }


def test_outputs_onto_inputs_or_onto_each_other_are_refused_before_any_work(
    shards: Path, recipe: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(shards)
    before = sorted(shards.rglob("*"))
    for options in (
        ("--out", shards),
        ("--out", tmp_path / "link", "--resume"),
        ("--out", recipe),
        ("--out", tmp_path / "run", "--stamps-folder", shards),
        ("--out", tmp_path / "run", "--stamps-folder", tmp_path / "." / "run"),
        ("--out", tmp_path / "run", "--cache", tmp_path / "run"),
    ):
        result = run(shards, "--recipe", recipe, *options)
        assert (result.exit_code, result.output.count("\n")) == (1, 1), result.output
        assert "read by this command" in result.output or "are the same file" in result.output
    assert sorted(shards.rglob("*")) == before
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_checkpoint_of_another_step_or_without_a_loss_gives_way_to_the_one_before(
    two_epochs: Path, shards: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (shards, "--recipe", recipe, "--epochs", 2, "--fold", "1/5", "--save-steps", 1)
    run_and_interrupt(monkeypatch, 3, *arguments, "--out", tmp_path / "stopped")
    monkeypatch.undo()
    for number, forged in enumerate(({"samples": 0}, {"samples": 10**9}, {"samples": -1}, {"loss_sum": math.nan})):
        out = Path(shutil.copytree(tmp_path / "stopped", tmp_path / str(number)))
        newest = sorted((out / "member-00").glob("last-*"))[-1]
        save_state(newest, load_state(newest) | forged)
        resumed = run(*arguments, "--out", out, "--resume")
        assert resumed.exit_code == 0, resumed.output
        assert "trying the checkpoints before" in resumed.output
        assert same(weights(out), weights(two_epochs))


def test_a_path_that_no_log_can_have_is_refused(shards: Path, recipe: Path, tmp_path: Path) -> None:
    result = run(shards, "--recipe", recipe, "--out", os.fsdecode(os.fsencode(tmp_path) + b"/n\xff"))
    assert (result.exit_code, "not UTF-8" in result.output) == (1, True), result.output


def test_nothing_waits_for_a_pipe_in_a_run(finished: Path, shards: Path, recipe: Path, tmp_path: Path) -> None:
    for number, name in enumerate(
        ("run.json", "member-00/metrics.jsonl", "member-00/last-00009-0000000.safetensors")
    ):
        out = Path(shutil.copytree(finished, tmp_path / str(number)))
        (out / name).unlink(missing_ok=True)
        os.mkfifo(out / name)
        result = resume(shards, recipe, out)
        assert "not a file" in result.output or result.exit_code == 0, result.output


def test_a_damaged_log_is_one_message_before_any_step(
    finished: Path, shards: Path, recipe: Path, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    out = copy_of(finished, tmp_path)
    path = out / "member-01" / "metrics.jsonl"
    lines = path.read_bytes().splitlines()
    for line in (b"{", b"null", b'{"loss": Infinity}', b"\xff", b'{"loss": "x"}', b"{}", b"[" * 5000):
        with subtests.test(line=line):
            path.write_bytes(b"\n".join([lines[0], line, *lines[2:]]))
            result = resume(shards, recipe, out)
            assert result.exit_code == 1
            assert "metrics.jsonl: line 2 is damaged" in result.output
            assert "Traceback" not in result.output
    path.unlink()
    assert resume(shards, recipe, out).exit_code == 0


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["truncated", "foreign"])
def test_a_checkpoint_that_cannot_be_used_gives_way_to_the_one_before(
    finished: Path, shards: Path, recipe: Path, tmp_path: Path, damage: str
) -> None:
    out = copy_of(finished, tmp_path)
    newest = sorted(out.glob("member-01/last-*"))[-1]
    other = (out / "member-01" / "best.safetensors").read_bytes()
    newest.write_bytes(newest.read_bytes()[:1000] if damage == "truncated" else other)
    result = resume(shards, recipe, out)
    assert result.exit_code == 0, result.output
    assert f"warning: {newest}" in result.output
    for member in range(2):
        assert same(weights(finished, member), weights(out, member))


@pytest.mark.parametrize("epochs", [3, 7])
def test_a_run_whose_schedule_depends_on_its_length_keeps_it(
    finished: Path, shards: Path, recipe: Path, epochs: int
) -> None:
    options = ("--members", 2, "--fold", "1/5", "--out", finished, "--epochs", epochs, "--resume")
    result = run(shards, "--recipe", recipe, *options)
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert (
        f"was started with recipe.training.epochs 4, not {epochs}, and with schedule 'one_cycle'" in result.output
    )
    assert f"--init-from {finished}" in result.output


@pytest.mark.slow
@pytest.mark.parametrize("schedule", [('kind="constant"',), ('kind="warm_restarts"', "t_0=1", "t_mult=2")])
def test_a_run_that_is_given_more_epochs_ends_as_if_it_had_had_them_from_the_start(
    shards: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schedule: tuple[str, ...]
) -> None:
    settings = [option for each in schedule for option in ("--set", f"schedule.{each}")]

    def arguments(out: str, epochs: int) -> tuple[object, ...]:
        return (
            shards,
            "--recipe",
            recipe,
            "--fold",
            "1/5",
            *settings,
            "--out",
            tmp_path / out,
            "--epochs",
            epochs,
        )

    assert run(*arguments("long", 4)).exit_code == 0
    assert run(*arguments("given", 2)).exit_code == 0
    with monkeypatch.context() as patch:
        run_and_interrupt(patch, 3, *arguments("given", 9), "--resume")  # in the third epoch
    shorter = run(*arguments("given", 2), "--resume")
    assert (shorter.exit_code, "trained for more than 2 epochs; give --epochs 3 or more" in shorter.output) == (
        1,
        True,
    )
    result = run(*arguments("given", 4), "--resume")
    assert result.exit_code == 0, result.output
    assert same(weights(tmp_path / "long"), weights(tmp_path / "given"))
    assert (tmp_path / "long" / "run.json").read_bytes() == (tmp_path / "given" / "run.json").read_bytes()
    long, given = (metrics(tmp_path / out) for out in ("long", "given"))
    assert [(line["epoch"], line["loss"], line["rmse"]) for line in long] == [
        (line["epoch"], line["loss"], line["rmse"]) for line in given
    ]
    best = [tmp_path / out / "member-00" / "best.safetensors" for out in ("long", "given")]
    assert same(*(load_weights(path) for path in best))
    assert find_members([load_run(tmp_path / "given")])


@pytest.mark.parametrize("fold", ["none", "0/5"])
def test_training_without_any_votes_is_refused(tmp_path: Path, recipe: Path, fold: str) -> None:
    folder = write_kaggle_folder(tmp_path / "kaggle", num_train=20, num_test=1)
    path = folder / "training_solutions_rev1.csv"
    table = pd.read_csv(path)
    table.iloc[:, 1:] = float("nan")
    table.to_csv(path, index=False)
    unlabelled = pack(folder, tmp_path / "shards", "--missing-votes")
    result = run(unlabelled, "--recipe", recipe, "--fold", fold, "--out", tmp_path / "run")
    assert result.exit_code == 1
    assert "no votes at all" in result.output
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_no_number_stops_and_keeps_the_checkpoints(
    shards: Path, recipe: Path, tmp_path: Path
) -> None:
    wild = tmp_path / "wild.toml"
    exploding = 'kind = "sgd"\nlr = 9e5\nweight_decay = 0.5'  # weights grow 450,000 times a step
    wild.write_text(RECIPE.replace('kind = "adamw"\nlr = 0.003', exploding))
    out = tmp_path / "run"
    result = run(shards, "--recipe", wild, "--fold", "none", "--epochs", 9, "--out", out)
    assert result.exit_code == 1, result.output
    assert re.search(r"epoch \d/9, step \d: the loss of member 0 is (nan|inf) on \d{6}, \d{6}, ", result.output)
    assert "lower learning rate" in result.output
    assert "Traceback" not in result.output
    for path in (out / "member-00").glob("last-*"):
        assert all(value.isfinite().all() for value in load_state(path)["member"]["network"].values())


@pytest.mark.slow
def test_resuming_a_finished_run_changes_nothing(finished: Path, shards: Path, recipe: Path) -> None:
    before = weights(finished)
    result = run(shards, "--recipe", recipe, "--members", 2, "--fold", "1/5", "--out", finished, "--resume")
    assert result.exit_code == 0, result.output
    assert same(before, weights(finished))
    assert len(metrics(finished)) == 4


def test_two_trainings_do_not_write_to_one_folder(shards: Path, recipe: Path, finished: Path) -> None:
    with exclusive(finished / "lock", busy=""):
        result = run(shards, "--recipe", recipe, "--members", 2, "--fold", "1/5", "--out", finished, "--resume")
    assert result.exit_code == 1
    assert "another training writes to it" in result.output


def test_a_folder_that_another_training_is_writing_to_is_busy_whatever_lies_in_it(
    shards: Path, recipe: Path, tmp_path: Path
) -> None:
    """A file that the other one is about to rename must not be called foreign."""
    (out := tmp_path / "run").mkdir()
    (out / "curves.png.part").touch()
    with exclusive(out / "lock", busy=""):
        result = run(shards, "--recipe", recipe, "--out", out)
    assert result.exit_code == 1
    assert "another training writes to it" in result.output


def test_a_folder_of_something_else_is_refused_and_left_as_it_was(
    shards: Path, recipe: Path, tmp_path: Path
) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "precious.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name, says in (("notes", "is not empty"), ("file", "is not a folder")):
        result = run(shards, "--recipe", recipe, "--out", tmp_path / name)
        assert (result.exit_code, says in result.output) == (1, True), result.output
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "notes", "precious.txt"]


def test_training_without_a_fold_uses_every_shard(shards: Path, recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = run(shards, "--recipe", recipe, "--fold", "none", "--epochs", 1, "--out", out)
    assert result.exit_code == 0, result.output
    assert "rmse" not in metrics(out)[0]
    assert (out / "member-00" / "best.safetensors").exists()


def test_a_balanced_training_says_how_often_each_answer_comes(shards: Path, recipe: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text(f'{recipe.read_text()}balance = "smooth or disk"\nbalance_strength = 0.5\n')
    result = run(shards, "--recipe", own, "--epochs", 1, "--fold", "none", "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert len(re.findall(r"smooth or disk: .*: \d+ galaxies, each [\d.]+ times an epoch", result.output)) == 3
    own.write_text(f'{recipe.read_text()}balance = "smoth or disk"\n')
    result = run(shards, "--recipe", own, "--out", tmp_path / "other")
    assert result.exit_code == 1
    assert "did you mean 'smooth or disk'?" in result.output


def test_partly_labelled_galaxies_are_trained_on_with_their_votes_only(tmp_path: Path, recipe: Path) -> None:
    folder = write_kaggle_folder(tmp_path / "kaggle", num_train=40, num_test=1)
    path = folder / "training_solutions_rev1.csv"
    table = pd.read_csv(path).drop(columns=[f"Class11.{i}" for i in range(1, 7)])
    table.iloc[3:9, 8:20] = float("nan")
    table.to_csv(path, index=False)
    partly = pack(folder, tmp_path / "shards", "--missing-votes")
    out = tmp_path / "run"
    result = run(partly, "--recipe", recipe, "--fold", "0/5", "--epochs", 2, "--out", out)
    assert result.exit_code == 0, result.output
    assert all(0 < line["loss"] < 1 and 0 < line["rmse"] < 1 for line in metrics(out))


def bad_arguments(shards: Path, recipe: Path, finished: Path, tmp_path: Path) -> dict[str, tuple[list, int, str]]:
    shuffled = tmp_path / "bad.toml"
    shuffled.write_text(RECIPE.replace("crop_px", "crop_pixels"))
    return {
        "no shards": ([tmp_path / "nothing", "--recipe", recipe], 1, "no manifest.json"),
        "unknown recipe": ([shards, "--recipe", "quik"], 1, "did you mean 'quick'?"),
        "unknown key": ([shards, "--recipe", shuffled], 1, "did you mean 'crop_px'?"),
        "taken folder": ([shards, "--recipe", recipe, "--out", finished], 1, "is not empty; go on with --resume"),
        "resume another": (
            [shards, "--recipe", recipe, "--members", 3, "--fold", "1/5", "--out", finished, "--resume"],
            1,
            "was started with members 2, not 3",
        ),
        "bad fold": ([shards, "--fold", "5/5"], 2, "neither 'none' nor k/K"),
        "too many folds": ([shards, "--fold", "1/50"], 1, "50 folds of 10 shards"),
        "members": ([shards, "--members", 0], 2, "--members"),
        "weights for a CNN": ([shards, "--recipe", recipe, "--weights", "a.pth"], 1, "omit --weights"),
        "no weights": (
            [shards, "--recipe", "ng_resnet50", "--weights", "a.pth"],
            1,
            "a.pth: there is no such file",
        ),
        "frozen random weights": (
            [shards, "--recipe", "notebook_resnet18", "--no-pretrained"],
            1,
            "add --set network.frozen=false",
        ),
        "weights and none": ([shards, "--weights", "a.pth", "--no-pretrained"], 2, "omit --no-pretrained"),
        "weights and a run": ([shards, "--weights", "a.pth", "--init-from", finished], 2, "omit --init-from"),
    }


CASES = (
    "no shards", "unknown recipe", "unknown key", "taken folder", "resume another", "bad fold",
    "too many folds", "members", "weights for a CNN", "no weights", "weights and none",
    "weights and a run", "frozen random weights",
)  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_message_and_a_bad_exit_code(
    case: str, shards: Path, recipe: Path, finished: Path, tmp_path: Path
) -> None:
    arguments, code, message = bad_arguments(shards, recipe, finished, tmp_path)[case]
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert message in result.output
    assert "Traceback" not in result.output


def test_pretrained_weights_that_cannot_be_had_are_explained(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import timm

    def offline(*args: object, **options: object) -> None:
        raise OSError("no network here.\nmore")

    monkeypatch.setattr(timm, "create_model", offline)
    result = run(shards, "--recipe", "ng_resnet50", "--out", tmp_path / "run")
    assert result.exit_code == 1
    assert "--no-pretrained" in result.output
    assert "get model.safetensors of timm/resnet50.a1_in1k (https://huggingface.co/timm/resnet50" in result.output
    assert "--weights FILE" in result.output
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("frozen", ["false", "true"])
def test_a_run_starts_from_a_file_of_weights_and_needs_it_no_more(
    frozen: str, shards: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own.toml"
    head, _, rest = recipe.read_text().partition("[network]")
    own.write_text(
        f'{head}[network]\nkind = "timm"\nmodel = "resnet10t"\nfrozen = {frozen}\n[head]{rest.partition("[head]")[2]}'
    )
    file, other, out = tmp_path / "w.pth", tmp_path / "other.pth", tmp_path / "run"
    for path in (file, other):
        torch.save(timm.create_model("resnet10t").state_dict(), path)
    arguments = (shards, "--recipe", own, "--epochs", 1, "--fold", "1/5", "--weights", file)
    whole = run(*arguments, "--out", tmp_path / "whole")
    assert whole.exit_code == 0, whole.output
    with monkeypatch.context() as patch:
        run_and_interrupt(patch, 2, *arguments, "--out", out)
    assert json.loads((out / "run.json").read_text())["weights_sha256"] == sha256_of(file)
    assert "started with weights_sha256" in run(*arguments[:-1], other, "--out", out, "--resume").output
    begun = tmp_path / "begun"
    (begun / "member-00").mkdir(parents=True)
    shutil.copy(out / "run.json", begun)
    assert "no checkpoint yet" in run(*arguments[:-2], "--out", begun, "--resume").output
    file.unlink()
    resumed = run(*arguments, "--out", out, "--resume")
    assert resumed.exit_code == 0, resumed.output
    assert same(weights(out), weights(tmp_path / "whole"))
    options = ("--out", tmp_path / "s.csv", "--views", 1, "--device", "cpu", "--workers", 1)
    predicted = CliRunner().invoke(predict.main, [str(each) for each in (out, shards, *options)])
    assert predicted.exit_code == 0, predicted.output


class TestPredict:
    def predict(self, *args: object) -> Result:
        return CliRunner().invoke(predict.main, [str(arg) for arg in (*args, "--device", "cpu", "--workers", 1)])

    def test_each_test_galaxy_is_predicted_once_in_kaggles_format(
        self, finished: Path, shards: Path, kaggle_folder: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "s.csv"
        result = self.predict(finished, shards, "--out", out, "--views", 4)
        assert result.exit_code == 0, result.output
        ids = [path.stem for path in (kaggle_folder / "images_test_rev1").iterdir()]
        table = read_submission(out, load_tree("gz2-kaggle"), expected_ids=ids)
        assert len(table) == len(ids)

    def test_views_at_several_zooms_are_blended(self, finished: Path, shards: Path, tmp_path: Path) -> None:
        tables = []
        for zooms in ("1", "1.25", "1,1.25"):
            count = 2 * len(zooms.split(","))
            out = tmp_path / "s.csv"
            assert self.predict(finished, shards, "--out", out, "--views", count, "--zooms", zooms).exit_code == 0
            tables.append(pd.read_csv(out).drop(columns="GalaxyID").to_numpy())
        assert abs(tables[0] - tables[1]).max() > 1e-4
        assert tables[2] == pytest.approx((tables[0] + tables[1]) / 2, abs=1e-6)

    def test_batches_do_not_change_the_prediction(self, finished: Path, shards: Path, tmp_path: Path) -> None:
        tables = []
        for size in (4, 128):
            out = tmp_path / f"{size}.csv"
            assert self.predict(finished, shards, "--out", out, "--views", 2, "--batch-size", size).exit_code == 0
            tables.append(pd.read_csv(out))
        pd.testing.assert_frame_equal(*tables, atol=1e-6, rtol=0)

    def test_the_held_out_score_is_that_of_the_best_epoch(
        self, finished: Path, shards: Path, labels: pd.DataFrame, tmp_path: Path
    ) -> None:
        """Prediction sees what validation saw: the same plain view, the same weights."""
        result = self.predict(finished, shards, "--split", "train", "--out", tmp_path / "s.csv")
        assert result.exit_code == 0, result.output
        table = pd.read_csv(tmp_path / "s.csv", dtype={"GalaxyID": str}).set_index("GalaxyID")
        held_out = open_shards(shards, "train", fold=Fold(1, 5), held_out=True)
        keys = held_out.keys.tolist()
        blended = rmse(table.loc[keys], labels.loc[keys])
        best = [min(line["rmse"] for line in metrics(finished, member)) for member in range(2)]
        assert blended <= sum(best) / 2 + 1e-6  # the mean of members is at least as good as they are on average

    def test_a_run_and_shards_that_do_not_fit_are_refused(self, finished: Path, tmp_path: Path) -> None:
        import numpy as np
        import simplejpeg
        from making import make_image

        folder = write_kaggle_folder(tmp_path / "kaggle", num_train=0, num_test=0)
        for each in range(3):
            jpeg = simplejpeg.encode_jpeg(make_image(np.random.default_rng(each), 64))
            (folder / "images_test_rev1" / f"{each}.jpg").write_bytes(jpeg)
        (folder / "training_solutions_rev1.csv").unlink()
        (folder / "images_training_rev1").rmdir()
        other = pack(folder, tmp_path / "shards")
        result = self.predict(finished, other, "--out", tmp_path / "s.csv")
        assert result.exit_code == 1
        assert "was trained on images of (96, 96) px" in result.output
        assert not (tmp_path / "s.csv").exists()

    def test_one_member_predicts_the_fold_with_exactly_its_validation_score(
        self, shards: Path, recipe: Path, labels: pd.DataFrame, tmp_path: Path
    ) -> None:
        out, own = tmp_path / "run", tmp_path / "own.toml"
        own.write_text(recipe.read_text().replace("flip = true", 'flip = true\nnormalisation = "measured"'))
        assert run(shards, "--recipe", own, "--fold", "1/5", "--out", out).exit_code == 0
        mean = json.loads((out / "run.json").read_text())["recipe"]["view"]["mean"]
        assert mean == list(read_manifest(shards).channel_mean)
        assert self.predict(out, shards, "--split", "train", "--out", tmp_path / "s.csv").exit_code == 0
        table = pd.read_csv(tmp_path / "s.csv", dtype={"GalaxyID": str}).set_index("GalaxyID")
        held_out = open_shards(shards, "train", fold=Fold(1, 5), held_out=True)
        keys = held_out.keys.tolist()
        assert rmse(table.loc[keys], labels.loc[keys]) == pytest.approx(
            min(m["rmse"] for m in metrics(out)), abs=1e-6
        )

    def test_shards_of_another_tree_are_refused(self, finished: Path, shards: Path, tmp_path: Path) -> None:
        other = shutil.copytree(shards, tmp_path / "shards")
        manifest = json.loads((other / "manifest.json").read_text())
        manifest["tree"]["question"][0]["name"] = "another question"
        (other / "manifest.json").write_text(json.dumps(manifest))
        result = self.predict(finished, other, "--out", tmp_path / "s.csv")
        assert result.exit_code == 1
        assert "was trained on the tree 'gz2-kaggle'" in result.output

    @pytest.mark.parametrize(("key", "value"), [("members", 0), ("data", {}), ("recipe", {})])
    def test_an_edited_run_is_refused(
        self, finished: Path, shards: Path, tmp_path: Path, key: str, value: object
    ) -> None:
        edited = copy_of(finished, tmp_path)
        saved = json.loads((edited / "run.json").read_text())
        (edited / "run.json").write_text(json.dumps({**saved, key: value}))
        result = self.predict(edited, shards, "--out", tmp_path / "s.csv")
        assert result.exit_code == 1
        assert "run.json" in result.output
        assert "Traceback" not in result.output

    @pytest.mark.parametrize(
        ("change", "code", "message"),
        [
            (lambda a: a | {"run": "nothing"}, 1, "no run.json"),
            (lambda a: a | {"shards": "nothing"}, 1, "no manifest.json"),
            (lambda a: a | {"views": 3}, 2, "give 1 or a multiple of 2"),
            (lambda a: a | {"zooms": "0.9,1.1"}, 2, "give 2 or a multiple of 4"),
            (lambda a: a | {"zooms": "1,x"}, 2, "'1,x': give numbers"),
            (lambda a: a | {"out": "nowhere/s.csv"}, 1, "nowhere is missing; make it first"),
            (lambda a: a | {"out": a["out"].parent}, 1, "is a folder; name a file in it"),
            (lambda a: a | {"out": a["run"]}, 1, "is read by this command; name another"),
        ],
    )
    def test_bad_input_is_one_message_and_a_bad_exit_code(
        self, finished: Path, shards: Path, tmp_path: Path, change, code: int, message: str
    ) -> None:
        arguments = change({"run": finished, "shards": shards, "out": tmp_path / "s.csv"})
        options = (
            part
            for name in ("views", "zooms", "out")
            if name in arguments
            for part in (f"--{name}", arguments[name])
        )
        result = self.predict(arguments["run"], arguments["shards"], *options)
        assert result.exit_code == code, result.output
        assert message in result.output
        assert "Traceback" not in result.output

    @pytest.mark.parametrize("weights", [[], None, {}, {"0.0.weight": 1.0}])
    def test_weights_of_another_kind_are_refused(
        self, finished: Path, shards: Path, tmp_path: Path, weights: object
    ) -> None:
        out = copy_of(finished, tmp_path)
        path = out / "member-01" / "best.safetensors"
        save_state(path, {**load_state(path), "weights": weights})
        result = self.predict(out, shards, "--out", tmp_path / "s.csv")
        assert (result.exit_code, str(path) in result.output) == (1, True), result.output
        assert "Traceback" not in result.output
        assert not (tmp_path / "s.csv").exists()

    def test_a_run_without_checkpoints_is_refused(self, finished: Path, shards: Path, tmp_path: Path) -> None:
        run_folder = shutil.copytree(finished, tmp_path / "run")
        (run_folder / "member-01" / "best.safetensors").unlink()
        result = self.predict(run_folder, shards, "--out", tmp_path / "s.csv")
        assert result.exit_code == 1
        assert "no checkpoint yet" in result.output
