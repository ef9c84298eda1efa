"""`evaluate.py` writes a report of runs, and says what it cannot evaluate."""

import json
import os
import re
import shutil
from html import unescape
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from making import edited_run, make_votes, pack

import evaluate
import train
from evaluation import collect, extra
from galaxy_zoo.tree import load_tree
from pipeline.shards import open_shards

QUICK = ("--points", 0, "--cams", 0, "--views", 1)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(evaluate.main, [*map(str, arguments), "--device", "cpu", "--workers", "1"])


def scores(report: Path) -> pd.Series:
    return pd.read_csv(report / "tables" / "rmse.csv").set_index("prediction")["rmse"]


def test_a_report_is_one_page_that_needs_nothing_else(report: Path) -> None:
    page = (report / "report.html").read_text()
    page = re.sub(
        r"<script.*?</script>", "", page, flags=re.DOTALL
    )  # Bokeh's library names addresses it never visits
    fetched = re.findall(r'(?:\bsrc=|<link[^>]*\bhref=|url\(|@import)\s*["\']?([^"\')\s>]+)', page)
    assert fetched
    assert all(address.startswith(("data:", "#")) for address in fetched)
    assert len(page) < 15e6


def test_every_table_is_written_as_csv_and_json(report: Path) -> None:
    saved = json.loads((report / "tables.json").read_text())
    files = {path.stem: pd.read_csv(path) for path in (report / "tables").iterdir()}
    assert saved["tables"].keys() == files.keys()
    assert {"rmse", "rmse_by_question", "rmse_by_answer", "pairs", "blends", "classes", "accuracy"} < files.keys()
    for name, table in files.items():
        assert list(saved["tables"][name][0]) == list(table.columns)
        assert len(saved["tables"][name]) == len(table)
    assert saved["report"]["rmse"] == pytest.approx(scores(report)["tiny"])


def test_the_plain_view_scores_what_training_logged(trained: Path, report: Path) -> None:
    found = scores(report)
    for member in range(2):
        lines = (trained / f"member-{member:02d}" / "metrics.jsonl").read_text().splitlines()
        best = min(json.loads(line)["rmse"] for line in lines)
        assert found[f"tiny, member {member}"] == pytest.approx(best, abs=1e-6)
        assert found["mean votes"] == pytest.approx(json.loads(lines[0])["baseline_rmse"], abs=1e-6)


