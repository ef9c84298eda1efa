"""`shard_tool pack`: images and votes to shards."""

import signal
from dataclasses import replace
from itertools import islice
from typing import Any

import click

from galaxy_zoo.console import Command, path_or_url
from galaxy_zoo.cores import num_cores
from galaxy_zoo.manifest import Manifest
from galaxy_zoo.remote import AnyPath
from galaxy_zoo.tree import load_tree
from shard_tool.commands.info import describe
from shard_tool.commands.options import SourceOptions, fits_options, label_options, run_options
from shard_tool.images.encoding import Encoding
from shard_tool.images.sizes import LARGEST_SIDE_PX
from shard_tool.shards.cluster import connected
from shard_tool.shards.journal import REJECTED_NAME
from shard_tool.shards.packing import OutOptions, begun, find_finished
from shard_tool.shards.packing import pack as pack_shards
from shard_tool.shards.parallel import prepare_workers
from shard_tool.source.options import PackOptions
from shard_tool.source.plan import make_plan
from shard_tool.source.samples import Rejects

LINES_SHOWN = 20


@click.command(cls=Command)
@click.argument("source", type=path_or_url)
@click.argument("out", type=path_or_url)
@label_options
@click.option(
    "--tree", default="gz2-kaggle", show_default=True, help="Decision tree: a known name or a TOML file."
)
@click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Seed of the shuffle."
)
@click.option(
    "--quality",
    type=click.IntRange(1, 100),
    default=95,
    show_default=True,
    help="JPEG quality of images that must be encoded: PNG, FITS, HDF5, and what --resize or --pad changes.",
)
@click.option(
    "--resize",
    type=click.IntRange(1, LARGEST_SIDE_PX),
    help="Scale every image to this many pixels a side.  [default: as it is]",
)
@click.option(
    "--pad",
    type=click.IntRange(1, LARGEST_SIDE_PX),
    help="Centre every image on a black square of this many pixels, before --resize.  [default: as it is]",
)
@fits_options
@run_options
@click.pass_context
def pack(
    ctx: click.Context,
    /,
    *,
    source: AnyPath,
    out: AnyPath,
    tree: str,
    seed: int,
    quality: int,
    resize: int | None,
    pad: int | None,
    **given: Any,
) -> None:
    """Pack SOURCE into shards in the folder OUT.

    SOURCE is the Kaggle download in any layout (folder, zips in a folder, one zip, a zip of zips), any folder, zip
    or tar of JPEGs, PNGs and FITS images, or the HDF5 file of Galaxy10 DECaLS. Nothing is unpacked to the disk.
    Every image is decoded and every row of votes checked; what fails is left out, listed in OUT/rejected.csv, and
    makes the exit code 1.

    \b
    Examples:
      shard_tool pack galaxy-zoo-the-galaxy-challenge.zip shards
      shard_tool pack cutouts shards --labels votes.csv --tree my_tree.toml
      shard_tool pack cutouts shards --catalogue galaxies.parquet --tree my_tree.toml --resize 256
      shard_tool pack Galaxy10_DECals.h5 shards --tree galaxy10
    """
    about = SourceOptions(**given)
    about.check()
    if about.scheduler:  # its workers run in folders of their own
        source, out = source.absolute(), out.absolute()
    options = PackOptions(
        source,
        load_tree(tree),
        labels=about.labels,
        missing_votes=about.missing_votes,
        counts=about.counts,
        shards=about.shards,
        seed=seed,
        encoding=Encoding(quality=quality, resize_px=resize, pad_px=pad, fits=about.stretch),
        catalogue=about.catalogue_options,
        decode=not about.no_decode,
    )
    place = OutOptions(
        folder=out, overwrite=about.overwrite, resume=about.resume, workers=about.workers or num_cores()
    )
    try:
        num_rejected = _run(options, place, about.scheduler)
    except KeyboardInterrupt:
        click.echo("\nInterrupted. What is finished is kept: run the same command with --resume.", err=True)
        ctx.exit(128 + signal.SIGINT)
    if num_rejected > about.allow_rejects:
        click.echo(
            f"Error: {num_rejected} rejected, {about.allow_rejects} allowed; the shards are whole without them. Mend "
            f"what {out / REJECTED_NAME} lists, or accept it with --allow-rejects {num_rejected}.",
            err=True,
        )
        ctx.exit(1)


def _run(options: PackOptions, out: OutOptions, scheduler: str | None) -> int:
    """Pack, print what came of it and return the number of rejects."""
    if finished := find_finished(options, out):
        click.echo(f"{out.folder}: finished already, nothing to do", err=True)
        return finished.rejected
    with begun(out) as journal, connected(scheduler, options.source) as cluster:
        if cluster is None:
            prepare_workers(out.workers)
        plan = make_plan(options)
        for name, why in islice(plan.draft.ignored(), LINES_SHOWN):
            click.echo(f"ignored: {name}: {why}", err=True)
        _echo_more(plan.draft.num_ignored, "ignored")
        packed = pack_shards(options, replace(out, cluster=cluster), plan, journal)
    _echo_rejected(packed.rejected)
    _echo_summary(packed.manifest)
    return len(packed.rejected)


def _echo_rejected(rejected: Rejects) -> None:
    for each in rejected.first(LINES_SHOWN):
        click.echo(f"rejected: {each.split} {each.id} ({each.file}): {each.reason}", err=True)
    _echo_more(len(rejected), f"rejected, see {REJECTED_NAME}")


def _echo_more(count: int, what: str) -> None:
    if count > LINES_SHOWN:
        click.echo(f"... and {count - LINES_SHOWN:,} more {what}", err=True)


def _echo_summary(manifest: Manifest) -> None:
    for line in describe(manifest):
        click.echo(line)
