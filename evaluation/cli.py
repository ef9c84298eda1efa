"""The `galaxy_zoo` command: what comes after packing, each command in the package that does its work."""

import click

from galaxy_zoo.console import Group
from galaxy_zoo.version import __version__

SUMMARIES = {
    "train": "Train an ensemble of models from the folder SHARDS.",
    "predict": "Predict SHARDS or IMAGES with all members of all RUNs and write a submission.",
    "evaluate": "Evaluate RUNs on galaxies of the folder SHARDS that none has seen and write a report.",
    "views": "Draw what the network of a recipe sees of galaxies in SHARDS into the image OUT.",
}
MODULES = {
    "train": "training.command",
    "predict": "prediction.command",
    "evaluate": "evaluation.command",
    "views": "evaluation.views_command",
}


@click.group(cls=Group, modules=MODULES, summaries=SUMMARIES)
@click.version_option(__version__, prog_name="galaxy_zoo")
def main() -> None:
    """Train on shards of galaxies, predict votes and look at the result; shard_tool makes the shards.

    \b
    Example:
      galaxy_zoo views shards views.png --recipe quick
      galaxy_zoo train shards --recipe quick --members 2 --out runs/quick
      galaxy_zoo predict runs/quick shards --views 16 --out submission.csv
      galaxy_zoo evaluate runs/quick shards --out report
    """
