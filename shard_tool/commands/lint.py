"""`shard_tool lint`: prove that a folder of shards is what its manifest says."""

import click

from galaxy_zoo.console import Command, path_or_url
from galaxy_zoo.cores import num_cores
from galaxy_zoo.manifest import read_manifest
from galaxy_zoo.remote import AnyPath
from shard_tool.commands.linting import lint_folder
from shard_tool.shards.cluster import connected, scheduler_option


@click.command(cls=Command)
@click.argument("out", type=path_or_url)
@click.option(
    "--deep", is_flag=True, help="Also decode every image and check every vote.  [default: only the files]"
)
@click.option("--workers", type=click.IntRange(1), help="Processes.  [default: all cores]")
@scheduler_option
@click.pass_context
def lint(ctx: click.Context, out: AnyPath, *, deep: bool, workers: int | None, scheduler: str | None) -> None:
    """Check the folder of shards OUT against its manifest; list whatever fails and exit 1.

    Every file is there, has its size and its sha256, every index fits its shard, no id stands twice. Since `pack`
    proves every image before it writes a shard, that shows that nothing has changed; --deep proves it all again.

    \b
    Examples:
      shard_tool lint shards
      shard_tool lint shards --deep
    """
    if workers and scheduler:
        raise click.UsageError("--workers and --scheduler exclude each other")
    if scheduler:  # its workers run in folders of their own
        out = out.absolute()
    manifest = read_manifest(out)
    with connected(scheduler, out) as cluster:
        failures = lint_folder(out, manifest, deep=deep, workers=workers or num_cores(), executor=cluster)
    for failure in failures:
        click.echo(" ".join(filter(None, (failure.file, failure.sample, failure.reason))))
    num_shards = sum(len(shards) for shards in manifest.splits.values())
    num_samples = sum(manifest.samples(split) for split in manifest.splits)
    if failures:
        click.echo(f"Error: failures in {out}: {len(failures):,}; pack it again", err=True)
        ctx.exit(1)
    click.echo(f"{out}: good: {num_samples:,} samples in {num_shards:,} shards")
