"""`shard_tool info`: show what a folder of shards holds."""

import json
from collections.abc import Iterator
from typing import Any

import click

from galaxy_zoo.console import Command, path_or_url
from galaxy_zoo.manifest import MANIFEST_NAME, Manifest, read_manifest
from galaxy_zoo.remote import AnyPath
from shard_tool.commands.options import echo

NUM_FOLDS = (5, 10)
"""Numbers of folds that `info` shows."""


@click.command(cls=Command)
@click.argument("shards", type=path_or_url)
@click.option(
    "--json", "as_json", is_flag=True, help="Print the manifest and derived values as JSON.  [default: a table]"
)
def info(shards: AnyPath, *, as_json: bool) -> None:
    """Show what the folder SHARDS holds.

    Only the manifest is read, so it is fast for any number of galaxies.

    \b
    Examples:
      shard_tool info shards
      shard_tool info shards --json
    """
    manifest = read_manifest(shards)
    if as_json:
        data = json.loads((shards / MANIFEST_NAME).read_text())
        click.echo(json.dumps(data | {"derived": _derived(manifest)}, indent=1))
        return
    for line in [*describe(manifest), *_describe_folds(manifest), *_describe_votes(manifest)]:
        echo(line)


def describe(manifest: Manifest) -> Iterator[str]:
    """Yield the lines of a short table: contents of the splits, and properties of the images."""
    yield f"{'split':<8}{'samples':>10}{'labelled':>10}{'shards':>8}{'MB':>10}"
    for split, shards in manifest.splits.items():
        samples = manifest.samples(split)
        labelled = "-" if manifest.is_foreign else f"{samples if is_labelled(manifest, split) else 0:,}"
        megabytes = sum(shard.bytes for shard in shards) / 1e6
        yield f"{split:<8}{samples:>10,}{labelled:>10}{len(shards):>8,}{megabytes:>10,.1f}"
    yield ""
    yield f"{'rejected':<16}{manifest.rejected:,}"
    yield f"{'image':<16}{manifest.image_px[1]} x {manifest.image_px[0]} pixels"
    if manifest.encoding is not None:
        yield f"{'encoded':<16}{', '.join(f'{k} {v}' for k, v in manifest.encoding.items() if v is not None)}"
    if statistics := manifest.statistics:
        least, _, most = statistics.image_bytes
        mean = _mean_image_bytes(manifest)
        yield f"{'image bytes':<16}{least:,} to {most:,}, mean {mean:,.0f}"
        samples, answers = statistics.labelled, len(manifest.tree.columns)
        of = f"{samples * answers:,} ({samples:,} labelled samples x {answers} answers)"
        yield f"{'missing votes':<16}{statistics.missing_votes:,} of {of}"
    if not manifest.is_decoded and statistics:
        yield f"{'decoded':<16}{statistics.measured:,} images, for the channels; to prove all: shard_tool lint --deep"
    yield f"{'channel mean':<16}{_three(manifest.channel_mean)}  (red, green, blue in [0, 1])"
    yield f"{'channel std':<16}{_three(manifest.channel_std)}"
    yield f"{'tree':<16}{manifest.tree.name} ({len(manifest.tree.columns)} answers)"
    yield f"{'seed':<16}{manifest.seed}"
    yield f"{'version':<16}{manifest.tool_version}"
    yield f"{'sha256 of all':<16}{manifest.set_sha256}"


def fold_sizes(manifest: Manifest, split: str, count: int) -> list[int]:
    """Return the number of samples of each of `count` folds; fold k is every `count`-th shard from the k-th on.

    It is empty if there are fewer shards than folds, which the loader refuses.
    """
    samples = [shard.samples for shard in manifest.splits.get(split, ())]
    return [sum(samples[k::count]) for k in range(count)] if len(samples) >= count else []


def is_labelled(manifest: Manifest, split: str) -> bool:
    """Return whether the samples of a split have votes; only training images do."""
    return split == "train" and manifest.vote_mean is not None


def _derived(manifest: Manifest) -> dict[str, Any]:
    statistics = manifest.statistics
    return {
        "samples": {split: manifest.samples(split) for split in manifest.splits},
        "folds": {str(count): fold_sizes(manifest, "train", count) for count in NUM_FOLDS},
        "missing_votes": statistics and statistics.missing_votes,
        "image_bytes_mean": statistics and _mean_image_bytes(manifest),
    }


def _mean_image_bytes(manifest: Manifest) -> float:
    samples = sum(manifest.samples(split) for split in manifest.splits)
    return manifest.statistics.image_bytes[1] / samples if manifest.statistics and samples else 0.0


def _describe_folds(manifest: Manifest) -> Iterator[str]:
    for count in NUM_FOLDS:
        if sizes := fold_sizes(manifest, "train", count):
            yield f"{f'{count} folds':<16}{min(sizes):,} to {max(sizes):,} samples held out"


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
