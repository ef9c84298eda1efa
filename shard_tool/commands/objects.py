"""`shard_tool objects`: where the galaxy of each image is, and how large."""

from pathlib import Path

import click

from galaxy_zoo.console import Command, local_path
from galaxy_zoo.cores import num_cores
from galaxy_zoo.manifest import read_manifest
from shard_tool.commands.measuring import measure_folder


@click.command(cls=Command)
@click.argument("out", type=local_path)
@click.option("--overwrite", is_flag=True, help="Replace what was measured before.  [default: refuse]")
@click.option("--workers", type=click.IntRange(1), help="Processes.  [default: all cores]")
def objects(*, out: Path, overwrite: bool, workers: int | None) -> None:
    """Measure the galaxy of every image of the folder of shards OUT, as SExtractor does, into OUT/objects.csv.

    Recipes whose view is framed = "centred" or "scaled" need it (dieleman_sextractor and others). A row an image: id,
    centre, and the semi-major axis of the Petrosian aperture. Where nothing is found it is the middle of the image and
    the median. Needs: pip install sep.

    \b
    Example:
      shard_tool objects shards
    """
    measured = measure_folder(out, read_manifest(out), workers=workers or num_cores(), overwrite=overwrite)
    click.echo(
        f"{measured.path}: {measured.images:,} galaxies, at the median {measured.offset_px:.1f} px off the middle, "
        f"radius {measured.radius_px:.1f} px"
    )
    if measured.not_found:
        click.echo(f"not found: {measured.not_found:,}, which get the middle and that radius", err=True)
