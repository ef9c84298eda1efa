"""The galaxies to predict: a split of a set of shards, or images that are packed into temporary shards."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import pandas as pd
import torch

from galaxy_zoo.errors import RunError
from galaxy_zoo.files import sha256_of
from galaxy_zoo.fold import Fold
from galaxy_zoo.manifest import MANIFEST_NAME, Manifest, Shard, read_manifest
from galaxy_zoo.text import shown
from galaxy_zoo.view import View
from pipeline.augment import FixedView, FixedViews
from pipeline.cache import Cache, ShardSet, open_set
from pipeline.loader import Decoding, Loader, Sampling
from pipeline.shards import Samples, shards_of
from pipeline.stamps import STREAM, StampPolicy
from prediction.memory import BATCH_ON_CPU, choose_batch_size
from prediction.parts import Parts
from prediction.request import PredictionRequest
from shard_tool.staging import for_prediction, stage
from training.ranks import Ranks, own_device, own_threads
from training.run import Run

LINES_SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How to read galaxies. num_threads: number of decoding threads; None: one for each core."""

    views: tuple[FixedView, ...]
    batch_size: int
    device: torch.device
    num_threads: int | None = None
    stamps: StampPolicy = STREAM


@dataclass(frozen=True, kw_only=True)
class Shards:
    """A split of a set of shards, and how to read it."""

    shard_set: ShardSet
    manifest: Manifest
    split: str
    reading: Reading

    @property
    def shards(self) -> tuple[Shard, ...]:
        """Shards of the split."""
        return shards_of(self.shard_set.path, self.manifest, self.split)

    @property
    def training_shards(self) -> tuple[Shard, ...]:
        """All training shards."""
        return shards_of(self.shard_set.path, self.manifest, "train")

    @property
    def key(self) -> dict[str, Any]:
        """Everything about the source that the bytes of a prediction depend on, as JSON values."""
        return {
            "shards": self.manifest.set_sha256,
            "split": self.split,
            "views": [asdict(view) for view in self.reading.views],
            "batch_size": self.reading.batch_size,
            "device": self.reading.device.type,
        }

    def samples(self, shards: Sequence[Shard]) -> Samples:
        """Return the samples of some shards."""
        return Samples(self.shard_set.folder, self.manifest, shards)

    def open(self, shards: Sequence[Shard], view: View) -> Loader:
        """Return a loader of some shards, in order."""
        self.shard_set.need_objects(view)
        reading = self.reading
        sampling = Sampling(batch_size=reading.batch_size, shuffle=False)
        decoding = Decoding(device=reading.device, num_threads=reading.num_threads, stamps=reading.stamps)
        return Loader(self.samples(shards), FixedViews(view, reading.views), sampling, decoding)

    def check_fits(self, run: Run) -> None:
        """Check that the run was trained on this tree and this image size.

        Raises:
            RunError: the tree or the size differs.
        """
        path, manifest = self.shard_set.path, self.manifest
        if manifest.tree != run.data.tree:
            raise RunError(
                f"{run.folder} was trained on the tree {run.data.tree.name!r}, {path} holds {manifest.tree.name!r} "
                "or another version of it; predict shards packed with the same tree"
            )
        if manifest.image_px != run.data.image_px:
            raise RunError(
                f"{run.folder} was trained on images of {run.data.image_px} px, {path} holds {manifest.image_px}; "
                "predict images of the same size"
            )

    def is_trained_on(self, run: Run) -> bool:
        """Return whether the run was trained on this very set of shards."""
        return run.data.manifest_sha256 == sha256_of(self.shard_set.folder / MANIFEST_NAME)

    def unseen(self, run: Run) -> frozenset[str]:
        """Return the names of the training shards that were held out from the members of a run.

        Raises:
            RunError: the run was trained on other shards, so what it has seen is not known.
        """
        if not self.is_trained_on(run):
            raise RunError(
                f"{run.folder} was not trained on {self.shard_set.path} as it is now, so which galaxies it has not "
                "seen is not known; give the shards it was trained on"
            )
        fold = Fold.named(run.fold)
        if fold is None:
            return frozenset()
        _, held_out = fold.split(self.training_shards)
        return frozenset(shard.name for shard in held_out)

    def training_votes(self) -> pd.DataFrame:
        """Return the votes of all training shards by id."""
        samples = self.samples(self.training_shards)
        return pd.DataFrame(samples.votes, index=samples.keys)


