"""Runs that go on with --resume: interrupted, damaged, edited, and with more epochs."""

import json
import math
import os
import shutil
from pathlib import Path

import pytest
import timm
import torch
from click.testing import CliRunner, Result
from trained import RECIPE, metrics, run, run_and_interrupt, same, weights

import evaluate
import predict
from galaxy_zoo.files import sha256_of
from galaxy_zoo.submission import read_submission
from galaxy_zoo.tree import load_tree
from prediction.members import find_members
from training.checkpoint import Snapshot, load_header, load_state, load_weights
from training.run import load_run


def copy_of(finished: Path, folder: Path) -> Path:
    return shutil.copytree(finished, folder / "run")


def resume(shards: Path, recipe: Path, out: Path) -> Result:
    return run(shards, "--recipe", recipe, "--members", 2, "--fold", "1/5", "--out", out, "--resume")


def learnt_the_same(one: Path, other: Path) -> bool:
    """Whether both members of two runs have the same weights and had the same losses."""
    return all(
        same(weights(one, member), weights(other, member))
        and [line["loss"] for line in metrics(one, member)] == [line["loss"] for line in metrics(other, member)]
        for member in range(2)
    )


@pytest.mark.slow
def test_a_run_interrupted_at_a_step_and_resumed_ends_with_the_same_weights(
    finished: Path,
    shards: Path,
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    subtests: pytest.Subtests,
) -> None:
    for stop_after in (2, 5, 9):
        with subtests.test(stop_after=stop_after):
            out = tmp_path / str(stop_after)
            arguments = (shards, "--recipe", recipe, "--members", 2, "--fold", "1/5", "--out", out)
            with monkeypatch.context() as patch:
                stopped = run_and_interrupt(patch, stop_after, *arguments)
            assert "--resume" in stopped.output
            resumed = resume(shards, recipe, out)
            assert resumed.exit_code == 0, resumed.output
            assert learnt_the_same(out, finished)


