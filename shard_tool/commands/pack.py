"""`shard_tool pack`: pack images and votes into shards."""

from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from galaxy_zoo.console import Command, ends_at_ctrl_c, path_or_url, rare_option
from galaxy_zoo.cores import num_cores
from galaxy_zoo.image_size import LARGEST_SIDE_PX
from galaxy_zoo.remote import AnyPath
from galaxy_zoo.text import counted, shown
from galaxy_zoo.tree import load_tree
from shard_tool.commands.info import describe
from shard_tool.commands.options import (
    SourceOptions,
    check_apart,
    echo,
    echo_first,
    resumable,
    source_options,
    tree_option,
    warn_of_shared_ids,
    warn_of_shared_images,
)
from shard_tool.shards.journal import REJECTED_NAME
from shard_tool.shards.parallel import prepare_workers

if TYPE_CHECKING:  # these import OpenCV, which --help does not need
    from shard_tool.shards.packing import OutOptions
    from shard_tool.source.options import PackOptions


@click.command(cls=Command)
@click.argument("source", type=path_or_url)
@click.argument("out", type=path_or_url)
@tree_option
@rare_option(
    "--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Seed of the shuffle."
)
@rare_option(
    "--quality",
    type=click.IntRange(1, 100),
    default=95,
    show_default=True,
    help="JPEG quality of images that are encoded: PNG, FITS, HDF5, and those that --resize or --pad changes.",
)
@click.option(
    "--resize",
    type=click.IntRange(1, LARGEST_SIDE_PX),
    help="Scale every image to this side in pixels.  [default: keep its size]",
)
@rare_option(
    "--pad",
    type=click.IntRange(1, LARGEST_SIDE_PX),
    help="Centre every image on a black square of this side in pixels, before --resize.  [default: keep its size]",
)
@source_options
def pack(
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
    """Pack the images and votes of SOURCE into shards in the folder OUT.

    SOURCE is the Kaggle download in any layout (folder, zips in a folder, one zip, a zip of zips), any folder, zip
    or tar of JPEGs, PNGs and FITS images, or the HDF5 file of Galaxy10. Nothing is unpacked to the disk.
    Every image is decoded and every row of votes checked; those that fail are left out and listed in OUT/rejected.csv,
    and make the exit code 1.

    \b
    Examples:
      shard_tool pack galaxy-zoo-the-galaxy-challenge.zip shards
      shard_tool pack cutouts shards --labels votes.csv --tree my_tree.toml
      shard_tool pack cutouts shards --catalogue galaxies.parquet --tree my_tree.toml --resize 256
      shard_tool pack Galaxy10_DECals.h5 shards --tree galaxy10
    """
    about = SourceOptions(**given)
    about.check()
    check_apart(source, out, (*about.tables, *([Path(tree)] if Path(tree).is_file() else [])))
    with ends_at_ctrl_c():
        from shard_tool.images.encoding import Encoding
        from shard_tool.shards.packing import OutOptions
        from shard_tool.source.options import PackOptions
    if about.scheduler:  # the workers run in other folders
        source, out = source.absolute(), out.absolute()
    options = PackOptions(
        source=source,
        tree=load_tree(tree),
        labels=about.labels,
        missing_votes=about.missing_votes,
        kind=about.kind,
        shards=about.shards,
        seed=seed,
        encoding=Encoding(quality=quality, resize_px=resize, pad_px=pad, fits=about.stretch),
        catalogue=about.catalogue_options,
        decode=not about.no_decode,
    )
    place = OutOptions(
        folder=out, overwrite=about.overwrite, resume=about.resume, workers=about.workers or num_cores()
    )
    with resumable():
        num_rejected = _pack(options, place, about.scheduler)
    if num_rejected > about.allow_rejects:
        raise click.ClickException(
            f"{num_rejected:,} rejected, {about.allow_rejects:,} allowed; the shards are whole without them. Fix "
            f"what {shown(out / REJECTED_NAME)} lists, or accept it with --resume --allow-rejects {num_rejected}."
        )


def _pack(options: "PackOptions", place: "OutOptions", scheduler: str | None) -> int:
    """Pack, print a summary and return the number of rejects."""
    from shard_tool.shards.cluster import connected
    from shard_tool.shards.packing import find_finished, locked_journal, pack, plan_or_list_rejects
    from shard_tool.source.contents import tables_not_taken

    if finished := find_finished(options, place):
        echo(f"{place.folder}: finished already, nothing to do", err=True)
        return finished.rejected
    with locked_journal(place) as journal, connected(scheduler, options.source) as cluster:
        if cluster is None:
            prepare_workers(place.workers)
        plan = plan_or_list_rejects(options, place)
        echo_first((f"note: {note}" for note in plan.notes), len(plan.notes), "notes")
        ignored = (f"ignored: {name}: {why}" for name, why in plan.draft.ignored())
        echo_first(ignored, plan.draft.num_ignored, "ignored")
        warn_of_shared_ids(*plan.in_both_splits())
        packed = pack(options, replace(place, cluster=cluster), plan, journal)
    warn_of_shared_images(packed.leak)
    rejected = (f"rejected: {each.split} {each.id} ({each.file}): {each.reason}" for each in packed.rejected)
    echo_first(
        rejected, len(packed.rejected), f"rejected, see {REJECTED_NAME}; in all: {packed.rejected.summary()}"
    )
    for line in describe(packed.manifest):
        echo(line)
    if list(packed.manifest.splits) == ["test"] and (tables := tables_not_taken(plan.draft)):
        _warn_of_no_votes(tables, packed.manifest.samples("test"), options.source)
    return len(packed.rejected)


def _warn_of_no_votes(tables: list[str], num_images: int, source: AnyPath) -> None:
    """Warn on stderr that images were packed without the votes that one of `tables`, below `source`, may hold."""
    path = source / tables[0]
    is_in_archive = not path.is_file()
    table = tables[0].rpartition("/")[2] if is_in_archive else str(path)
    more = f" (and {counted(len(tables) - 1, 'more table')})" if len(tables) > 1 else ""
    unpack = "take it out of the archive and " if is_in_archive else ""
    for line in (
        "",
        f"WARNING: NO VOTES. All {num_images:,} images were packed as test images. {tables[0]}{more} was not read,",
        f"since it is not named like a table of votes. If it holds their votes, {unpack}run the same command with",
        f"  --labels {quote(table)} --overwrite",
    ):
        echo(line, err=True)
