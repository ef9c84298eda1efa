"""The `shard_tool` command: one click command a file of `shard_tool.commands`."""

import click

from galaxy_zoo.console import Group
from galaxy_zoo.version import __version__

SUMMARIES = {
    "fetch": "Download the Kaggle challenge.",
    "synth": "Make synthetic galaxies in the layout of the Kaggle download.",
    "pack": "Pack images and votes into shards.",
    "append": "Add new galaxies to a folder of shards.",
    "info": "Show what shards hold.",
    "lint": "Check that shards are what their manifest says.",
    "duplicates": "List galaxies that are the same image under several ids.",
    "preview": "Draw a sheet of galaxies with their votes.",
    "objects": "Measure centre and size of each galaxy.",
    "unpack": "Turn shards back into images and votes.",
    "index": "Make WebDataset tars of others readable.",
}


@click.group(cls=Group, package="shard_tool.commands", summaries=SUMMARIES)
@click.version_option(__version__, prog_name="shard_tool")
def main() -> None:
    """Galaxy images and votes to shards: proven, shuffled once and the same byte for byte every time.

    \b
    Example:
      shard_tool synth demo --count 1000 --test 200
      shard_tool pack demo shards
      shard_tool info shards
      shard_tool lint shards
    """
