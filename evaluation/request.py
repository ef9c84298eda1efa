"""The options of evaluate.py, and which of them go together. Imports nothing slow."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import click

from evaluation.extra import METHODS, known_methods
from galaxy_zoo.files import check_outputs
from galaxy_zoo.remote import AnyPath
from pipeline.options import ViewsRequest
from prediction.request import files_of_runs, files_of_set

PAGE_NAME, TABLES_NAME, JSON_NAME = "report.html", "tables", "tables.json"


@dataclass(frozen=True, kw_only=True)
class ReportRequest(ViewsRequest):
    """The options of evaluate.py, by their names there.

    layers, galaxies: what to explain; empty: `attention` chooses. embedding: names of methods, or "all".
    """

    runs: tuple[Path, ...]
    shards: AnyPath
    out: Path
    split: str
    out_of_fold: bool
    truth: Path | None
    cams: int
    galaxies: tuple[str, ...]
    layers: tuple[str, ...]
    points: int
    embedding: str
    batch_size: int

    @cached_property
    def methods(self) -> tuple[str, ...]:
        """Embedding methods."""
        names = tuple(known_methods()) if self.embedding == "all" else tuple(self.embedding.split(","))
        for name in names:
            if name not in METHODS:
                raise click.BadParameter(
                    f"unknown method {name!r}; known: {', '.join(METHODS)}", param_hint="--embedding"
                )
            if name not in known_methods():
                raise click.BadParameter(
                    f"{name} needs a package; install it with: pip install umap-learn", param_hint="--embedding"
                )
        return names

    def check(self) -> None:
        """Check that the options go together, and that no output is an input.

        Raises:
            click.UsageError: two options exclude each other, or there are no such views or methods.
            OutputError: an output is an input.
        """
        if self.out_of_fold and self.split != "train":
            raise click.UsageError("--out-of-fold evaluates training galaxies; omit --split test")
        if self.out_of_fold and (self.galaxies or self.layers):
            raise click.UsageError("--out-of-fold shows no maps; omit --galaxy and --layer")
        _ = self.fixed_views, self.methods
        folders = [path for path in (self.out, self.cache_folder, self.stamps_folder) if path]
        outputs = [*folders, self.out / PAGE_NAME, self.out / JSON_NAME, *(self.out / TABLES_NAME).glob("*.csv")]
        truth = [self.truth] if self.truth else []
        inputs = [*self.runs, self.shards, *files_of_runs(self.runs), *files_of_set(self.shards), *truth]
        check_outputs(outputs, inputs)
