"""`shard_tool append`: new galaxies into new shards of a finished folder."""

import signal
from itertools import chain, islice
from pathlib import Path

import click

from galaxy_zoo.console import Command
from shard_tool.appending import Appended, NewGalaxies
from shard_tool.appending import append as append_galaxies
from shard_tool.info import describe
from shard_tool.journal import REJECTED_NAME
from shard_tool.packing import OutOptions
from shard_tool.parallel import num_cores, prepare_workers

LINES_SHOWN = 20


@click.command(cls=Command)
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Table of votes, as for pack.  [default: training_solutions*.csv in SOURCE]",
)
@click.option(
    "--missing-votes", is_flag=True, help="Take absent columns and cells as missing votes.  [default: an error]"
)
@click.option("--counts", is_flag=True, help="The tables hold numbers of voters.  [default: fractions of them]")
@click.option(
    "--shards",
    type=click.IntRange(1, 999_999),
    help="Number of new training shards.  [default: a multiple of 10, about 64 MB each]",
)
@click.option(
    "--no-decode",
    is_flag=True,
    help="Read only the headers of JPEGs: faster, but a damaged image stays unnoticed, and the channel statistics "
    "come from some 500 images.  [default: decode all]",
)
@click.option("--workers", type=click.IntRange(1), help="Processes.  [default: all cores]")
@click.option("--overwrite", is_flag=True, help="Throw away an interrupted append.  [default: refuse]")
@click.option("--resume", is_flag=True, help="Finish an interrupted append.  [default: refuse]")
@click.option(
    "--allow-rejects",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Exit 0 with up to this many rejected images and rows.",
)
@click.pass_context
def append(
    ctx: click.Context,
    *,
    source: Path,
    out: Path,
    labels: tuple[Path, ...],
    missing_votes: bool,
    counts: bool,
    shards: int | None,
    no_decode: bool,
    workers: int | None,
    overwrite: bool,
    resume: bool,
    allow_rejects: int,
) -> None:
    """Add the galaxies of SOURCE to the finished shards in the folder OUT.

    SOURCE is whatever pack reads; tree, seed and size of the images are those of OUT. The new galaxies go into
    new shards after the old ones, which stay as they are, byte for byte. An id that is in OUT already is an error.
    Until the last step OUT remains the old set of shards: it can be read meanwhile, and an interruption spoils
    nothing.

    \b
    Example:
      shard_tool append more-galaxies shards --labels more-votes.csv
    """
    if overwrite and resume:
        raise click.UsageError("--overwrite and --resume exclude each other")
    place = OutOptions(out, overwrite, resume, workers or num_cores())
    prepare_workers(place.workers)
    try:
        appended = append_galaxies(
            NewGalaxies(source, labels, missing_votes, counts, shards, not no_decode), place
        )
    except KeyboardInterrupt:
        click.echo("\nInterrupted. What is finished is kept: run the same command with --resume.", err=True)
        ctx.exit(128 + signal.SIGINT)
    if appended is None:
        click.echo(f"{out}: finished already, nothing to do", err=True)
        return
    _echo(appended)
    if (num_rejected := len(appended.plan.rejected)) > allow_rejects:
        click.echo(
            f"Error: {num_rejected} rejected, {allow_rejects} allowed; the others are appended. Mend "
            f"what {out / REJECTED_NAME} lists and append it, or accept it with --allow-rejects.",
            err=True,
        )
        ctx.exit(1)


def _echo(appended: Appended) -> None:
    draft, rejected = appended.plan.draft, appended.plan.rejected
    lines = chain(
        (f"ignored: {name}: {why}" for name, why in draft.ignored()),
        (f"rejected: {each.split} {each.id} ({each.file}): {each.reason}" for each in rejected),
    )
    for line in islice(lines, LINES_SHOWN):
        click.echo(line, err=True)
    if (count := draft.num_ignored + len(rejected)) > LINES_SHOWN:
        click.echo(f"... and {count - LINES_SHOWN:,} more", err=True)
    click.echo(f"{appended.num_added:,} galaxies appended")
    for line in describe(appended.manifest):
        click.echo(line)
