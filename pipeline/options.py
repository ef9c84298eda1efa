"""Options of the commands that load galaxies. Imports neither torch nor DALI."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import click

from galaxy_zoo.console import F, options, rare_option
from pipeline.augment import FixedView, rotations_and_flips

MOST_VIEWS, MOST_ZOOM = 1024, 10
"""Limits beyond any use: the winner of the challenge used 60 views and zooms up to 1.2."""
LARGEST_BATCH = 2**16

StampMode = Literal["auto", "stream", "resident"]


@dataclass(frozen=True, kw_only=True)
class LoadingRequest:
    """The options of every command that loads galaxies, by their names there."""

    device: Literal["auto", "cpu", "cuda"]
    workers: int | None
    stamps: StampMode
    stamps_folder: Path | None
    cache_folder: Path
    cache_gb: float | None


@dataclass(frozen=True, kw_only=True)
class ViewsRequest(LoadingRequest):
    """The options of every command that predicts test-time views, by their names there."""

    views: int
    zooms: str

    @cached_property
    def fixed_views(self) -> tuple[FixedView, ...]:
        """Test-time views."""
        return parse_views(self.views, self.zooms)


stamps_options = options(
    rare_option(
        "--stamps",
        default="auto",
        type=click.Choice(get_args(StampMode)),
        help="Keep decoded stamps in memory, or decode every time; auto: keep them if they are used again and fit.",
    ),
    rare_option(
        "--stamps-folder",
        default=None,
        type=click.Path(path_type=Path),
        help="Folder to save kept stamps in, and to load them from at the next start.  [default: none]",
    ),
)
"""The parameters `stamps` and `stamps_folder`, for a `stamps.StampPolicy`."""

zooms_option = click.option("--zooms", default="1.0", help="Zooms of the views, such as 0.83,1,1.2.")
batch_size_option = rare_option(
    "--batch-size", default=128, type=click.IntRange(1, LARGEST_BATCH), help="Number of galaxies in a batch."
)


class AutoRange(click.IntRange):
    """An integer of a range, or auto, which becomes None."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return an int or None."""
        return None if value == "auto" else super().convert(value, param, ctx)


auto_batch_size_option = rare_option(
    "--batch-size",
    default="auto",
    type=AutoRange(1, LARGEST_BATCH),
    help="Number of galaxies in a batch; auto: 128 on a CPU, as many as there is memory for on a GPU.",
)


def views_option(default: int) -> Callable[[F], F]:
    """Return the option --views of a command that predicts."""
    return click.option(
        "--views",
        default=default,
        type=int,
        help="Number of test-time views: as many as zooms, or a multiple of twice that (rotations x zooms x flip).",
    )


def parse_views(count: int, zooms: str = "1.0") -> tuple[FixedView, ...]:
    """Return the test-time views that --views and --zooms ask for.

    Raises:
        click.BadParameter: there are no such views.
    """
    try:
        numbers = [float(zoom) for zoom in zooms.split(",")]
    except ValueError as error:
        raise click.BadParameter(f"{zooms!r}: give numbers, as in 0.83,1,1.2", param_hint="--zooms") from error
    if count > MOST_VIEWS:
        raise click.BadParameter(f"{count} views: give at most {MOST_VIEWS}", param_hint="--views")
    if not all(1 / MOST_ZOOM <= zoom <= MOST_ZOOM for zoom in numbers):  # true for NaN too
        raise click.BadParameter(f"{zooms}: give zooms from {1 / MOST_ZOOM} to {MOST_ZOOM}", param_hint="--zooms")
    try:
        return rotations_and_flips(count, numbers)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--views") from error
