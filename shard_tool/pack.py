"""`shard_tool pack`: images and votes to shards."""

import signal
from collections.abc import Sequence
from pathlib import Path

import click

from galaxy_zoo.console import Command
from galaxy_zoo.manifest import Manifest
from galaxy_zoo.tree import load_tree
from shard_tool.info import describe
from shard_tool.journal import REJECTED_NAME
from shard_tool.packing import OutOptions, find_finished
from shard_tool.packing import pack as pack_shards
from shard_tool.parallel import num_cores, prepare_workers
from shard_tool.plan import PackOptions, Rejected, make_plan

LINES_SHOWN = 20


@click.command(cls=Command)
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    help="Table of votes: a CSV, or a zip that holds one.  [default: training_solutions*.csv in SOURCE]",
)
@click.option(
    "--tree", default="gz2-kaggle", show_default=True, help="Decision tree: a known name or a TOML file."
)
@click.option(
    "--missing-votes", is_flag=True, help="Take absent columns and cells as missing votes.  [default: an error]"
)
@click.option(
    "--shards",
    type=click.IntRange(1, 999_999),
    help="Number of training shards.  [default: a multiple of 10, about 64 MB each]",
)
@click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Seed of the shuffle."
)
@click.option("--workers", type=click.IntRange(1), help="Processes.  [default: all cores]")
@click.option("--overwrite", is_flag=True, help="Replace an older pack in OUT.  [default: refuse]")
@click.option("--resume", is_flag=True, help="Finish an interrupted pack in OUT.  [default: refuse]")
@click.option(
    "--allow-rejects",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Exit 0 with up to this many rejected images and rows.",
)
@click.pass_context
def pack(
    ctx: click.Context,
    *,
    source: Path,
    out: Path,
    labels: Path | None,
    tree: str,
    missing_votes: bool,
    shards: int | None,
    seed: int,
    workers: int | None,
    overwrite: bool,
    resume: bool,
    allow_rejects: int,
) -> None:
    """Pack SOURCE into shards in the folder OUT.

    SOURCE is the Kaggle download in any layout (folder, zips in a folder, one zip, a zip of zips) or any folder of
    JPEGs. Nothing is unpacked to the disk. Every image is decoded and every row of votes checked; what fails is
    left out, listed in OUT/rejected.csv, and makes the exit code 1.

    \b
    Examples:
      shard_tool pack galaxy-zoo-the-galaxy-challenge.zip shards
      shard_tool pack cutouts shards --labels votes.csv --tree my_tree.toml
    """
    if overwrite and resume:
        raise click.UsageError("--overwrite and --resume exclude each other")
    options = PackOptions(source, load_tree(tree), labels, missing_votes, shards, seed)
    place = OutOptions(out, overwrite, resume, workers or num_cores())
    try:
        num_rejected = _run(options, place)
    except KeyboardInterrupt:
        click.echo("\nInterrupted. What is finished is kept: run the same command with --resume.", err=True)
        ctx.exit(128 + signal.SIGINT)
    if num_rejected > allow_rejects:
        click.echo(
            f"Error: {num_rejected} rejected, {allow_rejects} allowed; the shards are whole without them. Mend "
            f"what {out / REJECTED_NAME} lists, or accept it with --allow-rejects {num_rejected}.",
            err=True,
        )
        ctx.exit(1)


def _run(options: PackOptions, out: OutOptions) -> int:
    """Pack, print what came of it and return the number of rejects."""
    if finished := find_finished(options, out):
        click.echo(f"{out.folder}: finished already, nothing to do", err=True)
        return finished.rejected
    prepare_workers(out.workers)
    plan = make_plan(options)
    for name, why in plan.ignored[:LINES_SHOWN]:
        click.echo(f"ignored: {name}: {why}", err=True)
    _echo_more(len(plan.ignored), "ignored")
    packed = pack_shards(options, out, plan)
    _echo_rejected(packed.rejected)
    _echo_summary(packed.manifest)
    return len(packed.rejected)


def _echo_rejected(rejected: Sequence[Rejected]) -> None:
    for each in rejected[:LINES_SHOWN]:
        click.echo(f"rejected: {each.split} {each.id} ({each.file}): {each.reason}", err=True)
    _echo_more(len(rejected), f"rejected, see {REJECTED_NAME}")


def _echo_more(count: int, what: str) -> None:
    if count > LINES_SHOWN:
        click.echo(f"... and {count - LINES_SHOWN:,} more {what}", err=True)


def _echo_summary(manifest: Manifest) -> None:
    for line in describe(manifest):
        click.echo(line)
