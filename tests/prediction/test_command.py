"""predict.py: the commands of its page, what it compares with, and what it refuses."""

import json
import shlex
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from making import NUM_TEST, edited_run, make_votes
from pages import commands as block_of_commands
from predicting import predicted, read, run

from galaxy_zoo.tree import load_tree
from galaxy_zoo.votes import rmse
from shard_tool.cli import main as shard_tool
from training.checkpoint import Snapshot, load_state

TREE = load_tree("gz2-kaggle")


def test_the_commands_of_the_page_on_predicting_run_as_they_stand_there(
    runs: dict[str, Path], shards: Path, kaggle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    links = {
        "runs/a": runs["tree"],
        "runs/b": runs["sigmoid"],
        "runs/c/fold-1-of-5": runs["tree"],
        "shards": shards,
    }
    for name, target in {**links, "images": kaggle_folder / "images_test_rev1"}.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).symlink_to(target)
    Path("kaggle").mkdir()
    with zipfile.ZipFile("kaggle/training_solutions_rev1.zip", "w") as file:
        file.write(kaggle_folder / "training_solutions_rev1.csv", "training_solutions_rev1.csv")
    ids = [path.stem for path in Path("images").iterdir()]
    votes = pd.DataFrame(make_votes(np.random.default_rng(0), NUM_TEST), index=ids, columns=list(TREE.columns))
    for name in ("central_pixel_benchmark.csv", "truth.csv"):
        votes.to_csv(name, index_label="GalaxyID")
    block = block_of_commands("Predicting", "docs/commands.md")
    commands = [shlex.split(line, comments=True) for line in block.splitlines()]
    assert len(commands) == 5
    for command in commands:
        if command[0] == "shard_tool":
            result = CliRunner().invoke(shard_tool, command[1:])
        else:
            assert command[:2] == ["python", "predict.py"]
            result = run(*(path for part in command[2:] for path in sorted(Path().glob(part)) or [part]))
        assert result.exit_code == 0, result.output


def test_ids_that_are_missing_are_named_after_the_prediction(
    runs: dict[str, Path], shards: Path, tmp_path: Path
) -> None:
    ids = predicted(tmp_path / "s.csv", runs["sigmoid"], shards).index.tolist()
    for extra, code in (([], 0), (["999999"], 1)):
        (tmp_path / "ids.txt").write_text("\n".join([*ids, *extra]))
        result = run(runs["sigmoid"], shards, "--out", tmp_path / "s.csv", "--ids", tmp_path / "ids.txt")
        assert result.exit_code == code, result.output
    assert "1 ids are missing: 999999" in result.output


def test_a_score_comes_with_its_interval_and_that_of_each_question(
    runs: dict[str, Path], shards: Path, labels: pd.DataFrame, tmp_path: Path
) -> None:
    labels.to_csv(tmp_path / "truth.csv")
    what = [runs["sigmoid"], shards, "--split", "train", "--out", tmp_path / "s.csv"]
    result = run(*what, "--truth", tmp_path / "truth.csv")
    assert result.exit_code == 0, result.output
    table = read(tmp_path / "s.csv")
    assert f"RMSE {rmse(table, labels.loc[table.index]):.5f} (" in result.stdout
    for question in TREE.questions:
        assert f"  {question.name} " in result.stdout
    assert "answers do not sum to the votes of their parent" in result.stderr


