"""`shard_tool index`: write an index for each WebDataset tar of other origin, and a manifest."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from galaxy_zoo.console import Command, ends_at_ctrl_c, local_path
from galaxy_zoo.cores import num_cores
from galaxy_zoo.index import index_path, read_index
from galaxy_zoo.text import shown
from galaxy_zoo.tree import load_tree
from shard_tool.commands.info import describe
from shard_tool.commands.options import (
    echo,
    echo_failures,
    echo_first,
    tree_option,
    warn_of_shared_ids,
    workers_option,
)
from shard_tool.shards.proof import describe_npy

if TYPE_CHECKING:  # imports OpenCV, which --help does not need
    from shard_tool.shards.indexing import Indexed

LONGEST_HEADER_BYTES = 4096
"""Bytes read of a `.npy` file to tell what it holds."""


@click.command(cls=Command)
@click.argument("folder", type=local_path)
@tree_option
@click.option(
    "--split-by-name",
    is_flag=True,
    help="Tars named train*, test* and val* become these splits.  [default: all are training shards]",
)
@click.option("--overwrite", is_flag=True, help="Replace the files of an earlier index.  [default: refuse]")
@workers_option
def index(*, folder: Path, tree: str, split_by_name: bool, overwrite: bool, workers: int | None) -> None:
    """Make the WebDataset tars in FOLDER readable for training.

    Tars may come from anywhere. Images must be colour JPEGs (.jpg or .jpeg) of one size, and every one must decode;
    votes are .votes.npy or .npy (float32, one value for each answer of the tree), or the class in .cls (counted from
    0) if the tree has one question. Other components may be present and are counted. If all is good, an .idx for each
    tar and a manifest.json are written beside the tars, which stay unchanged; otherwise nothing is written.

    A fold is a set of shards, so folds are fair only if the samples were shuffled before the tars were written.

    \b
    Examples:
      shard_tool index tars
      shard_tool index tars --split-by-name --tree my_tree.toml
    """
    with ends_at_ctrl_c():
        from shard_tool.shards.indexing import index_folder
    indexed = index_folder(
        folder,
        load_tree(tree),
        split_by_name=split_by_name,
        overwrite=overwrite,
        workers=workers or num_cores(),
    )
    warn_of_shared_ids(*indexed.shared)
    for extension, count in sorted(indexed.besides.items()):
        echo(f"not used: .{extension} of {count:,} samples", err=True)
    if indexed.manifest and (unused := list(_unused_votes(folder, indexed))):
        num_answers, name = len(indexed.manifest.tree.columns), indexed.manifest.tree.name
        echo(
            f"no votes: they are taken from KEY.votes.npy or KEY.npy (float32, shape ({num_answers},) for tree {name})"
            f", or from KEY.cls for a tree of one question, and these tars hold {' and '.join(unused)}; for classes "
            "index again with their --tree and --overwrite, else write the tars anew, or pack images and a table: "
            "shard_tool pack",
            err=True,
        )
    others = (f"not of a sample: {tar}: {member}" for tar, member in indexed.others)
    echo_first(others, len(indexed.others), "that are not of a sample")
    if indexed.manifest is None:
        echo_failures(indexed.failures)
        raise click.ClickException(
            f"failures in {shown(folder)}: {len(indexed.failures):,}; nothing was written. Write those tars again "
            "without what is listed, or make new shards with shard_tool pack."
        )
    for line in describe(indexed.manifest):
        echo(line)


def _unused_votes(folder: Path, indexed: "Indexed") -> Iterator[str]:
    """Yield what holds votes or classes by WebDataset's customs, each with its first content, if nothing has votes."""
    manifest = indexed.manifest
    if manifest is None or (manifest.statistics and manifest.statistics.labelled):
        return
    tars = [folder / shard.name for shards in manifest.splits.values() for shard in shards]
    for extension in sorted({"npy", "cls"} & indexed.besides.keys()):
        found = ((tar, c) for tar in tars for sample in read_index(index_path(tar)) for c in sample)
        tar, first = next(each for each in found if each[1].extension == extension)
        with tar.open("rb") as file:
            file.seek(first.offset)
            data = file.read(min(first.size, LONGEST_HEADER_BYTES))
        content = describe_npy(data) if extension == "npy" else repr(data[:20].decode(errors="replace"))
        yield f"KEY.{extension} ({content})"
