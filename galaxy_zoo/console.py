"""How a command talks: what its paths may be, progress on stderr, and errors as one line and exit code 1."""

import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TypeVar

import click
from tqdm import tqdm

from galaxy_zoo.errors import GalaxyZooError
from galaxy_zoo.files import cache_folder
from galaxy_zoo.remote import AnyPath, path_of

INTERRUPTED = 130
NO_MEMORY = (
    *("allocate memory", "out of memory", "bad_alloc"),
    *("failed to map segment", "start new thread", "Resource temporarily unavailable"),
)
"""What torch, CUDA, DALI, C++, libraries and threads say when there is none, in errors of any kind."""

_ctrl_c_came = threading.Event()

LONGEST_LINE = 4_000
"""Of a message, in characters: a value of a damaged file that it repeats may have millions."""
F = TypeVar("F", bound=Callable[..., Any])


def shown(name: object) -> str:
    """Return a name as it may be printed: on one line, with what a terminal would obey escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(name))


def _open_closed_streams() -> None:
    """Give closed standard streams (`2>&-`) to /dev/null: else the next file that is opened would be the stream."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 - as long as the process
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123


class _EndsAtCtrlC(click.Command):
    """A command that ends with one line and exit code 130 at Ctrl-C, whatever it is doing."""

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any) -> NoReturn:  # type: ignore[override]
        """Run as a program, as `click.Command.main`, which has Ctrl-C end with 1."""
        _open_closed_streams()
        try:
            with _ctrl_c_counts():
                code = super().main(args, prog_name, standalone_mode=False, **extra)
        except click.ClickException as error:
            error.show()
            code = error.exit_code
        except (KeyboardInterrupt, click.Abort):
            click.echo("interrupted", err=True)
            code = INTERRUPTED
        sys.exit(code if isinstance(code, int) else 0)


class Group(_EndsAtCtrlC, click.Group):
    """A click group whose commands are imported when they are run: its own help needs none of them.

    Args:
        package: has a module for each command, with a click command of the same name.
        summaries: for each command one sentence of help; their order is that of the help.
    """

    def __init__(self, *args: Any, package: str, summaries: Mapping[str, str], **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self._package, self._summaries = package, summaries

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names of the commands."""
        return list(self._summaries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import a command."""
        if cmd_name not in self._summaries:
            return None
        with ends_at_ctrl_c():
            command: click.Command = getattr(import_module(f"{self._package}.{cmd_name}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the names of the commands with their summaries."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self._summaries.items()))


class Command(_EndsAtCtrlC):
    """A click command that shows a `GalaxyZooError` or `OSError` as one message instead of a traceback.

    Exit codes: 0 good, 1 a check failed or an input or output is bad, 2 wrong usage (click's own), 130 Ctrl-C.
    """

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; raise `click.ClickException` in place of the errors named above."""
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, BrokenPipeError):
            raise
        except (Exception, KeyboardInterrupt) as error:
            if isinstance(error, KeyboardInterrupt) or _ctrl_c_came.is_set():
                click.echo("interrupted", err=True)
                ctx.exit(INTERRUPTED)
            if (explanation := _explain(error)) is None:
                raise
            raise click.ClickException(explanation) from error


def _explain(error: Exception) -> str | None:
    """Return what a user is told of an error that has nothing to do with the program itself, else None."""
    if isinstance(error, GalaxyZooError):
        return "\n".join(shown(_shortened(line)) for line in str(error).split("\n"))
    if isinstance(error, sqlite3.Error):  # of what shard_tool keeps on the disk while it runs
        return (
            f"temporary file: {error}; it lies in $TMPDIR or /var/tmp: make room there, or set TMPDIR to a folder "
            "that has some. Finished work is kept."
        )
    if (words := _about_memory(error)) is not None:
        return (
            f"out of memory ({words}); take less at once (a smaller batch, fewer threads or worker "
            "processes, stamps that are not resident), or make room. Finished work is kept."
        )
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return shown(
            f"{where}{error.strerror or error}; fix this and run the command again. Finished work is kept."
        )
    return None


def _shortened(line: str) -> str:
    """Leave out the middle of a line that is too long for a message."""
    if len(line) <= LONGEST_LINE:
        return line
    return f"{line[: LONGEST_LINE // 2]} [...] {line[-LONGEST_LINE // 2 :]}"


def _about_memory(error: BaseException) -> str | None:
    """The line of an error, or of one that led to it, that says that there was no memory; None where none does."""
    if isinstance(error, MemoryError):
        return "there is no more"
    for line in str(error).splitlines():
        if any(words in line for words in NO_MEMORY):
            return line.strip()
    return None if error.__context__ is None else _about_memory(error.__context__)


@contextmanager
def ends_at_ctrl_c() -> Iterator[None]:
    """Within the block Ctrl-C ends the process at once; for imports that take long, when nothing is to be cleaned up.

    Libraries in the middle of their import may lose a KeyboardInterrupt, or make another error of it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: object) -> None:  # noqa: ARG001
        os.write(2, b"interrupted\n")
        os._exit(INTERRUPTED)

    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:  # as a shell has it for what runs in the background
        signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _ctrl_c_counts() -> Iterator[None]:
    """Lose no Ctrl-C within the block.

    Python drops a KeyboardInterrupt that meets it in a finaliser or the callback of a weak reference, and prints a
    traceback; here it is raised anew a moment later. Libraries that call back, as SQLite, make an error of their own of
    it; `_ctrl_c_came` tells.
    """
    _ctrl_c_came.clear()
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    hook, alarm = sys.unraisablehook, signal.signal(signal.SIGALRM, signal.default_int_handler)
    before = signal.getsignal(signal.SIGINT)

    def interrupt(number: int, frame: FrameType | None) -> None:
        _ctrl_c_came.set()
        signal.default_int_handler(number, frame)

    def raise_again(unraisable: "sys.UnraisableHookArgs") -> None:
        if unraisable.exc_type is KeyboardInterrupt:
            signal.setitimer(signal.ITIMER_REAL, 0.01)
        else:
            hook(unraisable)

    sys.unraisablehook = raise_again
    if before is signal.default_int_handler:  # not where a shell has it ignored
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, alarm)
        sys.unraisablehook = hook