@pytest.fixture(scope="module")
def other_fold(trained: Path, shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("other") / "tiny"
    options = ("--recipe", trained.parent / "tiny.toml", "--fold", "2/5", "--epochs", 1, "--out", out)
    arguments = [str(each) for each in (shards, *options, "--device", "cpu", "--workers", 1)]
    assert CliRunner().invoke(train.main, arguments).exit_code == 0
    return out


def truth_of_test(shards: Path) -> str:
    """A table of votes of the test galaxies: one has none, and some answers are missing of the others."""
    samples = open_shards(shards, "test")
    votes = make_votes(np.random.default_rng(5), len(samples))
    votes[0] = np.nan
    votes[1:9, 3:7] = np.nan
    table = pd.DataFrame(votes, index=samples.keys, columns=list(load_tree("gz2-kaggle").columns))
    return table.to_csv(index_label="GalaxyID")


@pytest.mark.slow
def test_several_runs_are_compared_on_galaxies_of_other_shards_with_a_table_of_votes(
    trained: Path, other_fold: Path, kaggle_folder: Path, tmp_path: Path
) -> None:
    other = pack(kaggle_folder, tmp_path / "other", "--shards", "3")
    out = ("--out", tmp_path / "report")
    refused = run(trained, other, *out, *QUICK)
    assert refused.exit_code == 1
    assert "which galaxies it has not seen is not known" in " ".join(refused.output.split())
    (tmp_path / "truth.csv").write_text(truth_of_test(other))
    result = run(trained, other_fold, other, "--split", "test", "--truth", tmp_path / "truth.csv", *out, *QUICK)
    assert result.exit_code == 0, result.output
    names = {f"{folder.parent.name}/tiny" for folder in (trained, other_fold)} | {"all runs"}
    assert names <= set(scores(tmp_path / "report").index)
    pairs = pd.read_csv(tmp_path / "report" / "tables" / "pairs.csv")
    assert names <= {*pairs["first"], *pairs["second"]}
    assert np.isfinite(pairs["difference"]).all()
    facts = json.loads((tmp_path / "report" / "tables.json").read_text())["report"]
    assert (facts["galaxies"], facts["training_galaxies"]) == (21, 0)  # which ones the runs know is not known here


def test_bad_input_is_one_message_and_a_bad_exit_code(
    trained: Path,
    other_fold: Path,
    shards: Path,
    labels: pd.DataFrame,
    tmp_path: Path,
    subtests: pytest.Subtests,
) -> None:
    unfinished = shutil.copytree(trained, tmp_path / "unfinished")
    (unfinished / "member-01" / "best.safetensors").unlink()
    unlogged = shutil.copytree(trained, tmp_path / "unlogged")
    (unlogged / "member-00" / "metrics.jsonl").unlink()
    labels.to_csv(tmp_path / "truth.csv")
    (tmp_path / "file").touch()
    out = ("--out", tmp_path / "report")
    (tmp_path / "taken" / "report.html").mkdir(parents=True)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "tables").symlink_to(tmp_path / "elsewhere")
    truth = ("--split", "test", "--truth", tmp_path / "truth.csv")
    cases = [
        ((tmp_path, shards, *out), 1, "no run.json"),
        ((trained, tmp_path, *out), 1, "no manifest.json"),
        ((unfinished, shards, *out), 1, "member-01/best.safetensors: no checkpoint yet"),
        ((unlogged, shards, *out, *QUICK), 1, "not a log of a training"),
        ((edited_run(trained, tmp_path / "all", fold="none"), shards, *out), 1, "--split test --truth"),
        ((trained, trained, shards, *out), 1, "name each run once"),
        ((trained, other_fold, shards, *out), 1, "every galaxy of"),
        ((trained, other_tree(shards, tmp_path), *out), 1, "was trained on the tree 'gz2-kaggle'"),
        ((trained, shards, "--split", "test", *out), 1, "no votes in the test shards"),
        ((trained, shards, *truth, *out), 1, "truth.csv: no row of votes for 21 of 21"),
        ((trained, shards, "--truth", tmp_path / "none.csv", *out), 1, "none.csv: there is no such file"),
        ((trained, shards, "--out", tmp_path / "file" / "report"), 1, "cannot be made a folder (Not a directory)"),
        ((trained, shards, "--out", tmp_path / "file"), 1, "cannot be made a folder"),
        ((trained, shards, "--out", tmp_path / "taken"), 1, "taken/report.html is a folder"),
        ((trained, shards, "--out", tmp_path / "linked"), 1, "linked/tables is a symbolic link"),
        ((trained, shards, "--views", 3, *out), 2, "give 1 or a multiple of 2"),
        ((trained, shards, "--embedding", "pca,tsen", *out), 2, "unknown method 'tsen'; known: pca, tsne, umap"),
        ((trained, shards, *out, *QUICK, "--galaxy", "1"), 1, "--galaxy 1: not among the"),
        ((trained, shards, *out, "--points", 0, "--layer", "conv9"), 1, "no such layer; convolutions: 0.0, 0.4"),
        ((shards, *out), 2, "Missing argument"),
    ]
    for arguments, code, message in cases:
        with subtests.test(message):
            result = run(*arguments)
            assert (result.exit_code, message in result.output) == (code, True), result.output
            assert "Traceback" not in result.output
            assert not (tmp_path / "report" / "report.html").exists()


def other_tree(shards: Path, tmp_path: Path) -> Path:
    other = shutil.copytree(shards, tmp_path / "other_tree")
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["tree"]["question"][0]["name"] = "another question"
    (other / "manifest.json").write_text(json.dumps(manifest))
    return other


