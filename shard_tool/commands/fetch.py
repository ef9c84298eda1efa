"""`shard_tool fetch`: the Kaggle download."""

from pathlib import Path

import click

from galaxy_zoo.console import Command
from shard_tool.commands.fetching import fetch_files


@click.command(cls=Command)
@click.argument("out", type=click.Path(path_type=Path))
def fetch(out: Path) -> None:
    """Download the Galaxy Zoo challenge from Kaggle into the folder OUT: 2 GB in four zips, as pack reads them.

    Kaggle wants an account: accept the rules of the competition, create a token at https://www.kaggle.com/settings
    and put it into the variable KAGGLE_API_TOKEN or the file ~/.kaggle/access_token; an older kaggle.json does as
    well. The token is only read. What is in OUT and whole stays; run it again after an interruption to go on.

    \b
    Example:
      shard_tool fetch kaggle
    """
    fetch_files(out, lambda line: click.echo(line, err=True))
    click.echo(f"All files are in {out}. Next: shard_tool pack {out} shards")
