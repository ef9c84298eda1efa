"""The scripts with a recipe whose view is framed by the galaxy: on shards that were measured, and on images."""

import shutil
from pathlib import Path

import click
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from making import RECIPE

import predict
import train
import views
from galaxy_zoo.objects import OBJECTS_NAME
from shard_tool.cli import main as shard_tool

pytest.importorskip("sep", reason="measuring galaxies needs the extra objects")

CPU = ("--device", "cpu", "--workers", "1")


def run(command: click.Command, *arguments: object) -> Result:
    options = CPU if command in (train.main, predict.main) else ()
    return CliRunner().invoke(command, [*map(str, arguments), *options])


@pytest.fixture(scope="module")
def measured(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(shards, tmp_path_factory.mktemp("measured") / "shards"))
    result = run(shard_tool, "objects", folder, "--workers", 1)
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "framed.toml"
    path.write_text(RECIPE.replace("[view]", '[view]\nframing = "scaled"\nobject_radius_px = 60'))
    return path


@pytest.fixture(scope="module")
def trained(measured: Path, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "run"
    result = run(train.main, measured, "--recipe", recipe, "--fold", "1/5", "--out", out)
    assert result.exit_code == 0, result.output
    return out


@pytest.mark.slow
def test_images_get_the_votes_of_the_same_images_in_measured_shards(
    trained: Path, measured: Path, kaggle_folder: Path, tmp_path: Path
) -> None:
    tables = []
    for source in (measured, kaggle_folder / "images_test_rev1"):
        result = run(predict.main, trained, source, "--views", 4, "--out", tmp_path / "votes.csv")
        assert result.exit_code == 0, result.output
        tables.append(pd.read_csv(tmp_path / "votes.csv", index_col="GalaxyID").sort_index())
    pd.testing.assert_frame_equal(*tables, atol=1e-6, rtol=0)


@pytest.mark.slow
def test_shards_that_were_not_measured_are_one_error_that_says_how_to(
    trained: Path, shards: Path, recipe: Path, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    for command, *arguments in (
        (train.main, shards, "--recipe", recipe, "--out", tmp_path / "run"),
        (predict.main, trained, shards, "--out", tmp_path / "votes.csv"),
        (views.main, shards, tmp_path / "sheet.png", "--recipe", recipe),
    ):
        with subtests.test(command.name):
            result = run(command, *arguments)
            assert result.exit_code == 1
            assert f"{shards / OBJECTS_NAME}: missing" in result.stderr
            assert "shard_tool objects SHARDS" in result.stderr
            assert not (tmp_path / "run").exists()


def test_a_sheet_shows_framed_views(measured: Path, recipe: Path, tmp_path: Path) -> None:
    result = run(views.main, measured, tmp_path / "sheet.png", "--recipe", recipe, "--count", 2)
    assert result.exit_code == 0, result.output
