"""`--stamps` and `--stamps-folder` of train.py and predict.py: where stamps come from changes no result."""

from pathlib import Path

import click
import pytest
import torch
from click.testing import CliRunner
from making import RECIPE

import predict
import train
from training.checkpoint import load_state


def run(command: click.Command, *arguments: object) -> str:
    """Run a command on the CPU; gives what it says on stderr."""
    result = CliRunner().invoke(command, [*map(str, arguments), "--device", "cpu", "--workers", "1"])
    assert result.exit_code == 0, result.output
    return result.stderr


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_state(folder / "member-00" / "best.safetensors")["weights"]


@pytest.mark.slow
def test_train_and_predict_give_the_same_from_shards_from_memory_and_from_saved_stamps(
    shards: Path, tmp_path: Path
) -> None:
    (tmp_path / "tiny.toml").write_text(RECIPE)
    stamps = tmp_path / "stamps"
    ways = {
        "stream": ("--stamps", "stream"),
        "auto": (),
        "saving": ("--stamps", "resident", "--stamps-folder", stamps),
        "saved": ("--stamps", "resident", "--stamps-folder", stamps),
    }
    said = {}
    for name, options in ways.items():
        out = tmp_path / name
        training = (shards, "--recipe", tmp_path / "tiny.toml", "--fold", "0/5", "--out", out, *options)
        predicting = (out, shards, "--views", 4, "--out", tmp_path / f"{name}.csv", "--batch-size", 3, *options)
        said[name] = run(train.main, *training) + run(predict.main, *predicting)
    for name in ways:
        got, expected = weights(tmp_path / name), weights(tmp_path / "stream")
        assert all(torch.equal(got[key], expected[key]) for key in expected)
        assert (tmp_path / f"{name}.csv").read_bytes() == (tmp_path / "stream.csv").read_bytes()
    assert len(list(stamps.glob("*.bin"))) == 3  # of the fold, of the rest, and of the test galaxies
    assert "stamps" not in said["stream"]
    assert said["auto"].count("are kept in memory") == 2  # predict needs its stamps once
    assert said["saving"].count("saving stamps") >= 3
    assert "saving stamps" not in said["saved"]
