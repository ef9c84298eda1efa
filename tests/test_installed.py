"""What `pip install .` brings: packages and two commands, which work in any folder."""

import os
import subprocess
from pathlib import Path

import pytest
from making import RECIPE

from ensemble.listing import table_of_recipes

ROOT = Path(__file__).parents[1]
FOREIGN = ("train", "predict", "evaluate", "views", "loop")
"""Modules that anybody may have, as Hugging Face's `evaluate`."""


def packages(folder: Path) -> dict[str, Path]:
    return {path.parent.name: path.parent for path in folder.glob("*/__init__.py")}


def files(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*.*") if path.suffix != ".pyc"}


@pytest.fixture
def galaxy_zoo(installed: Path, tmp_path: Path) -> Path:
    """The installed command, to be run in a folder that holds modules of somebody else."""
    for name in FOREIGN:
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('not of this project')")
    return installed / "bin" / "galaxy_zoo"


def run(command: Path, folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(command.parents[1])}
    line = [str(each) for each in (command, *arguments)]
    return subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_an_installation_is_two_commands_and_the_packages_with_all_their_files(installed: Path) -> None:
    expected = {name: path for name, path in packages(ROOT).items() if name not in {"tests", "benchmarks"}}
    assert {path.name for path in installed.iterdir() if path.suffix != ".dist-info"} == {*expected, "bin"}
    assert {path.name for path in (installed / "bin").iterdir()} == {"galaxy_zoo", "shard_tool"}
    for name, path in expected.items():
        assert files(installed / name) == files(path)


@pytest.mark.slow
def test_the_usage_shows_how_the_command_was_called(
    galaxy_zoo: Path, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    for name in ("train", "predict", "evaluate", "views"):
        with subtests.test(name):
            ended = run(galaxy_zoo, tmp_path, name, "--help")
            assert ended.returncode == 0, ended.stderr
            assert ended.stdout.startswith(f"Usage: galaxy_zoo {name} [OPTIONS] ")


@pytest.mark.slow
def test_the_list_is_the_same_wherever_it_is_installed(galaxy_zoo: Path, tmp_path: Path) -> None:
    assert run(galaxy_zoo, tmp_path, "train", "--list").stdout == f"{table_of_recipes()}\n"


@pytest.mark.slow
def test_a_run_outside_the_checkout_beside_foreign_modules(galaxy_zoo: Path, shards: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(RECIPE)
    on_cpu = ("--device", "cpu", "--workers", 1)
    for line in (
        ("views", shards, "sheet.png", "--recipe", "tiny.toml", "--count", 1),
        ("train", shards, "--recipe", "tiny.toml", "--fold", "1/5", "--out", "run", *on_cpu),
        ("predict", "run", shards, "--views", 1, "--out", "submission.csv", *on_cpu),
        ("evaluate", "run", shards, "--views", 1, "--cams", 0, "--points", 0, "--out", "report", *on_cpu),
    ):
        ended = run(galaxy_zoo, tmp_path, *line)
        assert ended.returncode == 0, ended.stderr
    made = ("sheet.png", "run/member-00/best.safetensors", "submission.csv", "report/report.html")
    assert [name for name in made if not (tmp_path / name).exists()] == []
