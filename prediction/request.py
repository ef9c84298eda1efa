"""What predict.py is asked for, and which options go together. Imports nothing that takes long."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import click

from galaxy_zoo.manifest import MANIFEST_NAME
from galaxy_zoo.remote import AnyPath
from pipeline.augment import FixedView
from pipeline.options import parse_views

Blend = Literal["uniform", "best-k", "weights"]


@dataclass(frozen=True, kw_only=True)
class Request:
    """The options of predict.py, by their names there; `split` counts only without `out_of_fold`."""

    runs: tuple[Path, ...]
    source: AnyPath
    out: Path
    views: int
    zooms: str
    split: str
    out_of_fold: bool
    blend: Blend
    details: Path | None
    embeddings: Path | None
    resize: bool
    ids: Path | None
    score: Path | None
    batch_size: int
    device: str
    threads: int | None
    stamps: Literal["auto", "stream", "resident"]
    stamps_folder: Path | None
    cache_folder: Path
    cache_gb: float | None

    @cached_property
    def is_images(self) -> bool:
        """Whether to predict images: a file, or a folder with neither a manifest nor tars. URLs are of shards."""
        if not isinstance(self.source, Path):
            return False
        is_folder = self.source.is_dir() and not (self.source / MANIFEST_NAME).exists()
        return self.source.is_file() or (is_folder and not any(self.source.glob("*.tar")))

    @property
    def predicted_split(self) -> str:
        """The split to predict; images are packed as test images."""
        if self.is_images:
            return "test"
        return "train" if self.out_of_fold else self.split

    @property
    def needed_splits(self) -> set[str]:
        """The splits to read: a blend is fitted on training galaxies."""
        return {self.predicted_split} if self.blend == "uniform" else {self.predicted_split, "train"}

    @cached_property
    def fixed_views(self) -> tuple[FixedView, ...]:
        """The test-time views."""
        return parse_views(self.views, self.zooms)

    def check_usage(self) -> None:
        """Check that the options go together.

        Raises:
            click.UsageError: two options exclude each other, or there are no such views.
        """
        if self.is_images and (self.out_of_fold or self.blend != "uniform"):
            raise click.UsageError(
                f"{self.source}: --out-of-fold and --blend need the shards trained on, not images"
            )
        if self.resize and not self.is_images:
            raise click.UsageError("--resize is for images; shards are resized by shard_tool pack")
        if self.out_of_fold and (self.blend != "uniform" or self.embeddings):
            raise click.UsageError("--out-of-fold goes with neither --blend nor --embeddings")
        _ = self.fixed_views
