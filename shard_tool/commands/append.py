"""`shard_tool append`: pack new galaxies into new shards of a finished folder."""

from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from galaxy_zoo.console import Command, ends_at_ctrl_c, local_path
from galaxy_zoo.cores import num_cores
from galaxy_zoo.text import shown
from shard_tool.commands.info import describe
from shard_tool.commands.options import (
    SourceOptions,
    check_apart,
    echo,
    echo_first,
    resumable,
    source_options,
    warn_of_shared_ids,
    warn_of_shared_images,
)
from shard_tool.shards.journal import REJECTED_NAME
from shard_tool.shards.parallel import prepare_workers

if TYPE_CHECKING:  # imports OpenCV, which --help does not need
    from shard_tool.shards.appending import Appended


@click.command(cls=Command)
@click.argument("source", type=local_path)
@click.argument("out", type=local_path)
@source_options
def append(*, source: Path, out: Path, **given: Any) -> None:
    """Add the galaxies of SOURCE to the finished shards in the folder OUT.

    SOURCE is anything pack reads. Tree, seed, image size and encoding are those of OUT, and so is the stretch of FITS
    images unless OUT was made without any. The new galaxies go into new shards after the old ones, which stay the same,
    byte for byte. An id that is already in OUT is an error; the bytes of images are compared only among the new ones
    (shard_tool duplicates compares all). Until the last step OUT remains the old set of shards: it
    can be read meanwhile, and an interruption does no harm.

    \b
    Example:
      shard_tool append more-galaxies shards --labels more-votes.csv
    """
    about = SourceOptions(**given)
    about.check()
    check_apart(source, out, about.tables)
    with ends_at_ctrl_c():
        from shard_tool.shards.appending import NewGalaxies
        from shard_tool.shards.appending import append as append_galaxies
        from shard_tool.shards.cluster import connected
        from shard_tool.shards.packing import OutOptions
    if about.scheduler:  # the workers run in other folders
        source, out = source.absolute(), out.absolute()
    place = OutOptions(
        folder=out, overwrite=about.overwrite, resume=about.resume, workers=about.workers or num_cores()
    )
    new = NewGalaxies(
        source=source,
        labels=about.labels,
        missing_votes=about.missing_votes,
        kind=about.kind,
        shards=about.shards,
        catalogue=about.catalogue_options,
        fits=about.stretch,
        decode=not about.no_decode,
    )
    with resumable(), connected(about.scheduler, source) as cluster:
        if cluster is None:
            prepare_workers(place.workers)
        appended = append_galaxies(new, replace(place, cluster=cluster))
    if appended is None:
        echo(f"{out}: finished already, nothing to do", err=True)
        return
    warn_of_shared_ids(*appended.plan.in_both_splits())
    warn_of_shared_images(appended.leak)
    _echo(appended)
    if (num_rejected := len(appended.rejected)) > about.allow_rejects:
        raise click.ClickException(
            f"{num_rejected} rejected, {about.allow_rejects} allowed; the others are appended. Fix what "
            f"{shown(out / REJECTED_NAME)} lists and append it."
        )


def _echo(appended: "Appended") -> None:
    draft, rejected = appended.plan.draft, appended.rejected
    echo_first((f"note: {note}" for note in appended.plan.notes), len(appended.plan.notes), "notes")
    lines = chain(
        (f"ignored: {name}: {why}" for name, why in draft.ignored()),
        (f"rejected: {each.split} {each.id} ({each.file}): {each.reason}" for each in rejected),
    )
    echo_first(lines, draft.num_ignored + len(rejected), "ignored or rejected")
    echo(f"{appended.num_added:,} galaxies appended")
    for line in describe(appended.manifest):
        echo(line)
