"""The options of predict.py, and which of them go together. Imports nothing slow."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import click

from galaxy_zoo.files import check_outputs
from galaxy_zoo.manifest import MANIFEST_NAME
from galaxy_zoo.objects import OBJECTS_NAME
from galaxy_zoo.remote import AnyPath
from pipeline.options import ViewsRequest

Blend = Literal["uniform", "best-k", "weights"]


@dataclass(frozen=True, kw_only=True)
class PredictionRequest(ViewsRequest):
    """The options of predict.py, by their names there; `out_of_fold` overrides `split`."""

    runs: tuple[Path, ...]
    source: AnyPath
    out: Path
    split: str
    out_of_fold: bool
    blend: Blend
    details: Path | None
    embeddings: Path | None
    resize: bool
    ids: Path | None
    truth: Path | None
    batch_size: int | None

    @cached_property
    def is_images(self) -> bool:
        """Whether to predict images: a file, or a folder with neither a manifest nor tars. URLs are always shards."""
        if not isinstance(self.source, Path):
            return False
        is_folder = self.source.is_dir() and not (self.source / MANIFEST_NAME).exists()
        return self.source.is_file() or (is_folder and not any(self.source.glob("*.tar")))

    @property
    def predicted_split(self) -> str:
        """Split to predict; images are packed as test images."""
        if self.is_images:
            return "test"
        return "train" if self.out_of_fold else self.split

    @property
    def needed_splits(self) -> set[str]:
        """Splits to read; a blend is fitted on training galaxies."""
        return {self.predicted_split} if self.blend == "uniform" else {self.predicted_split, "train"}

    def check(self) -> None:
        """Check that the options go together, and that no output is an input.

        Raises:
            click.UsageError: two options exclude each other, or there are no such views.
            OutputError: an output is an input, or two outputs are the same file.
        """
        if self.is_images and (self.source / "run.json").exists():
            raise click.UsageError(
                f"{self.source} is a run; the last path names what to predict: SHARDS or IMAGES"
            )
        if self.is_images and (self.out_of_fold or self.blend != "uniform"):
            raise click.UsageError(
                f"{self.source}: --out-of-fold and --blend need the shards trained on, not images"
            )
        if isinstance(self.source, Path) and not self.source.exists():
            raise click.UsageError(f"{self.source}: no such file or folder; the last path is what to predict")
        if self.resize and not self.is_images:
            raise click.UsageError("--resize is for images; shards are resized by shard_tool pack")
        if self.out_of_fold and (self.blend != "uniform" or self.embeddings):
            raise click.UsageError("--out-of-fold goes with neither --blend nor --embeddings")
        _ = self.fixed_views
        files = (self.out, parts_folder(self.out), self.details, self.embeddings)
        outputs = [path for path in (*files, self.cache_folder, self.stamps_folder) if path]
        source = files_of_images(self.source) if self.is_images else files_of_set(self.source)
        tables = [path for path in (self.ids, self.truth) if path]
        check_outputs(outputs, [*self.runs, self.source, *files_of_runs(self.runs), *source, *tables])


def parts_folder(out: Path) -> Path:
    """Return the folder of the finished parts of a prediction that writes to `out`."""
    return out.with_name(f"{out.name}.parts")


def files_of_runs(folders: Iterable[Path]) -> list[Path]:
    """Return the files of runs, which only train.py may replace."""
    return [
        path for folder in folders for path in (folder / "run.json", folder / "lock", *folder.glob("member-*/*"))
    ]


def files_of_set(folder: AnyPath) -> list[Path]:
    """Return the files of a set of shards; none for an object store, where no output goes."""
    if not isinstance(folder, Path):
        return []
    return [folder / MANIFEST_NAME, folder / OBJECTS_NAME, *folder.glob("*.tar"), *folder.glob("*.idx")]


def files_of_images(path: AnyPath) -> list[Path]:
    """Return the images at a path, without tables in the folder, which an earlier prediction may have written."""
    if not isinstance(path, Path):
        return []
    files = path.rglob("*") if path.is_dir() else [path]
    return [each for each in files if each.suffix not in {".csv", ".parquet"} and not each.is_dir()]
