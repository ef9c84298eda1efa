"""A function in a child process that may crash, hang or spoil the GPU's context without harm to the caller."""

import signal
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

END_S = 30
"""How long a child may take to end after it has given its result."""


@dataclass(frozen=True)
class Ended:
    """How a child process ended: with the value of its function, or with a problem (then the value is None)."""

    value: Any
    problem: str = ""


def run_isolated(function: Callable[..., Any], *args: Any, timeout_s: float) -> Ended:
    """Call `function` in a fresh process (spawned, not forked: CUDA does not survive a fork).

    Function, arguments and value must be picklable.
    """
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_call, args=(sender, function, args))
    process.start()
    sender.close()
    try:
        if not receiver.poll(timeout_s):
            return Ended(None, f"stopped after {timeout_s:.0f} s")
        ended: Ended = receiver.recv()
    except EOFError:  # it died without a word
        process.join()
        return Ended(None, f"crashed: {describe_exit(process.exitcode or 0)}")
    else:
        process.join(END_S)
        return ended
    finally:
        process.kill()
        process.join()


def describe_exit(code: int) -> str:
    """An exit code as text: the name of the signal for a negative one."""
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _call(sender: Connection, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    try:
        ended = Ended(function(*args))
    except Exception as error:  # passed on to the caller as text: not every exception can be pickled
        ended = Ended(None, f"{type(error).__name__}: {error}")
    sender.send(ended)
