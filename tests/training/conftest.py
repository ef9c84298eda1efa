"""Runs that several tests of training look at or go on from."""

from pathlib import Path

import pytest
from trained import RECIPE, run


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
