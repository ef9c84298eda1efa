"""`shard_tool append`: new galaxies into new shards of a finished folder."""

import signal
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import click

from galaxy_zoo.console import Command, local_path
from galaxy_zoo.cores import num_cores
from shard_tool.commands.info import describe
from shard_tool.commands.options import SourceOptions, fits_options, label_options, run_options
from shard_tool.shards.appending import Appended, NewGalaxies
from shard_tool.shards.appending import append as append_galaxies
from shard_tool.shards.cluster import connected
from shard_tool.shards.journal import REJECTED_NAME
from shard_tool.shards.packing import OutOptions
from shard_tool.shards.parallel import prepare_workers

LINES_SHOWN = 20


@click.command(cls=Command)
@click.argument("source", type=local_path)
@click.argument("out", type=local_path)
@label_options
@fits_options
@run_options
@click.pass_context
def append(
    ctx: click.Context,
    /,
    *,
    source: Path,
    out: Path,
    **given: Any,
) -> None:
    """Add the galaxies of SOURCE to the finished shards in the folder OUT.

    SOURCE is whatever pack reads; tree, seed, size of the images and how they are encoded are those of OUT, the stretch
    of FITS images too unless OUT was made without any. The new galaxies go into
    new shards after the old ones, which stay as they are, byte for byte. An id that is in OUT already is an error.
    Until the last step OUT remains the old set of shards: it can be read meanwhile, and an interruption spoils
    nothing.

    \b
    Example:
      shard_tool append more-galaxies shards --labels more-votes.csv
    """
    about = SourceOptions(**given)
    about.check()
    if about.scheduler:  # its workers run in folders of their own
        source, out = source.absolute(), out.absolute()
    place = OutOptions(
        folder=out, overwrite=about.overwrite, resume=about.resume, workers=about.workers or num_cores()
    )
    new = NewGalaxies(
        source=source,
        labels=about.labels,
        missing_votes=about.missing_votes,
        counts=about.counts,
        shards=about.shards,
        catalogue=about.catalogue_options,
        fits=about.stretch,
        decode=not about.no_decode,
    )
    try:
        with connected(about.scheduler, source) as cluster:
            if cluster is None:
                prepare_workers(place.workers)
            appended = append_galaxies(new, replace(place, cluster=cluster))
    except KeyboardInterrupt:
        click.echo("\nInterrupted. What is finished is kept: run the same command with --resume.", err=True)
        ctx.exit(128 + signal.SIGINT)
    if appended is None:
        click.echo(f"{out}: finished already, nothing to do", err=True)
        return
    _echo(appended)
    if (num_rejected := len(appended.plan.rejected)) > about.allow_rejects:
        click.echo(
            f"Error: {num_rejected} rejected, {about.allow_rejects} allowed; the others are appended. Mend "
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