@contextmanager
def open_source(
    request: PredictionRequest, runs: Sequence[Run], *, parts: Parts, device: torch.device, ranks: Ranks
) -> Iterator[tuple[Shards, int]]:
    """Open the source of a request; also yield the number of images that could not be used.

    Args:
        parts: parts of the prediction; images are packed into a folder beside them.

    Raises:
        InputError: there are no such shards, or none of the images can be used.
        RunError: the first run does not fit the shards, or the ranks see different shards.
    """
    reading = Reading(
        views=request.fixed_views,
        batch_size=request.batch_size or BATCH_ON_CPU,
        device=own_device(device),
        num_threads=own_threads(request.workers),
        stamps=StampPolicy(request.stamps, folder=request.stamps_folder, reused=False),
    )
    with ExitStack() as stack:
        if request.is_images:
            num_unusable = ranks.broadcast_object(_stage(request, parts.images, runs) if ranks.is_first else 0)
            shard_set = ShardSet(request.source, parts.images)
        else:
            num_unusable = 0
            shard_set = stack.enter_context(
                open_set(request.source, Cache(request.cache_folder, request.cache_gb))
            )
        manifest = read_manifest(shard_set.folder)
        source = Shards(shard_set=shard_set, manifest=manifest, split=request.predicted_split, reading=reading)
        source.check_fits(runs[0])
        ranks.check_same(manifest.set_sha256, f"the manifest of {request.source}")
        shard_set.need(*request.needed_splits)
        if request.batch_size is None:
            size = _auto_batch_size(source, runs, parts, ranks.world_size) if ranks.is_first else 0
            source = replace(source, reading=replace(reading, batch_size=ranks.broadcast_object(size)))
        yield source, num_unusable


def _auto_batch_size(source: Shards, runs: Sequence[Run], parts: Parts, world_size: int) -> int:
    """Return the batch size of the parts to go on from, or else what the device has memory for."""
    if kept := parts.batch_size:
        return kept
    device = source.reading.device
    networks = {str(run.recipe.table): run.recipe for run in runs}
    size = choose_batch_size(
        [*networks.values()],
        source.manifest,
        num_views=len(source.reading.views),
        num_galaxies=sum(shard.samples for shard in source.shards) // world_size,
        device=device,
    )
    if device.type == "cuda":
        click.echo(f"batches of {size} galaxies fit into the memory of the GPU", err=True)
    return size


def _stage(request: PredictionRequest, folder: Path, runs: Sequence[Run]) -> int:
    """Pack images into temporary shards; measure galaxies if a run's view is framed by them.

    Print the images that cannot be used, and return their number.
    """
    data = runs[0].data
    is_framed = any(run.recipe.view.framing != "image" for run in runs)
    packed = stage(request.source, folder, data.tree, data.image_px, resize=request.resize, measures=is_framed)
    for each in packed.rejected.first(LINES_SHOWN):
        click.echo(f"not predicted: {shown(each.file)}: {shown(for_prediction(each.reason))}", err=True)
    if len(packed.rejected) > LINES_SHOWN:
        click.echo(f"... and {len(packed.rejected) - LINES_SHOWN:,} more", err=True)
    if not request.resize and any(" pixels" in each.reason for each in packed.rejected):
        click.echo("images of another size than trained on are scaled with --resize", err=True)
    return len(packed.rejected)