@pytest.mark.slow
def test_names_of_folders_are_printed_and_drawn_as_text(trained: Path, shards: Path, tmp_path: Path) -> None:
    """Markup, half a formula, an escape sequence, a byte that is no UTF-8, text from right to left, an emoji."""
    odd = shutil.copytree(trained, tmp_path / "<b>$\\frac{ $ \x1b[31m \u202e \U0001f30c")
    out = tmp_path / f"{odd.name} {os.fsdecode(bytes([255]))}"
    result = run(odd, shards, "--out", out, *QUICK)
    assert result.exit_code == 0, result.output
    page, tables = ((out / name).read_text() for name in ("report.html", "tables.json"))
    for text in (result.output, page, tables):
        assert not {"\x1b", "\u202e"} & set(text)
    assert "<b>$" not in page
    assert unescape(page).count("<b>$\\frac{ $ \\x1b[31m \\u202e \U0001f30c") > 5


def test_a_missing_extra_is_named_before_any_work(
    trained: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extra, "find_spec", lambda name: None if name == "bokeh" else find_spec(name))
    result = run(trained, shards, "--out", tmp_path / "report")
    assert result.exit_code == 1
    assert "pip install bokeh" in result.output
    assert not (tmp_path / "report").exists()


@pytest.mark.slow
def test_the_folds_of_a_cross_validation_are_evaluated_as_one(shards: Path, trained: Path, tmp_path: Path) -> None:
    recipe = ("--recipe", trained.parent / "tiny.toml", "--epochs", 2, "--device", "cpu", "--workers", 1)
    for fold, name in (("all/2", "runs"), ("1/5", "other")):
        arguments = [str(each) for each in (shards, *recipe, "--fold", fold, "--out", tmp_path / name)]
        assert CliRunner().invoke(train.main, arguments).exit_code == 0
    folds = [tmp_path / "runs" / f"fold-{index}-of-2" for index in range(2)]
    squares, counts = [], []
    for fold in folds:
        out = tmp_path / fold.name
        assert run(fold, shards, "--out", out, *QUICK).exit_code == 0
        squares.append(scores(out)[fold.name] ** 2)
        counts.append(json.loads((out / "tables.json").read_text())["report"]["galaxies"])
    out = ("--out", tmp_path / "all")
    result = run(*folds, shards, "--out-of-fold", *out, *QUICK)
    assert result.exit_code == 0, result.output
    facts = json.loads((tmp_path / "all" / "tables.json").read_text())["report"]
    assert facts["galaxies"] == sum(counts) == len(open_shards(shards, "train"))
    assert facts["runs"][0]["fold"] == "0/2, 1/2"
    assert facts["rmse"] == pytest.approx(np.sqrt(np.average(squares, weights=counts)), abs=1e-7)
    assert run(folds[1], shards, "--out-of-fold", *out, *QUICK).exit_code == 0
    assert scores(tmp_path / "all")["tiny"] == pytest.approx(np.sqrt(squares[1]), abs=1e-7)
    twice = run(*folds, tmp_path / "other", shards, "--out-of-fold", *out, *QUICK)
    assert twice.exit_code == 1
    assert "both held out train-" in twice.output
    two = run(*folds, trained, shards, "--out-of-fold", *out, *QUICK)  # another recipe: more epochs
    assert two.exit_code == 0, two.output
    assert {"tiny (1)", "tiny (2)", "all runs"} <= set(scores(tmp_path / "all").index)


def test_maps_that_cannot_be_shown_are_refused_before_anything_is_predicted(
    trained: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect, "predict_runs", lambda *_: pytest.fail("predicted"))
    for option, value in (("--galaxy", "1"), ("--layer", "none")):
        result = run(trained, shards, "--out", tmp_path / "report", *QUICK, option, value)
        assert result.exit_code == 1, result.output
        assert value in result.output
        assert not (tmp_path / "report").exists()
    result = run(trained, shards, "--out", tmp_path / "report", "--out-of-fold", "--galaxy", "1")
    assert result.exit_code == 2
    assert "--out-of-fold shows no maps" in result.output
