"""Galaxies named as the IAU names them, dots and all, from the images to the predictions and back."""

from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from making import RECIPE, pack, write_kaggle_folder

import predict
import train
from shard_tool.cli import main as shard_tool

TABLE = "training_solutions_rev1.csv"


def name_of(number: str) -> str:
    return f"J{number}.40-010228.5"


def run(command: object, *arguments: object) -> None:
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])  # type: ignore[arg-type]
    assert result.exit_code == 0, result.output


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images and table of 40 + 8 galaxies, their shards, and a run on these."""
    folder = tmp_path_factory.mktemp("survey")
    source = write_kaggle_folder(folder / "source", num_train=40, num_test=8)
    for image in source.rglob("*.jpg"):
        image.rename(image.with_name(f"{name_of(image.stem)}.jpg"))
    table = pd.read_csv(source / TABLE, dtype=str)
    table.assign(GalaxyID=table["GalaxyID"].map(name_of)).to_csv(source / TABLE, index=False)
    pack(source, folder / "shards", "--shards", "2")
    (folder / "recipe.toml").write_text(RECIPE)
    options = ("--epochs", 1, "--members", 1, "--fold", "none", "--device", "cpu", "--workers", 1)
    run(train.main, folder / "shards", "--recipe", folder / "recipe.toml", *options, "--out", folder / "run")
    return folder


@pytest.mark.slow
def test_predictions_hold_the_names(survey: Path, tmp_path: Path, subtests: pytest.Subtests) -> None:
    out, details = tmp_path / "predicted.csv", tmp_path / "predicted.parquet"
    options = ("--out", out, "--details", details, "--device", "cpu", "--workers", 1)
    names = sorted(path.stem for path in (survey / "source" / "images_test_rev1").iterdir())
    for source in ("shards", "source/images_test_rev1"):
        with subtests.test(source):
            run(predict.main, survey / "run", survey / source, *options)
            assert pd.read_csv(out)["GalaxyID"].tolist() == names
            assert sorted(pd.read_parquet(details)["GalaxyID"]) == names
            run(shard_tool, "check", out, "--ids", out)


@pytest.mark.slow
def test_the_shards_are_sound_and_unpack_to_the_names(survey: Path, tmp_path: Path) -> None:
    run(shard_tool, "lint", survey / "shards", "--deep")
    run(shard_tool, "unpack", survey / "shards", tmp_path / "again")
    for folder in ("images_training_rev1", "images_test_rev1"):
        before = {path.name: path.read_bytes() for path in (survey / "source" / folder).iterdir()}
        assert {path.name: path.read_bytes() for path in (tmp_path / "again" / folder).iterdir()} == before
    before, after = (
        pd.read_csv(folder / TABLE).set_index("GalaxyID") for folder in (survey / "source", tmp_path / "again")
    )
    pd.testing.assert_frame_equal(after, before.sort_index(), rtol=1e-6)
