"""`shard_tool unpack`: shards to the images and votes they were packed from."""

from pathlib import Path

import click

from galaxy_zoo.console import Command, local_path
from galaxy_zoo.cores import num_cores
from galaxy_zoo.manifest import read_manifest
from shard_tool.commands.unpacking import images_folder, unpack_folder


@click.command(cls=Command)
@click.argument("shards", type=local_path)
@click.argument("out", type=local_path)
@click.option("--workers", type=click.IntRange(1), help="Processes.  [default: all cores]")
def unpack(*, shards: Path, out: Path, workers: int | None) -> None:
    """Give back the JPEGs and votes of the folder SHARDS, in Kaggle's layout in the new folder OUT.

    The JPEGs are the bytes that were packed; the votes are printed so that they read back as the same float32, a
    missing one as an empty cell. Packing OUT again with the same --seed and --shards gives the same shards. Every
    shard is proven by its checksum before anything of it is written.

    \b
    Example:
      shard_tool unpack shards kaggle-again
    """
    manifest = read_manifest(shards)
    tables = unpack_folder(shards, manifest, out, workers=workers or num_cores())
    for split in manifest.splits:
        click.echo(f"{out / images_folder(split)}: {manifest.samples(split):,} images")
    for table in tables:
        click.echo(f"{table}: votes")
