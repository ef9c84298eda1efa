"""What `pack` and `append` are both told about SOURCE: the options, and what they say together."""

import math
from dataclasses import dataclass

import click

from galaxy_zoo.console import options, path_or_url
from galaxy_zoo.remote import AnyPath
from shard_tool.images.fits import Stretch
from shard_tool.shards.cluster import scheduler_option
from shard_tool.source.options import CatalogueOptions

DEFAULT_SOFTENING = 10.0


@dataclass(frozen=True)
class SourceOptions:
    """The values of the options below."""

    labels: tuple[AnyPath, ...]
    catalogue: AnyPath | None
    id_column: str | None
    file_column: str
    missing_votes: bool
    counts: bool
    shards: int | None
    fits_range: tuple[float, float] | None
    fits_softening: float
    no_decode: bool
    workers: int | None
    scheduler: str | None
    overwrite: bool
    resume: bool
    allow_rejects: int

    def check(self) -> None:
        """Check that they fit together.

        Raises:
            click.UsageError: they do not.
        """
        if self.overwrite and self.resume:
            raise click.UsageError("--overwrite and --resume exclude each other")
        if self.catalogue and self.labels:
            raise click.UsageError("--catalogue and --labels exclude each other")
        if not self.catalogue and (self.id_column or self.file_column != "file"):
            raise click.UsageError("--id-column and --file-column need --catalogue")
        if self.workers and self.scheduler:
            raise click.UsageError("--workers and --scheduler exclude each other")

    @property
    def catalogue_options(self) -> CatalogueOptions | None:
        """The catalogue, None without one."""
        return CatalogueOptions(self.catalogue, self.id_column, self.file_column) if self.catalogue else None

    @property
    def stretch(self) -> Stretch | None:
        """The stretch of FITS images, None without one.

        Raises:
            click.UsageError: the range is none.
        """
        if self.fits_range is None:
            return None
        black, white = self.fits_range
        if not (math.isfinite(white - black) and math.isfinite(self.fits_softening) and black < white):
            raise click.UsageError("--fits-range takes two finite numbers, the lower one first")
        return Stretch(black, white, self.fits_softening)


label_options = options(
    click.option(
        "--labels",
        type=path_or_url,
        multiple=True,
        help="Table of votes: a CSV, or a zip that holds one. Several are given one by one and joined by id.  "
        "[default: training_solutions*.csv in SOURCE]",
    ),
    click.option(
        "--catalogue",
        type=path_or_url,
        help="CSV or Parquet of ids, files relative to SOURCE, and votes, instead of --labels.  [default: none]",
    ),
    click.option("--id-column", help="Column of the ids in the catalogue.  [default: the tree's]"),
    click.option("--file-column", default="file", show_default=True, help="Column of the files in the catalogue."),
    click.option(
        "--missing-votes",
        is_flag=True,
        help="Take absent columns and cells as missing votes.  [default: an error]",
    ),
    click.option(
        "--counts", is_flag=True, help="The tables hold numbers of voters.  [default: fractions of them]"
    ),
    click.option(
        "--shards",
        type=click.IntRange(1, 999_999),
        help="Number of (new) training shards.  [default: a multiple of 10, about 64 MB or at most 20,000 samples "
        "each]",
    ),
)

fits_options = options(
    click.option(
        "--fits-range",
        type=(float, float),
        help="Values of FITS images that become black and as bright as can be.  [default: FITS images are refused]",
    ),
    click.option(
        "--fits-softening",
        type=click.FloatRange(0, min_open=True),
        default=DEFAULT_SOFTENING,
        show_default=True,
        help="Softening of the asinh stretch of FITS images; more shows fainter parts.",
    ),
)

run_options = options(
    click.option(
        "--no-decode",
        is_flag=True,
        help="Read only the headers of JPEGs: faster, but a damaged image stays unnoticed, and the channel "
        "statistics come from some 500 images.  [default: decode all]",
    ),
    click.option("--workers", type=click.IntRange(1), help="Processes.  [default: all cores]"),
    scheduler_option,
    click.option("--overwrite", is_flag=True, help="Throw away what is there of this command.  [default: refuse]"),
    click.option("--resume", is_flag=True, help="Finish what was interrupted.  [default: refuse]"),
    click.option(
        "--allow-rejects",
        type=click.IntRange(0),
        default=0,
        show_default=True,
        help="Exit 0 with up to this many rejected images and rows.",
    ),
)
