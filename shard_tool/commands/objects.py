"""`shard_tool objects`: measure the galaxy of every image of a folder of shards, and write `objects.csv`."""

from pathlib import Path

import click

from galaxy_zoo.console import Command, local_path
from galaxy_zoo.cores import num_cores
from galaxy_zoo.manifest import read_manifest
from shard_tool.commands.options import echo, workers_option
from shard_tool.shards.measuring import measure_folder


@click.command(cls=Command)
@click.argument("shards", type=local_path)
@click.option("--overwrite", is_flag=True, help="Replace earlier measurements.  [default: refuse]")
@workers_option
def objects(*, shards: Path, overwrite: bool, workers: int | None) -> None:
    """Measure the galaxy of every image of the folder SHARDS into SHARDS/objects.csv.

    The method is SExtractor's. Recipes with [view] framing "centred" or "scaled" need the file (dieleman_sextractor and
    others). Each row is an image: id, centre, and the semi-major axis of the Petrosian aperture. If nothing is found,
    the row has the centre of the image and the median radius. Needs: pip install sep.

    \b
    Example:
      shard_tool objects shards
    """
    measured = measure_folder(shards, read_manifest(shards), workers=workers or num_cores(), overwrite=overwrite)
    echo(
        f"{measured.path}: {measured.images:,} galaxies, median offset from the middle {measured.offset_px:.1f} px, "
        f"median radius {measured.radius_px:.1f} px"
    )
    if measured.not_found:
        echo(f"not found: {measured.not_found:,}; they get the middle and the median radius", err=True)
