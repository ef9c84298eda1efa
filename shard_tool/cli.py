"""The `shard_tool` command: each file of `shard_tool.commands` is a click command."""

import click

from galaxy_zoo.console import Group
from galaxy_zoo.version import __version__

SUMMARIES = {
    "fetch": "Download the Galaxy Zoo challenge from Kaggle into the folder OUT.",
    "synth": "Write synthetic galaxies and their votes to OUT, in the layout of the Kaggle download.",
    "pack": "Pack the images and votes of SOURCE into shards in the folder OUT.",
    "append": "Add the galaxies of SOURCE to the finished shards in the folder OUT.",
    "info": "Show what the folder SHARDS holds.",
    "lint": "Check the folder SHARDS against its manifest.",
    "duplicates": "List images in the folder SHARDS that occur under several ids.",
    "preview": "Draw galaxies of SHARDS with their main votes into the image OUT, a PNG; an older one is replaced.",
    "objects": "Measure the galaxy of every image of the folder SHARDS into SHARDS/objects.csv.",
    "unpack": "Turn the folder SHARDS back into JPEGs and votes in the new folder OUT.",
    "index": "Make the WebDataset tars in FOLDER readable for training.",
    "check": "Check and score the submission FILE.",
}


@click.group(cls=Group, modules={name: f"shard_tool.commands.{name}" for name in SUMMARIES}, summaries=SUMMARIES)
@click.version_option(__version__, prog_name="shard_tool")
def main() -> None:
    """Turn galaxy images and votes into shards: proven, shuffled once and the same bytes every time.

    \b
    Example:
      shard_tool synth demo --count 1000 --test 200
      shard_tool pack demo shards
      shard_tool info shards
      shard_tool lint shards
    """
