"""Trainings that are killed at a given moment: what runs in the processes that a test starts."""

import os
import signal
from pathlib import Path
from typing import Any

from click.testing import CliRunner

import train
from training.meter import Meter


def train_and_die(arguments: list[str], steps: int) -> None:
    """Train, and be killed (SIGKILL, nothing can clean up) when `steps` steps are done; 0: live to the end."""
    add, done = Meter.add, 0

    def counting(self: Meter, *args: Any) -> None:
        nonlocal done
        add(self, *args)
        done += 1
        if done == steps:
            os.kill(os.getpid(), signal.SIGKILL)

    Meter.add = counting  # type: ignore[method-assign]
    result = CliRunner().invoke(train.main, arguments)
    os._exit(result.exit_code)


def train_and_die_writing(arguments: list[str], name: str, is_done: bool) -> None:
    """Train, and be killed just before or, if `is_done`, just after the first file of this name gets it."""
    replace = Path.replace

    def dying(self: Path, target: Path) -> Path:
        if target.name != name:
            return replace(self, target)
        if is_done:
            replace(self, target)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    Path.replace = dying  # type: ignore[method-assign, assignment]
    os._exit(CliRunner().invoke(train.main, arguments).exit_code)
