"""`shard_tool info`: what a folder of shards holds."""

from collections.abc import Iterator
from pathlib import Path

import click

from galaxy_zoo.console import Command
from galaxy_zoo.manifest import MANIFEST_NAME, Manifest, read_manifest


@click.command(cls=Command)
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as it is.  [default: a table]")
def info(out: Path, *, as_json: bool) -> None:
    """Show what the folder of shards OUT holds.

    \b
    Example:
      shard_tool info shards
    """
    manifest = read_manifest(out)
    if as_json:
        click.echo((out / MANIFEST_NAME).read_text(), nl=False)
        return
    for line in [*describe(manifest), *_describe_votes(manifest)]:
        click.echo(line)


def describe(manifest: Manifest) -> Iterator[str]:
    """The lines of a short table: what is in the splits, and how the images look."""
    yield f"{'split':<8}{'samples':>10}{'labelled':>10}{'shards':>8}{'MB':>10}"
    for split, shards in manifest.splits.items():
        samples = manifest.samples(split)
        labelled = samples if is_labelled(manifest, split) else 0
        megabytes = sum(shard.bytes for shard in shards) / 1e6
        yield f"{split:<8}{samples:>10,}{labelled:>10,}{len(shards):>8,}{megabytes:>10,.1f}"
    yield ""
    yield f"{'rejected':<16}{manifest.rejected:,}"
    yield f"{'image':<16}{manifest.image_px[1]} x {manifest.image_px[0]} pixels"
    yield f"{'channel mean':<16}{_three(manifest.channel_mean)}  (red, green, blue in [0, 1])"
    yield f"{'channel std':<16}{_three(manifest.channel_std)}"
    yield f"{'tree':<16}{manifest.tree.name} ({len(manifest.tree.columns)} answers)"
    yield f"{'seed':<16}{manifest.seed}"
    yield f"{'version':<16}{manifest.tool_version}"


def is_labelled(manifest: Manifest, split: str) -> bool:
    """Whether the samples of a split have votes; only training images have."""
    return split == "train" and manifest.vote_mean is not None


def _describe_votes(manifest: Manifest) -> Iterator[str]:
    if manifest.vote_mean is None:
        return
    yield ""
    yield "mean votes"
    for question, columns in zip(manifest.tree.questions, manifest.tree.slices, strict=True):
        means = zip(question.answers, manifest.vote_mean[columns], strict=True)
        answers = ", ".join(f"{answer} {'-' if mean is None else f'{mean:.3f}'}" for answer, mean in means)
        yield f"  {question.name}: {answers}"


def _three(values: tuple[float, float, float]) -> str:
    return " ".join(f"{value:.4f}" for value in values)
