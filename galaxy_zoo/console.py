"""The command line: types of paths, errors as one line with exit code 1."""

import io
import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TypeVar

import click

from galaxy_zoo.errors import GalaxyZooError
from galaxy_zoo.files import cache_folder
from galaxy_zoo.remote import AnyPath, path_of
from galaxy_zoo.text import shown

INTERRUPTED = 130
NO_MEMORY = (
    *("allocate memory", "out of memory", "bad_alloc"),
    *("failed to map segment", "start new thread", "Resource temporarily unavailable"),
)
"""What errors of torch, CUDA, DALI, C++, other libraries and threads say when memory runs out."""

SHOWS_ALL = f"{__name__}.shows_all"
"""Key in the `meta` of a click context: whether help shows rare options."""

_ctrl_c_came = threading.Event()

LONGEST_LINE = 4_000
"""Of a message, in characters: a value of a damaged file that it repeats may have millions."""
F = TypeVar("F", bound=Callable[..., Any])


def _open_closed_streams() -> None:
    """Open closed standard streams (`2>&-`) on /dev/null, or the next file opened would become the stream."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 - open until the process ends
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123


class _Output(io.FileIO):
    """A standard stream of the process; what follows an error is discarded.

    An error on standard output raises click.ClickException, so that no command takes it for an error of its files. One
    on standard error is ignored: there is nowhere to report it, and finishing the work is worth more than its log. A
    reader that has gone (BrokenPipeError) ends the command.
    """

    _has_failed = False

    def write(self, data: Any) -> int:
        """Write bytes, all or some; return how many."""
        try:
            return len(data) if self._has_failed else super().write(data) or 0
        except BrokenPipeError:
            raise
        except OSError as error:
            self._has_failed = True
            if self.fileno() == 1:
                raise click.ClickException(
                    f"standard output: {error.strerror}; what this command prints is incomplete, so make room there "
                    "and run it again"
                ) from error
            return len(data)


def _watch_output() -> None:
    """Write standard output and standard error as `_Output` does, unless they have been replaced."""
    for name, stream in (("stdout", sys.stdout), ("stderr", sys.stderr)):
        if stream is getattr(sys, f"__{name}__"):
            stream.flush()
            raw = _Output(stream.fileno(), "w", closefd=False)
            setattr(
                sys,
                name,
                io.TextIOWrapper(
                    io.BufferedWriter(raw),
                    encoding=stream.encoding,
                    errors=stream.errors,
                    line_buffering=stream.line_buffering or stream.write_through,
                ),
            )


class _EndsAtCtrlC(click.Command):
    """A command that Ctrl-C ends at any moment, with one line and exit code 130."""

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any) -> NoReturn:  # type: ignore[override]
        """Run as a program, like `click.Command.main`, for which Ctrl-C means exit code 1."""
        _open_closed_streams()
        _watch_output()
        try:
            with _ctrl_c_counts():
                code = super().main(args, prog_name, standalone_mode=False, **extra)
            sys.stdout.flush()
        except click.ClickException as error:
            error.show()
            code = error.exit_code
        except (KeyboardInterrupt, click.Abort):
            click.echo("interrupted", err=True)
            code = INTERRUPTED
        sys.exit(code if isinstance(code, int) else 0)


class Group(_EndsAtCtrlC, click.Group):
    """A click group that imports a command only to run it; the group's own help imports none.

    Args:
        modules: for each command the module that has a click command of the same name.
        summaries: for each command one sentence of help; their order is that of the help.
    """

    def __init__(
        self, *args: Any, modules: Mapping[str, str], summaries: Mapping[str, str], **attributes: Any
    ) -> None:
        super().__init__(*args, **attributes)
        self._modules, self._summaries = modules, summaries

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names of the commands."""
        return list(self._summaries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import a command."""
        if cmd_name not in self._modules:
            return None
        with ends_at_ctrl_c():
            command: click.Command = getattr(import_module(self._modules[cmd_name]), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the names of the commands with their summaries."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self._summaries.items()))


class RareOption(click.Option):
    """An option that few people need: --help-all shows it, --help does not."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return the lines of the help about this option, None if they are not wanted."""
        return super().get_help_record(ctx) if ctx.meta.get(SHOWS_ALL) else None


rare_option = partial(click.option, cls=RareOption)


def _show_all(context: click.Context, option: click.Parameter, wanted: bool) -> None:  # noqa: ARG001
    if wanted:
        context.meta[SHOWS_ALL] = True
        click.echo(context.get_help())
        context.exit()


class Command(_EndsAtCtrlC):
    """A click command that shows a `GalaxyZooError` or `OSError` as one message instead of a traceback.

    Exit codes: 0 good, 1 a check failed or an input or output is bad, 2 wrong usage (click's own), 130 Ctrl-C.
    """

    def __init__(self, *args: Any, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        if any(isinstance(each, RareOption) for each in self.params):
            click.option(
                "--help-all",
                is_flag=True,
                is_eager=True,
                expose_value=False,
                callback=_show_all,
                help="Show all options, also those that few people need, and exit.",
            )(self)

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
            if (explanation := _explain(error, self.params)) is None:
                raise
            raise click.ClickException(explanation) from error


MEMORY_SAVERS = {
    "--batch-size": "a smaller --batch-size",
    "--workers": "fewer --workers",
    "--stamps": "--stamps stream",
}
"""Option -> how it saves memory."""


def _explain(error: Exception, parameters: Sequence[click.Parameter]) -> str | None:
    """Return the message for an error that is not a bug of this program, else None.

    parameters: those of the command, the only ones that the message may name.
    """
    if isinstance(error, GalaxyZooError):
        return "\n".join(shown(_shortened(line)) for line in str(error).split("\n"))
    if isinstance(error, sqlite3.Error):  # from the database that shard_tool keeps on the disk while it runs
        return (
            f"temporary file: {error}; it lies in $TMPDIR or /var/tmp: make room there, or set TMPDIR to a folder "
            "that has some. Finished work is kept."
        )
    if (words := _about_memory(error)) is not None:
        options = {option for each in parameters for option in each.opts}
        savers = [saver for option, saver in MEMORY_SAVERS.items() if option in options]
        ways = ", ".join([*savers, "or make room"] if savers else ["make room"])
        return f"out of memory ({words}); {ways}. Finished work is kept."
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
    """Return the line about missing memory in an error or in one that led to it, None if there is no such line."""
    if isinstance(error, MemoryError):
        return "there is no more"
    for line in str(error).splitlines():
        if any(words in line for words in NO_MEMORY):
            return line.strip()
    return None if error.__context__ is None else _about_memory(error.__context__)


@contextmanager
def ends_at_ctrl_c() -> Iterator[None]:
    """Let Ctrl-C end the process at once within the block; for long imports, when there is nothing to clean up.

    A library that is being imported may lose a KeyboardInterrupt or turn it into another error.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: object) -> None:  # noqa: ARG001
        os.write(2, b"interrupted\n")
        os._exit(INTERRUPTED)

    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:  # a shell ignores Ctrl-C for jobs in the background
        signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _ctrl_c_counts() -> Iterator[None]:
    """Make sure that no Ctrl-C is lost within the block.

    Python drops a KeyboardInterrupt raised in a finaliser or in the callback of a weak reference, and prints a
    traceback; here it is raised again a moment later. Libraries that call back, such as SQLite, turn it into an error
    of their own; `_ctrl_c_came` then says that it was Ctrl-C.
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
    if before is signal.default_int_handler:  # unless the shell ignores it
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, alarm)
        sys.unraisablehook = hook


def options(*chosen: Callable[[F], F]) -> Callable[[F], F]:
    """Return one decorator that adds several options, for commands that share them."""

    def decorate(command: F) -> F:
        for option in reversed(chosen):
            command = option(command)
        return command

    return decorate


machine_options = options(
    click.option(
        "--device",
        default="auto",
        type=click.Choice(["auto", "cpu", "cuda"]),
        help="Device to use; auto: cuda if available.",
    ),
    click.option(
        "--workers",
        type=click.IntRange(1, 1024),
        default=None,
        help="Number of decoding threads.  [default: all cores]",
    ),
)

cache_options = options(
    rare_option(
        "--cache",
        "cache_folder",
        type=click.Path(file_okay=False, path_type=Path),
        default=lambda: cache_folder() / "shards",
        show_default=False,
        help="Folder to keep shards of an object store in, best on a local disk.  [default: "
        "~/.cache/galaxy-zoo/shards]",
    ),
    rare_option(
        "--cache-gb",
        type=click.FloatRange(0, min_open=True),
        default=None,
        help="Largest size of the cache in GB; unused sets are removed to make room.  "
        "[default: the disk's free space, less 2 GB]",
    ),
)
"""Options of commands that map shards, which may lie in an object store (`pipeline.cache`)."""


def path_or_url(text: str) -> AnyPath:
    """Return the path, on the disk or in a store, that an argument names; a click parameter type.

    Raises:
        click.BadParameter: the URL cannot be read; the message leaves it out, since it may hold a secret.
    """
    try:
        return path_of(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def local_path(text: str) -> Path:
    """Return the path on the disk that an argument names; a click parameter type.

    Raises:
        click.BadParameter: it is a URL, which pathlib would turn into a path that does not exist.
    """
    return check_local(path_or_url(text))


def check_local(path: AnyPath) -> Path:
    """Return a path that must be on the disk; raise as `local_path` does."""
    if not isinstance(path, Path):
        raise click.BadParameter(
            f"{path}: this has to be on the disk; copy it here first, with rclone or the store's own tools "
            "(train.py, predict.py, evaluate.py, views.py, shard_tool pack, info, lint and preview take URLs of shards)"
        )
    return path
