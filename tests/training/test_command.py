"""train.py: what a run leaves and says, what it takes and what it refuses."""

import json
import os
import re
import tomllib
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
import timm
import torch
from click.testing import CliRunner
from making import NUM_TRAIN, pack, write_kaggle_folder
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from trained import RECIPE, metrics, run, same, weights

import train
from ensemble import model
from ensemble.recipe import load_recipe
from galaxy_zoo.files import exclusive
from galaxy_zoo.fold import Fold
from galaxy_zoo.manifest import read_manifest
from pipeline.shards import open_shards
from training.checkpoint import load_state, positions
from training.run import load_run


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
def test_every_fold_gets_a_run_of_its_own(shards: Path, recipe: Path, tmp_path: Path) -> None:
    arguments = (shards, "--recipe", recipe, "--fold", "all/2", "--epochs", 1, "--out", tmp_path / "runs")
    assert run(*arguments).exit_code == 0
    folders = [tmp_path / "runs" / f"fold-{k}-of-2" for k in (0, 1)]
    assert [json.loads((each / "run.json").read_text())["fold"] for each in folders] == ["0/2", "1/2"]
    resumed = run(*arguments, "--resume")
    assert resumed.exit_code == 0, resumed.output
    assert len(metrics(folders[1])) == 1


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
    lasts = sorted(len(metrics(out, member)) for member in range(2))
    assert len(re.findall(r"^epoch \d+: loss .*stopped", result.output, re.M)) == lasts[1] - lasts[0]


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


def test_the_list_of_recipes_needs_no_shards() -> None:
    result = CliRunner().invoke(train.main, ["--list"])
    assert result.exit_code == 0
    assert "19,460,645" in result.output


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


def test_training_without_any_votes_is_refused(tmp_path: Path, recipe: Path) -> None:
    folder = write_kaggle_folder(tmp_path / "kaggle", num_train=20, num_test=1)
    path = folder / "training_solutions_rev1.csv"
    table = pd.read_csv(path)
    table.iloc[:, 1:] = float("nan")
    table.to_csv(path, index=False)
    unlabelled = pack(folder, tmp_path / "shards", "--missing-votes")
    for fold in ("none", "0/5"):
        result = run(unlabelled, "--recipe", recipe, "--fold", fold, "--out", tmp_path / "run")
        assert (result.exit_code, "no votes at all" in result.output) == (1, True), result.output
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


def test_a_folder_that_another_training_writes_to_is_busy_whatever_lies_in_it(
    shards: Path, recipe: Path, finished: Path, tmp_path: Path
) -> None:
    """A file that the other one is about to rename must not be called foreign."""
    (begun := tmp_path / "run").mkdir()
    (begun / "curves.png.part").touch()
    for out, options in ((finished, ("--members", 2, "--fold", "1/5", "--resume")), (begun, ())):
        with exclusive(out / "lock", busy=""):
            result = run(shards, "--recipe", recipe, "--out", out, *options)
        assert (result.exit_code, "another run is writing to it" in result.output) == (1, True), result.output


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


def bad_arguments(recipe: Path, finished: Path, tmp_path: Path) -> list[tuple[list[object], int, str]]:
    """Return what may follow the shards, with the exit code and words of the message."""
    unknown = tmp_path / "bad.toml"
    unknown.write_text(RECIPE.replace("crop_px", "crop_pixels"))
    return [
        (["--recipe", "quik"], 1, "did you mean 'quick'?"),
        (["--recipe", unknown], 1, "did you mean 'crop_px'?"),
        (["--recipe", recipe, "--out", finished], 1, "is not empty; continue with --resume"),
        (
            ["--recipe", recipe, "--members", 3, "--fold", "1/5", "--out", finished, "--resume"],
            1,
            "was started with members 2, not 3",
        ),
        (["--fold", "5/5"], 2, "neither 'none' nor k/K"),
        (["--fold", "1/50"], 1, "50 folds of 10 shards"),
        (["--members", 0], 2, "--members"),
        (["--set", "batch_size=8"], 2, "as in training.batch_size=64"),
        (["--set", "training.bach_size=8"], 1, "did you mean 'batch_size'?"),
        (["--recipe", recipe, "--out", os.fsdecode(os.fsencode(tmp_path) + b"/n\xff")], 1, "not UTF-8"),
        (["--recipe", recipe, "--weights", "a.pth"], 1, "omit --weights"),
        (["--recipe", "ng_resnet50", "--weights", "a.pth"], 1, "a.pth: there is no such file"),
        (["--recipe", "notebook_resnet18", "--no-pretrained"], 1, "add --set network.frozen=false"),
        (["--weights", "a.pth", "--no-pretrained"], 2, "omit --no-pretrained"),
        (["--weights", "a.pth", "--init-from", finished], 2, "omit --init-from"),
    ]


def test_bad_input_is_one_message_and_a_bad_exit_code(
    shards: Path, recipe: Path, finished: Path, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    cases = [(shards, *case) for case in bad_arguments(recipe, finished, tmp_path)]
    cases.append((tmp_path / "nothing", ["--recipe", recipe], 1, "no manifest.json"))
    for source, arguments, code, message in cases:
        with subtests.test(source=source, arguments=arguments):
            result = run(source, *([] if "--out" in arguments else ["--out", tmp_path / "run"]), *arguments)
            assert result.exit_code == code, result.output
            assert message in result.output
            assert "Traceback" not in result.output
            assert not (tmp_path / "run").exists()


def test_pretrained_weights_that_cannot_be_had_are_explained(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*args: object, **options: object) -> None:
        raise OSError("no network here.\nmore")

    monkeypatch.setattr(timm, "create_model", offline)
    result = run(shards, "--recipe", "ng_resnet50", "--out", tmp_path / "run")
    assert result.exit_code == 1
    assert "--no-pretrained" in result.output
    assert "get model.safetensors of timm/resnet50.a1_in1k (https://huggingface.co/timm/resnet50" in result.output
    assert "--weights FILE" in result.output
    assert not (tmp_path / "run").exists()
