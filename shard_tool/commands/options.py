"""Options that several commands share, and functions that print long lists."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from galaxy_zoo.console import INTERRUPTED, options, path_or_url, rare_option
from galaxy_zoo.errors import OutputError
from galaxy_zoo.remote import AnyPath
from galaxy_zoo.text import shown
from shard_tool.images.fits import Stretch

if TYPE_CHECKING:  # slow to import, and --help does not need them
    from galaxy_zoo.votes import VoteKind
    from shard_tool.shards.proof import Failure
    from shard_tool.shards.repeated_images import Leak
    from shard_tool.source.options import CatalogueOptions

DEFAULT_SOFTENING = 10.0
LINES_SHOWN = 20
LEAK = "scores on such test galaxies come out too good"


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """The values of `source_options`."""

    labels: tuple[AnyPath, ...]
    catalogue: AnyPath | None
    id_column: str | None
    file_column: str
    missing_votes: bool
    counts: bool
    fractions_of: Literal["question", "all"]
    shards: int | None
    fits_range: tuple[float, float] | None
    fits_softening: float
    no_decode: bool
    workers: int | None
    scheduler: str | None
    overwrite: bool
    resume: bool
    allow_rejects: int

    def check(self) -> None:
        """Check that the options go together.

        Raises:
            click.UsageError: they do not.
        """
        if self.overwrite and self.resume:
            raise click.UsageError("--overwrite and --resume exclude each other")
        if self.catalogue and self.labels:
            raise click.UsageError("--catalogue and --labels exclude each other")
        if not self.catalogue and (self.id_column or self.file_column != "file"):
            raise click.UsageError("--id-column and --file-column need --catalogue")
        if self.counts and self.fractions_of == "question":
            raise click.UsageError("--counts and --fractions-of exclude each other")
        check_workers(self.workers, self.scheduler)
        if self.fits_range is not None:
            black, white = self.fits_range
            if not math.isfinite(self.fits_softening):
                raise click.UsageError("--fits-softening takes a finite number")
            if not (math.isfinite(white - black) and black < white):
                raise click.UsageError("--fits-range takes two finite numbers, the lower one first")

    @property
    def kind(self) -> "VoteKind":
        """Kind of the votes in the tables."""
        return "counts" if self.counts else self.fractions_of

    @property
    def tables(self) -> tuple[AnyPath, ...]:
        """Tables that are read besides SOURCE."""
        return self.labels if self.catalogue is None else (self.catalogue,)

    @property
    def catalogue_options(self) -> "CatalogueOptions | None":
        """Catalogue; None without one."""
        from shard_tool.source.options import CatalogueOptions

        if self.catalogue is None:
            return None
        return CatalogueOptions(path=self.catalogue, id_column=self.id_column, file_column=self.file_column)

    @property
    def stretch(self) -> Stretch | None:
        """Stretch of FITS images; None without one."""
        return None if self.fits_range is None else Stretch(*self.fits_range, self.fits_softening)


def check_workers(workers: int | None, scheduler: str | None) -> None:
    """Raise click.UsageError if both are given."""
    if workers and scheduler:
        raise click.UsageError("--workers and --scheduler exclude each other")


def check_apart(source: AnyPath, out: AnyPath, others: Iterable[AnyPath]) -> None:
    """Check, before any work, that no input is in OUT, and that SOURCE does not hold the shards of OUT.

    Args:
        others: inputs besides SOURCE.

    Raises:
        OutputError: the command would replace what it reads, or pack its own shards again.
    """
    for path in (source, *others):
        if _is_in(path, out):
            raise OutputError(f"{path} is in {out}, where this command replaces files; name another OUT")
    if _is_in(out, source) and out.is_dir() and any(out.iterdir()):
        raise OutputError(
            f"{out} is in {source}, so its shards would be packed too; move it out of there, and run the command "
            "again with its new name"
        )


def _is_in(path: AnyPath, folder: AnyPath) -> bool:
    if isinstance(path, Path) and isinstance(folder, Path):
        return path.resolve().is_relative_to(folder.resolve())
    return f"{path}/".startswith(f"{folder}/")


def echo(line: str, *, err: bool = False) -> None:
    """Print a line with control characters escaped, since it may hold names of files, trees and galaxies."""
    click.echo(shown(line), err=err)


@contextmanager
def resumable(how: str = "run the same command with --resume") -> Iterator[None]:
    """End the command at Ctrl-C within the block, with a line that says how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo(f"\nInterrupted. Finished work is kept: {how}.", err=True)
        raise click.exceptions.Exit(INTERRUPTED) from None