def test_weights_that_are_none_are_one_message(
    runs: dict[str, Path], shards: Path, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    """With a checksum that is right: somebody made them so."""
    spoilt = shutil.copytree(runs["tree"], tmp_path / "spoilt")
    best = spoilt / "member-01" / "best.safetensors"
    trained = load_state(best)
    states = [[1], None, {}, {"weights": [1]}, {"weights": None}, {"weights": {"a": 1}}]
    states += [trained | {"weights": weights} for weights in ([], None, {}, {"0.0.weight": 1.0})]
    for state in states:
        with subtests.test(state=state):
            Snapshot.of(state).write(best)
            result = run(spoilt, shards, "--out", tmp_path / "s.csv")
            assert (result.exit_code, result.stderr.count("Error: ")) == (1, 1), result.output
            assert f"{best}: " in result.stderr
            assert not (tmp_path / "s.csv").exists()


def cases(runs: dict[str, Path], shards: Path, folder: Path) -> list[tuple[list[object], int, str]]:
    """Return arguments, exit codes and words of the message; `folder` is the working directory."""
    one = runs["tree"]
    data = json.loads((one / "run.json").read_text())["data"]
    other = edited_run(one, folder / "other", data={**data, "tree": {**data["tree"], "name": "another"}})
    small = edited_run(one, folder / "small", data={**data, "image_px": [64, 64]})
    unfinished = shutil.copytree(one, folder / "unfinished")
    (unfinished / "member-01" / "best.safetensors").unlink()
    return [
        ([shards], 2, "Missing argument 'RUN...'"),
        (["nothing", shards], 1, "no run.json"),
        ([unfinished, shards], 1, "no checkpoint yet"),
        ([one, other, shards], 1, "predict with them one by one"),
        ([one, shards_of_another_tree(shards, folder)], 1, "was trained on the tree 'gz2-kaggle'"),
        ([one, small, shards], 1, "was trained on images of (64, 64) px"),
        ([small, shards], 1, "was trained on images of (64, 64) px"),
        ([one, one, shards], 1, "has the same weights as"),
        ([one, "nothing"], 2, "nothing: no such file or folder"),
        ([one, shards_without_test(shards, folder)], 1, "no test shards"),
        ([one, folder / "images"], 1, "no image among"),
        ([one, folder, "--out-of-fold"], 2, "need the shards trained on"),
        ([one, shards, "--resize"], 2, "--resize is for images"),
        ([one, shards, "--out-of-fold", "--blend", "weights"], 2, "goes with neither"),
        ([one, shards, "--views", 3], 2, "give 1 or a multiple of 2"),
        ([one, shards, "--zooms", "0.9,1.1"], 2, "give 2 or a multiple of 4"),
        ([one, shards, "--zooms", "1,x"], 2, "'1,x': give numbers"),
        ([one, shards, "--truth", folder / "none.csv"], 1, "none.csv: there is no such file"),
        ([one, shards, "--ids", folder / "none.txt"], 1, "none.txt: there is no such"),
        ([one, shards, "--details", folder / "none" / "d.parquet"], 1, "none is missing; make it first"),
        ([one, shards, "--out", folder / "none" / "s.csv"], 1, "none is missing; make it first"),
        ([one, shards, "--out", folder / "images"], 1, "is a folder; name a file in it"),
        ([one, shards, "--out", one], 1, "is read by this command; name another"),
    ]


def with_manifest(shards: Path, out: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Return a copy of the shards whose manifest was changed."""
    shutil.copytree(shards, out)
    manifest = json.loads((out / "manifest.json").read_text())
    change(manifest)
    (out / "manifest.json").write_text(json.dumps(manifest))
    return out


def shards_without_test(shards: Path, folder: Path) -> Path:
    def change(manifest: dict[str, Any]) -> None:
        del manifest["splits"]["test"], manifest["set_sha256"]

    return with_manifest(shards, folder / "no test", change)


def shards_of_another_tree(shards: Path, folder: Path) -> Path:
    def change(manifest: dict[str, Any]) -> None:
        manifest["tree"]["question"][0]["name"] = "another question"

    return with_manifest(shards, folder / "another tree", change)


def test_bad_input_is_one_message_and_a_bad_exit_code(
    runs: dict[str, Path],
    shards: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    subtests: pytest.Subtests,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "notes.txt").write_text("no galaxy")
    for arguments, code, message in cases(runs, shards, tmp_path):
        with subtests.test(arguments=arguments):
            result = run(*arguments)
            assert result.exit_code == code, result.output
            assert message in result.output
            assert "Traceback" not in result.output
            assert not list(tmp_path.glob("*.parts"))
            assert not list(tmp_path.glob("*.csv"))