def options(*chosen: Callable[[F], F]) -> Callable[[F], F]:
    """Several options as one, for commands that share them."""

    def decorate(command: F) -> F:
        for option in reversed(chosen):
            command = option(command)
        return command

    return decorate


machine_options = options(
    click.option(
        "--device", default="auto", type=click.Choice(["auto", "cpu", "cuda"]), help="auto: cuda if there is one."
    ),
    click.option(
        "--threads",
        type=click.IntRange(1, 1024),
        default=None,
        help="To decode with.  [default: all cores]",
    ),
)

cache_options = options(
    click.option(
        "--cache",
        "cache_folder",
        type=click.Path(file_okay=False, path_type=Path),
        default=lambda: cache_folder() / "shards",
        show_default=False,
        help="Keeps shards of an object store, best on a disk of this machine.  [default: "
        "~/.cache/galaxy-zoo/shards]",
    ),
    click.option(
        "--cache-gb",
        type=click.FloatRange(0, min_open=True),
        default=None,
        help="How large it may become; sets that nobody uses make room.  [default: what the disk has]",
    ),
)
"""Of commands that map shards, which may lie in an object store (`pipeline.cache`)."""


def path_or_url(text: str) -> AnyPath:
    """The type of an argument that may be the URL of a store.

    Raises:
        click.BadParameter: it is a URL that is not read; it is not repeated, since it may hold a secret.
    """
    try:
        return path_of(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def local_path(text: str) -> Path:
    """The type of an argument that must be on the disk: pathlib would make some path of a URL that is not there.

    Raises:
        click.BadParameter: it is a URL.
    """
    return check_local(path_or_url(text))


def check_local(path: AnyPath) -> Path:
    """A path that must be on the disk; raises as `local_path`."""
    if not isinstance(path, Path):
        raise click.BadParameter(
            f"{path}: this has to be on the disk; copy it here first, with rclone or the store's own tools "
            "(train.py, predict.py, evaluate.py, views.py, shard_tool pack, info and lint take URLs of shards)"
        )
    return path


def progress(
    *, total: int, unit: str, desc: str = "", done: int = 0, shown: bool = True, unit_scale: bool = False
) -> "tqdm[Any]":
    """A progress bar on stderr; where that is a file and not a terminal, with a line only every ten seconds.

    shown: whether it is, for of several processes that do the same one is enough.
    unit_scale: write 1.20G for 1,200,000,000.
    """
    seconds = 0.1 if sys.stderr.isatty() else 10.0
    return tqdm(
        total=total,
        initial=done,
        unit=unit,
        unit_scale=unit_scale,
        desc=desc,
        disable=not shown,
        mininterval=seconds,
        dynamic_ncols=True,
        smoothing=0.05,
    )