def echo_first(lines: Iterable[str], count: int, what: str) -> None:
    """Print the first of `count` lines on stderr, and the number of `what` left out."""
    for line in islice(lines, LINES_SHOWN):
        echo(line, err=True)
    if count > LINES_SHOWN:
        echo(f"... and {count - LINES_SHOWN:,} more {what}", err=True)


def warn_of_shared_ids(count: int, first: str) -> None:
    """Warn on stderr that `count` ids, of which `first` is one, are in several splits."""
    if count:
        echo(f"warning: {count:,} ids are in train and test at once, as {first}: {LEAK}", err=True)


def warn_of_shared_images(leak: "Leak | None") -> None:
    """Warn on stderr of test images that are training images too."""
    if leak:
        echo(
            f"warning: {leak.num_images:,} test images have the bytes of training images, as test {leak.test_id} and "
            f"train {leak.train_id}: {LEAK}; to list them: shard_tool duplicates",
            err=True,
        )


def echo_failures(failures: "Iterable[Failure]") -> None:
    """Print failures on stdout, one on each line."""
    for each in failures:
        echo(" ".join(filter(None, (each.file, each.sample, each.reason))))


tree_option = click.option(
    "--tree", default="gz2-kaggle", show_default=True, help="Decision tree: a known name or a TOML file."
)
workers_option = click.option(
    "--workers", type=click.IntRange(1), help="Number of processes.  [default: all cores]"
)
scheduler_option = rare_option(
    "--scheduler",
    metavar="ADDRESS",
    help="Dask scheduler, such as tcp://host:8786, whose workers do the work; they must see the same files.  "
    "[default: processes of this machine]",
)

source_options = options(
    click.option(
        "--labels",
        type=path_or_url,
        multiple=True,
        help="Table of votes: a CSV, or a zip that holds one. Repeat the option for several; they are joined by id.  "
        "[default: training_solutions*.csv in SOURCE]",
    ),
    click.option(
        "--catalogue",
        type=path_or_url,
        help="CSV or Parquet of ids, files relative to SOURCE, and votes, instead of --labels.  [default: none]",
    ),
    rare_option("--id-column", help="Column of the ids in the catalogue.  [default: the tree's]"),
    rare_option("--file-column", default="file", show_default=True, help="Column of the files in the catalogue."),
    click.option(
        "--missing-votes",
        is_flag=True,
        help="Treat absent columns and empty cells as missing votes.  [default: an error]",
    ),
    click.option("--counts", is_flag=True, help="The tables hold numbers of voters.  [default: fractions]"),
    click.option(
        "--fractions-of",
        type=click.Choice(["question", "all"]),
        default="all",
        show_default=True,
        help="Fractions in tables are of the voters of each question (`_fraction` of GZ DECaLS), or of all voters.",
    ),
    click.option(
        "--shards",
        type=click.IntRange(1, 999_999),
        help="Number of (new) training shards.  [default: a multiple of 10, about 64 MB or at most 20,000 samples "
        "each]",
    ),
    click.option(
        "--fits-range",
        type=(float, float),
        help="Values of FITS images shown as black and as full brightness.  [default: FITS images are refused]",
    ),
    rare_option(
        "--fits-softening",
        type=click.FloatRange(0, min_open=True),
        default=DEFAULT_SOFTENING,
        show_default=True,
        help="Softening of the asinh stretch of FITS images; higher values show fainter parts.",
    ),
    rare_option(
        "--no-decode",
        is_flag=True,
        help="Read only the headers of JPEGs: faster, but damage goes unnoticed, and channel statistics come "
        "from about 500 images.  [default: decode all]",
    ),
    workers_option,
    scheduler_option,
    click.option("--overwrite", is_flag=True, help="Replace what this command left in OUT.  [default: refuse]"),
    click.option("--resume", is_flag=True, help="Resume an interrupted run.  [default: refuse]"),
    click.option(
        "--allow-rejects",
        type=click.IntRange(0),
        default=0,
        show_default=True,
        help="Exit with 0 if at most this many images and rows are rejected.",
    ),
)
"""Options of `pack` and `append` about SOURCE and how to process it."""
