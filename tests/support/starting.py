"""Processes that tests start: forked from one that has imported, once, what takes long."""

import os
import sys
from collections.abc import Callable
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

SLOW_TO_IMPORT = ["torch.utils.tensorboard", "timm", "pandas", "matplotlib.figure", "s3fs"]


def start(
    function: Callable[..., object], *arguments: object, says: Path | None = None, **named: str
) -> BaseProcess:
    """Call a function of a module with this process's environment and what is `named`.

    says: where stderr is appended to.
    """
    processes = get_context("forkserver")
    processes.set_forkserver_preload(SLOW_TO_IMPORT)
    process = processes.Process(target=_call, args=(function, arguments, {**os.environ, **named}, says))
    process.start()
    return process


def run_script(name: str, arguments: list[str]) -> None:
    """A script of this project with these arguments; ends the process with its exit code."""
    import_module(name).main(arguments)


def _call(
    function: Callable[..., object], arguments: tuple[object, ...], environment: dict[str, str], says: Path | None
) -> None:
    os.environ.update(environment)
    if says is not None:
        sys.stderr = says.open("a", buffering=1)
    function(*arguments)