@pytest.mark.slow
def test_resuming_a_finished_run_changes_nothing(finished: Path, shards: Path, recipe: Path) -> None:
    before = weights(finished)
    result = run(shards, "--recipe", recipe, "--members", 2, "--fold", "1/5", "--out", finished, "--resume")
    assert result.exit_code == 0, result.output
    assert f"trained already: 2 x tiny: {finished}" in result.output
    assert same(before, weights(finished))
    assert len(metrics(finished)) == 4


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
def test_without_a_members_newest_checkpoint_all_go_on_from_the_newest_that_they_have(
    finished: Path, shards: Path, recipe: Path, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    """It is missing where a run was killed after one member was saved and before the next."""
    for damage in ("missing", "truncated", "foreign"):
        with subtests.test(damage=damage):
            out = copy_of(finished, tmp_path / damage)
            newest = sorted(out.glob("member-01/last-*"))[-1]
            if damage == "missing":
                newest.unlink()
            elif damage == "truncated":
                os.truncate(newest, 1000)
            else:
                shutil.copy(out / "member-01" / "best.safetensors", newest)
            result = resume(shards, recipe, out)
            assert result.exit_code == 0, result.output
            assert (f"warning: {newest}" in result.output) == (damage != "missing")
            assert learnt_the_same(out, finished)


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
        Snapshot.of(load_state(newest) | forged).write(newest)
        resumed = run(*arguments, "--out", out, "--resume")
        assert resumed.exit_code == 0, resumed.output
        assert "trying the checkpoints before" in resumed.output
        assert same(weights(out), weights(two_epochs))


@pytest.mark.slow
def test_best_weights_that_are_lost_are_those_of_later_epochs_or_an_error(
    finished: Path, shards: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = copy_of(finished, tmp_path / "over")
    os.truncate(over / "member-01" / "best.safetensors", 1000)
    for _ in range(2):
        result = resume(shards, recipe, over)
        assert result.exit_code == 1, result.output
        assert result.output.endswith("missing or damaged; restore the file, or train again with another --out\n")
        (over / "member-01" / "best.safetensors").unlink(missing_ok=True)

    arguments = (shards, "--recipe", recipe, "--epochs", 2, "--fold", "1/5", "--out", tmp_path / "half")
    run_and_interrupt(monkeypatch, 6, *arguments)
    monkeypatch.undo()
    best = tmp_path / "half" / "member-00" / "best.safetensors"
    best.unlink()
    result = run(*arguments, "--resume")
    assert result.exit_code == 0, result.output
    assert f"warning: {best}: the best weights are missing or damaged; the best of" in result.output
    assert load_header(best)["epoch"] == 1


@pytest.mark.slow
def test_a_run_killed_while_it_saved_for_the_first_time_begins_again(
    finished: Path, shards: Path, recipe: Path, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    """As it is after kill -9 at the end of the first epoch: best weights and logs are there, or one checkpoint too."""
    for saved in ("nothing", "the first member"):
        with subtests.test(saved=saved):
            out = copy_of(finished, tmp_path / saved)
            for path in out.glob("member-*/last-*"):
                path.unlink()
            for path in out.glob("member-*/metrics.jsonl"):
                path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
            if saved != "nothing":
                (out / "member-00" / "last-00001-0000000.safetensors").write_bytes(b"of the first epoch")
            (out / "member-01" / "last-00001-0000000.safetensors.part").write_bytes(b"cut off")
            result = resume(shards, recipe, out)
            assert result.exit_code == 0, result.output
            assert not list(out.rglob("*.part"))
            assert learnt_the_same(out, finished)
            assert [[line["epoch"] for line in metrics(out, member)] for member in range(2)] == [[0, 1, 2, 3]] * 2


def test_what_was_killed_while_it_wrote_down_the_run_leaves_the_folder_free(
    shards: Path, recipe: Path, tmp_path: Path
) -> None:
    (tmp_path / "run" / "member-00").mkdir(parents=True)
    for name in ("lock", "run.json.part"):
        (tmp_path / "run" / name).touch()
    result = run(shards, "--recipe", recipe, "--fold", "1/5", "--epochs", 1, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert not list(tmp_path.rglob("*.part"))


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


EDITS = [
    ("fold", "2/5", 'fold "1/5", not "2/5"'),
    ("fold", "none", 'fold "1/5", not "none"'),
    ("seed", 1, "seed 0, not 1"),
    ("pretrained", False, "pretrained true, not false"),
    ("shard_groups", 3, "shard_groups 0, not 3"),
    ("manifest_sha256", "0" * 64, "data.manifest_sha256"),
    ("crop_px", 60, "recipe.view.crop_px 64, not 60"),
]


def test_an_edited_run_is_not_scored_predicted_with_or_resumed(
    finished: Path, shards: Path, recipe: Path, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    out, where = copy_of(finished, tmp_path), ("--device", "cpu", "--workers", "1")
    whole = (out / "run.json").read_text()
    best = out / "member-00" / "best.safetensors"
    commands = {
        predict.main: (out, shards, "--out-of-fold", "--out", tmp_path / "s.csv", *where),
        evaluate.main: (out, shards, "--out", tmp_path / "report", *where),
    }
    for key, value, says in EDITS:
        with subtests.test(key=key, value=value):
            saved = json.loads(whole)
            part = {"manifest_sha256": saved["data"], "crop_px": saved["recipe"]["view"]}.get(key, saved)
            assert part[key] != value
            part[key] = value
            (out / "run.json").write_text(json.dumps(saved))
            for command, arguments in commands.items():
                result = CliRunner().invoke(command, list(map(str, arguments)))
                assert (result.exit_code, result.output.count("\n")) == (1, 1), result.output
                assert f"{out / 'run.json'} is not what {best} was trained with" in result.output
                assert says in result.output
            assert not (tmp_path / "report").exists()
            if key == "manifest_sha256":
                assert f"{out} was started with other shards; resume with" in resume(shards, recipe, out).output
            if key in {"fold", "seed"}:
                assert "was started with" in resume(shards, recipe, out).output
                asked = ("--members", 2, "--fold", saved["fold"], "--seed", saved["seed"])
                result = run(shards, "--recipe", recipe, *asked, "--out", out, "--resume")
                assert (result.exit_code, says in result.output) == (1, True), result.output


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


def test_a_run_whose_schedule_depends_on_its_length_keeps_it(finished: Path, shards: Path, recipe: Path) -> None:
    for epochs in (3, 7):
        options = ("--members", 2, "--fold", "1/5", "--out", finished, "--epochs", epochs, "--resume")
        result = run(shards, "--recipe", recipe, *options)
        assert (result.exit_code, result.output.count("\n")) == (1, 1)
        assert f"training.epochs 4, not {epochs}, and with schedule 'one_cycle'" in result.output
        assert f"--init-from {finished}" in result.output


@pytest.mark.slow
@pytest.mark.parametrize("schedule", [('kind="constant"',), ('kind="warm_restarts"', "t_0=1", "t_mult=2")])
def test_a_run_that_is_given_more_epochs_ends_as_if_it_had_had_them_from_the_start(
    shards: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schedule: tuple[str, ...]
) -> None:
    settings = [option for each in schedule for option in ("--set", f"schedule.{each}")]

    def arguments(out: str, epochs: int) -> tuple[object, ...]:
        options = ("--recipe", recipe, "--fold", "1/5", *settings, "--epochs", epochs)
        return (shards, *options, "--out", tmp_path / out)

    assert run(*arguments("long", 4)).exit_code == 0
    assert run(*arguments("given", 2)).exit_code == 0
    with monkeypatch.context() as patch:
        run_and_interrupt(patch, 3, *arguments("given", 9), "--resume")  # in the third epoch
    shorter = run(*arguments("given", 2), "--resume")
    assert shorter.exit_code == 1
    assert "trained for more than 2 epochs; give --epochs 3 or more" in shorter.output
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
    assert f"starting from the weights in {file}\n" in whole.output
    ours = tmp_path / "whole" / "member-00" / "best.safetensors"
    assert f"--init-from {tmp_path / 'whole'}" in run(*arguments[:-1], ours, "--out", out).output
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
