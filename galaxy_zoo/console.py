"""How a command talks: progress on stderr, and errors as one line and exit code 1."""

import sys
from typing import Any

import click
from tqdm import tqdm

from galaxy_zoo.errors import GalaxyZooError

INTERRUPTED = 130


class Command(click.Command):
    """A click command that shows a `GalaxyZooError` or `OSError` as one message instead of a traceback.

    Exit codes: 0 good, 1 a check failed or an input or output is bad, 2 wrong usage (click's own), 130 Ctrl-C.
    """

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; raises `click.ClickException` in place of the errors named above."""
        try:
            return super().invoke(ctx)
        except GalaxyZooError as error:
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(INTERRUPTED)
        except BrokenPipeError:
            raise
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            what = f"{where}{error.strerror or error}"
            raise click.ClickException(f"{what}; mend that, what is finished is kept") from error


def progress(*, total: int, unit: str, desc: str = "", done: int = 0, shown: bool = True) -> "tqdm[Any]":
    """A progress bar on stderr; where that is a file and not a terminal, with a line only every ten seconds.

    shown: whether it is, for of several processes that do the same one is enough.
    """
    seconds = 0.1 if sys.stderr.isatty() else 10.0
    return tqdm(
        total=total,
        initial=done,
        unit=unit,
        desc=desc,
        disable=not shown,
        mininterval=seconds,
        dynamic_ncols=True,
        smoothing=0.05,
    )
