"""A training that is killed at a given moment, in a process that a test starts."""

import os
import signal
from pathlib import Path

from click.testing import CliRunner

import train


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
