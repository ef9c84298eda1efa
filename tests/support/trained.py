"""Trains a small network in this process, and reads what it left."""

import json
import signal
from pathlib import Path

import making
import pytest
import torch
from click.testing import CliRunner, Result

import train
from training.checkpoint import load_state
from training.meter import Meter

RECIPE = making.RECIPE.replace('"mean"', '"mean"\ndropout = 0.1').replace(
    "epochs = 2", "epochs = 4\nema_decay = 0.9"
)
"""Of a network with all that a step can have: dropout, batch norm, a running average of the weights."""


def run(*args: object) -> Result:
    return CliRunner().invoke(train.main, [str(arg) for arg in (*args, "--device", "cpu", "--workers", 1)])


def weights(folder: Path, member: int = 0) -> dict[str, torch.Tensor]:
    member_folder = folder / f"member-{member:02d}"
    newest = sorted(member_folder.glob("last-*.safetensors"))[-1]
    return load_state(newest)["member"]["network"]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def metrics(folder: Path, member: int = 0) -> list[dict[str, float]]:
    lines = (folder / f"member-{member:02d}" / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def run_and_interrupt(patch: pytest.MonkeyPatch, stop_after: int, *arguments: object) -> Result:
    """Run train.py and press Ctrl-C after so many steps."""
    add = Meter.add
    steps = 0

    def interrupting(self, *args) -> None:
        nonlocal steps
        steps += 1
        add(self, *args)
        if steps == stop_after:
            signal.raise_signal(signal.SIGINT)

    patch.setattr(Meter, "add", interrupting)
    stopped = run(*arguments)
    assert stopped.exit_code == 130, stopped.output
    return stopped
