"""`shard_tool index`: indexes and a manifest for WebDataset tars that others wrote."""

from pathlib import Path

import click

from galaxy_zoo.console import Command, local_path
from galaxy_zoo.cores import num_cores
from galaxy_zoo.tree import load_tree
from shard_tool.commands.indexing import Indexed, index_folder
from shard_tool.commands.info import describe

LINES_SHOWN = 20


@click.command(cls=Command)
@click.argument("folder", type=local_path)
@click.option(
    "--tree", default="gz2-kaggle", show_default=True, help="Decision tree: a known name or a TOML file."
)
@click.option(
    "--split-by-name",
    is_flag=True,
    help="Tars named train*, test* and val* are these splits.  [default: all are training shards]",
)
@click.option("--overwrite", is_flag=True, help="Replace what an earlier index made.  [default: refuse]")
@click.option("--workers", type=click.IntRange(1), help="Processes.  [default: all cores]")
@click.pass_context
def index(
    ctx: click.Context, *, folder: Path, tree: str, split_by_name: bool, overwrite: bool, workers: int | None
) -> None:
    """Make the WebDataset tars in FOLDER readable for training, wherever they came from.

    Every image is proven to decode, all must be colour JPEGs (.jpg or .jpeg) of one size; votes are .votes.npy
    (float32, one value an answer of the tree). Other components may be there and are counted. Where all is good an
    .idx for each tar and a manifest.json are written beside the tars, which stay as they are; otherwise nothing.

    A fold is a set of shards: folds are fair only if whoever wrote the tars shuffled the samples first.

    \b
    Examples:
      shard_tool index tars
      shard_tool index tars --split-by-name --tree my_tree.toml
    """
    indexed = index_folder(
        folder,
        load_tree(tree),
        split_by_name=split_by_name,
        overwrite=overwrite,
        workers=workers or num_cores(),
    )
    _echo_besides(indexed)
    if indexed.manifest is None:
        for failure in indexed.failures:
            click.echo(" ".join(filter(None, (failure.file, failure.sample, failure.reason))))
        click.echo(
            f"Error: failures in {folder}: {len(indexed.failures):,}; nothing was written. Write those tars again "
            "without what is listed, or make new shards with shard_tool pack.",
            err=True,
        )
        ctx.exit(1)
    for line in describe(indexed.manifest):
        click.echo(line)


def _echo_besides(indexed: Indexed) -> None:
    for extension, count in sorted(indexed.besides.items()):
        click.echo(f"not used: .{extension} of {count:,} samples", err=True)
    for tar, member in indexed.others[:LINES_SHOWN]:
        click.echo(f"not of a sample: {tar}: {member}", err=True)
    if len(indexed.others) > LINES_SHOWN:
        click.echo(f"... and {len(indexed.others) - LINES_SHOWN:,} more that are not of a sample", err=True)
