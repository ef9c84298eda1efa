"""What predict.py, evaluate.py and views.py refuse before they import anything slow or touch a file."""

from itertools import product
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

import evaluate
import predict
import views

INPUTS = {
    "run.json": "run/run.json",
    "weights": "run/member-00/best.safetensors",
    "log": "run/member-00/metrics.jsonl",
    "manifest": "shards/manifest.json",
    "shard": "shards/test-000000.tar",
    "index": "shards/test-000000.idx",
    "objects": "shards/objects.csv",
    "truth": "truth.csv",
    "image": "images/1.jpg",
}
LINKS = {"itself": None, "a symbolic link to it": Path.symlink_to, "a hard link to it": Path.hardlink_to}


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Files by their names in INPUTS, in the working directory."""
    monkeypatch.chdir(tmp_path)
    for name in INPUTS.values():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(f"the content of {name}")
    return {name: Path(path) for name, path in INPUTS.items()}


def run(command: click.Command, *arguments: object) -> Result:
    return CliRunner().invoke(command, [str(each) for each in arguments])


def refused(result: Result, inputs: dict[str, Path]) -> None:
    """Check that a command ended with one message and left every input as it was."""
    assert (result.exit_code, result.stderr.count("Error: ")) == (1, 1), result.output
    assert "Traceback" not in result.output
    assert not list(Path().rglob("*.parts"))
    for name, path in inputs.items():
        assert path.read_text() == f"the content of {INPUTS[name]}"


def named(path: Path, how: str) -> Path:
    """Return a name that leads to a file."""
    if (link := LINKS[how]) is None:
        return Path("run") / ".." / path
    Path("link").unlink(missing_ok=True)
    link(Path("link"), path.absolute())
    return Path("link")


def test_no_output_of_a_prediction_is_an_input(inputs: dict[str, Path], subtests: pytest.Subtests) -> None:
    for name, option, how in product(INPUTS, ("--out", "--details", "--embeddings"), LINKS):
        with subtests.test(name=name, option=option, how=how):
            source = "images" if name == "image" else "shards"
            output = named(inputs[name], how)
            result = run(predict.main, "run", source, "--truth", "truth.csv", option, output)
            refused(result, inputs)
            assert "is read by this command" in result.stderr


ONE_FILE = [
    ("--details", "s.csv"),
    ("--details", "run/../s.csv"),
    ("--embeddings", "s.csv"),
    ("--details", "a", "--embeddings", "a"),
    ("--details", "s.csv.parts"),
]


def test_no_two_outputs_of_a_prediction_are_one_file(inputs: dict[str, Path], subtests: pytest.Subtests) -> None:
    for options in ONE_FILE:
        with subtests.test(options=options):
            result = run(predict.main, "run", "shards", "--out", "s.csv", *options)
            refused(result, inputs)
            assert "are the same file" in result.stderr


def test_no_file_of_a_report_is_an_input(inputs: dict[str, Path], subtests: pytest.Subtests) -> None:
    links = [link for link in LINKS.values() if link is not None]
    outputs = [Path("report", name) for name in ("report.html", "tables.json", "tables/rmse.csv")]
    outputs[-1].parent.mkdir(parents=True)
    for name, output, link in product(sorted(set(INPUTS) - {"image", "log"}), outputs, links):
        with subtests.test(name=name, output=output, link=link):
            link(output, inputs[name].absolute())
            result = run(evaluate.main, "run", "shards", "--truth", "truth.csv", "--out", "report")
            output.unlink()
            refused(result, inputs)


def test_tables_of_the_report_before_are_replaced_but_not_read(inputs: dict[str, Path]) -> None:
    Path("report/tables").mkdir(parents=True)
    inputs["truth"].rename("report/tables/rmse.csv")
    result = run(evaluate.main, "run", "shards", "--truth", "report/tables/rmse.csv", "--out", "report")
    assert result.exit_code == 1
    assert Path("report/tables/rmse.csv").read_text() == "the content of truth.csv"


def test_a_sheet_is_no_input(inputs: dict[str, Path], subtests: pytest.Subtests) -> None:
    for name in ["manifest", "shard", "index", "objects", "recipe"]:
        with subtests.test(name=name):
            inputs["recipe"] = Path("recipe.toml")
            inputs["recipe"].write_text("the content of a recipe")
            Path("sheet.png").unlink(missing_ok=True)
            Path("sheet.png").hardlink_to(inputs[name])
            result = run(views.main, "shards", "sheet.png", "--recipe", "recipe.toml")
            assert (result.exit_code, "is read by this command" in result.stderr) == (1, True), result.output
            assert inputs[name].read_text().startswith("the content of ")


OUT_OF_BOUNDS = [
    (("--views", "1000000000"), "give at most 1024"),
    (("--views", "0"), "give 1 or a multiple"),
    (("--views", "-2"), "give 1 or a multiple"),
    *((("--zooms", zooms), "give zooms from 0.1 to 10") for zooms in ("1e-9", "1,1e9", "nan", "inf", "-1", "0")),
    (("--zooms", "1,,2"), "give numbers"),
    (("--batch-size", "1000000000"), "is not in the range"),
]


@pytest.mark.usefixtures("inputs")
def test_numbers_are_within_bounds(subtests: pytest.Subtests) -> None:
    for options, says in OUT_OF_BOUNDS:
        with subtests.test(options=options):
            for command in (predict.main, evaluate.main):
                if command is evaluate.main and "--zooms" in options:
                    continue
                result = run(command, "run", "shards", *options)
                assert (result.exit_code, says in result.stderr) == (2, True), result.output


WRITTEN = [
    (evaluate.main, ("run", "shards"), "--out", "shards"),
    (evaluate.main, ("run", "shards"), "--out", "run"),
    (evaluate.main, ("run", "shards"), "--stamps-folder", "shards"),
    (predict.main, ("run", "shards"), "--stamps-folder", "shards"),
    (predict.main, ("run", "shards"), "--cache", "shards"),
    (views.main, ("shards", "sheet.png"), "--cache", "shards"),
]


def test_a_folder_that_is_read_is_never_written_to(inputs: dict[str, Path], subtests: pytest.Subtests) -> None:
    for command, arguments, option, folder in WRITTEN:
        for how in LINKS.keys() - {"a hard link to it"}:
            with subtests.test(command=command.name, option=option, folder=folder, how=how):
                before = sorted(Path("shards").rglob("*")), sorted(Path("run").rglob("*"))
                result = run(command, *arguments, option, named(Path(folder), how))
                refused(result, inputs)
                assert "is read by this command; name another output" in result.stderr
                assert (sorted(Path("shards").rglob("*")), sorted(Path("run").rglob("*"))) == before
