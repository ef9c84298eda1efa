"""The `shard_tool` command: one click command a file."""

import click

from galaxy_zoo.console import Group
from galaxy_zoo.version import __version__
from shard_tool.commands.append import append
from shard_tool.commands.duplicates import duplicates
from shard_tool.commands.fetch import fetch
from shard_tool.commands.index import index
from shard_tool.commands.info import info
from shard_tool.commands.lint import lint
from shard_tool.commands.objects import objects
from shard_tool.commands.pack import pack
from shard_tool.commands.preview import preview
from shard_tool.commands.synth import synth
from shard_tool.commands.unpack import unpack


@click.group(cls=Group)
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


for command in (fetch, synth, pack, append, info, lint, duplicates, preview, objects, unpack, index):
    main.add_command(command)
