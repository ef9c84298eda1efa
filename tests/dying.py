"""A training that dies at a step: what runs in the processes that a test starts."""

import os
import signal
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
