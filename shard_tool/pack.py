"""`shard_tool pack`: images and votes to shards."""

import math
import signal
from itertools import islice
from pathlib import Path

import click

from galaxy_zoo.console import Command
from galaxy_zoo.manifest import Manifest
from galaxy_zoo.tree import load_tree
from shard_tool.encoding import Encoding
from shard_tool.fits import Stretch
from shard_tool.info import describe
from shard_tool.journal import REJECTED_NAME
from shard_tool.options import CatalogueOptions, PackOptions
from shard_tool.packing import OutOptions, find_finished
from shard_tool.packing import pack as pack_shards
from shard_tool.parallel import num_cores, prepare_workers
from shard_tool.plan import make_plan
from shard_tool.samples import Rejects
from shard_tool.sizes import LARGEST_SIDE_PX

LINES_SHOWN = 20


@click.command(cls=Command)
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Table of votes: a CSV, or a zip that holds one. Several are given one by one and joined by id.  "
    "[default: training_solutions*.csv in SOURCE]",
)
@click.option(
    "--catalogue",
    type=click.Path(path_type=Path),
    help="CSV or Parquet of ids, files relative to SOURCE, and votes, instead of --labels.  [default: none]",
)
@click.option("--id-column", help="Column of the ids in the catalogue.  [default: the tree's]")
@click.option("--file-column", default="file", show_default=True, help="Column of the files in the catalogue.")
@click.option(
    "--tree", default="gz2-kaggle", show_default=True, help="Decision tree: a known name or a TOML file."
)
@click.option(
    "--missing-votes", is_flag=True, help="Take absent columns and cells as missing votes.  [default: an error]"
)
@click.option("--counts", is_flag=True, help="The tables hold numbers of voters.  [default: fractions of them]")
@click.option(
    "--shards",
    type=click.IntRange(1, 999_999),
    help="Number of training shards.  [default: a multiple of 10, about 64 MB each]",
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
@click.option(
    "--fits-range",
    type=(float, float),
    help="Values of FITS images that become black and as bright as can be.  [default: FITS images are refused]",
)
@click.option(
    "--fits-softening",
    type=click.FloatRange(0, min_open=True),
    default=10.0,
    show_default=True,
    help="Softening of the asinh stretch of FITS images; more shows fainter parts.",
)
@click.option(
    "--no-decode",
    is_flag=True,
    help="Read only the headers of JPEGs: faster, but a damaged image stays unnoticed, and the channel statistics "
    "come from some 500 images.  [default: decode all]",
)
@click.option("--workers", type=click.IntRange(1), help="Processes.  [default: all cores]")
@click.option("--overwrite", is_flag=True, help="Replace an older pack in OUT.  [default: refuse]")
@click.option("--resume", is_flag=True, help="Finish an interrupted pack in OUT.  [default: refuse]")
@click.option(
    "--allow-rejects",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Exit 0 with up to this many rejected images and rows.",
)
@click.pass_context
def pack(
    ctx: click.Context,
    *,
    source: Path,
    out: Path,
    labels: tuple[Path, ...],
    catalogue: Path | None,
    id_column: str | None,
    file_column: str,
    tree: str,
    missing_votes: bool,
    counts: bool,
    shards: int | None,
    seed: int,
    quality: int,
    resize: int | None,
    pad: int | None,
    fits_range: tuple[float, float] | None,
    fits_softening: float,
    no_decode: bool,
    workers: int | None,
    overwrite: bool,
    resume: bool,
    allow_rejects: int,
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
    if overwrite and resume:
        raise click.UsageError("--overwrite and --resume exclude each other")
    if catalogue and labels:
        raise click.UsageError("--catalogue and --labels exclude each other")
    if not catalogue and (id_column or file_column != "file"):
        raise click.UsageError("--id-column and --file-column need --catalogue")
    options = PackOptions(
        source,
        load_tree(tree),
        labels=labels,
        missing_votes=missing_votes,
        counts=counts,
        shards=shards,
        seed=seed,
        encoding=Encoding(quality, resize, pad, _stretch(fits_range, fits_softening)),
        catalogue=CatalogueOptions(catalogue, id_column, file_column) if catalogue else None,
        decode=not no_decode,
    )
    place = OutOptions(out, overwrite, resume, workers or num_cores())
    try:
        num_rejected = _run(options, place)
    except KeyboardInterrupt:
        click.echo("\nInterrupted. What is finished is kept: run the same command with --resume.", err=True)
        ctx.exit(128 + signal.SIGINT)
    if num_rejected > allow_rejects:
        click.echo(
            f"Error: {num_rejected} rejected, {allow_rejects} allowed; the shards are whole without them. Mend "
            f"what {out / REJECTED_NAME} lists, or accept it with --allow-rejects {num_rejected}.",
            err=True,
        )
        ctx.exit(1)


def _stretch(fits_range: tuple[float, float] | None, softening: float) -> Stretch | None:
    if fits_range is None:
        return None
    black, white = fits_range
    if not (math.isfinite(white - black) and math.isfinite(softening) and black < white):
        raise click.UsageError("--fits-range takes two finite numbers, the lower one first")
    return Stretch(black, white, softening)


def _run(options: PackOptions, out: OutOptions) -> int:
    """Pack, print what came of it and return the number of rejects."""
    if finished := find_finished(options, out):
        click.echo(f"{out.folder}: finished already, nothing to do", err=True)
        return finished.rejected
    prepare_workers(out.workers)
    plan = make_plan(options)
    for name, why in islice(plan.draft.ignored(), LINES_SHOWN):
        click.echo(f"ignored: {name}: {why}", err=True)
    _echo_more(plan.draft.num_ignored, "ignored")
    packed = pack_shards(options, out, plan)
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
