"""`shard_tool preview`: draw a sheet of galaxies."""

from pathlib import Path

import click

from galaxy_zoo.console import Command, ends_at_ctrl_c, local_path, path_or_url
from galaxy_zoo.errors import ShardError
from galaxy_zoo.files import atomic_write, check_outputs
from galaxy_zoo.manifest import MANIFEST_NAME, read_manifest
from galaxy_zoo.remote import AnyPath
from galaxy_zoo.text import counted
from shard_tool.commands.options import echo


@click.command(cls=Command)
@click.argument("shards", type=path_or_url)
@click.argument("out", type=local_path)
@click.option("--count", type=click.IntRange(1, 1000), default=24, show_default=True, help="Number of galaxies.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the random choice.")
@click.option("--split", help="Split to draw from.  [default: the first one]")
@click.option(
    "--size",
    "side_px",
    type=click.IntRange(32, 1024),
    default=160,
    show_default=True,
    help="Side of a picture in pixels.",
)
def preview(*, shards: AnyPath, out: Path, count: int, seed: int, split: str | None, side_px: int) -> None:
    """Draw galaxies of SHARDS with their main votes into the image OUT, a PNG; an older one is replaced.

    SHARDS is a folder, or its URL in an object store.

    The votes shown follow the tree, from each question by the answer with the most votes. A number is the fraction of
    all volunteers who gave that answer.

    \b
    Example:
      shard_tool preview shards sheet.png --count 40
    """
    if out.suffix.lower() != ".png":
        raise click.UsageError(f"{out}: the sheet is a PNG; give it a name that ends in .png")
    with ends_at_ctrl_c():
        from shard_tool.shards.contact_sheet import draw_samples, draw_sheet, read_cells
    manifest = read_manifest(shards)
    split = split or next(iter(manifest.splits), "train")
    if not manifest.samples(split):
        raise ShardError(f"{shards}: no {split} samples; its splits are: {', '.join(manifest.splits) or 'none'}")
    if isinstance(shards, Path):
        check_outputs([out], [shards / MANIFEST_NAME, *(shards / each.name for each in manifest.splits[split])])
    positions = draw_samples(manifest.samples(split), count, seed)
    galaxies = list(read_cells(shards, manifest, split=split, positions=positions, side_px=side_px))
    with atomic_write(out) as file:
        draw_sheet(galaxies).save(file, "PNG")
    echo(f"{out}: {len(galaxies):,} of {counted(manifest.samples(split), f'{split} galaxy', f'{split} galaxies')}")
    if len(manifest.tree.questions) > 1 and any(galaxy.lines[1:] for galaxy in galaxies):
        echo("numbers are fractions of all volunteers, also of those who were not asked the question")
