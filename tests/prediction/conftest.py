"""Runs that the tests of predict.py predict with."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from making import RECIPE

import train

HIDDEN = RECIPE.replace('"mean"', '"mean"\nhidden = [12]').replace("epochs = 2", "epochs = 1")
RECIPES = {
    "tree": HIDDEN,
    "sigmoid": HIDDEN.replace("crop_px = 64", "crop_px = 80").replace('"tree"', '"sigmoid"'),
}


@pytest.fixture(scope="session")
def runs(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs by name: `tree` of 2 members and `sigmoid` of another view on one fold, `half-0` and `half-1` on halves."""
    folder = tmp_path_factory.mktemp("runs")
    for name, text in RECIPES.items():
        (folder / f"{name}.toml").write_text(text)
    for name, recipe, fold, members in (
        ("tree", "tree", "1/5", 2),
        ("sigmoid", "sigmoid", "1/5", 1),
        ("half-0", "tree", "0/2", 1),
        ("half-1", "tree", "1/2", 1),
    ):
        options = ["--recipe", folder / f"{recipe}.toml", "--fold", fold, "--members", members]
        arguments = [shards, *options, "--out", folder / name, "--device", "cpu", "--workers", 1]
        result = CliRunner().invoke(train.main, [str(each) for each in arguments])
        assert result.exit_code == 0, result.output
    return {path.name: path for path in folder.iterdir() if path.is_dir()}
