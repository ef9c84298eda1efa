"""The command `galaxy_zoo views`, and `python views.py` in a checkout: options, then one call into views.py here."""

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from galaxy_zoo.console import Command, cache_options, ends_at_ctrl_c, path_or_url
from training.command import parse_set, set_option


def _check_png(ctx: click.Context, parameter: click.Parameter, out: Path) -> Path:  # noqa: ARG001
    if out.suffix.lower() != ".png":
        raise click.UsageError(f"{out}: the sheet is a PNG; give it a name that ends in .png")
    return out


@click.command(cls=Command, context_settings={"show_default": True, "max_content_width": 100})
@click.argument("shards", type=path_or_url)
@click.argument("out", type=click.Path(path_type=Path), callback=_check_png)
@click.option("--recipe", default="quick", help="Recipe: a known name or a TOML file.")
@set_option
@click.option("--count", type=click.IntRange(1, 100), default=6, help="Number of galaxies.")
@click.option(
    "--random-views",
    type=click.IntRange(1, 16),
    default=4,
    help="Number of random views of each galaxy.",
)
@click.option("--seed", type=click.IntRange(0), default=0, help="Seed of the galaxies and the views.")
@click.option("--split", default="train", help="Split to draw from.")
@click.option(
    "--size", type=click.IntRange(32, 1024), default=160, help="Side of a picture on the sheet, in pixels."
)
@click.option("--gallery", is_flag=True, help="Instead show each image in grey, cropped and at smaller sizes.")
@cache_options
def views(*, settings: tuple[str, ...], **options: Any) -> None:
    """Draw what the network of a recipe sees of galaxies in SHARDS, into the image OUT, a PNG.

    Each row is a galaxy: the image, the stamp that views are made from, the plain view, the same in grey, and random
    views as in training, made by the same code.

    \b
    Examples:
      galaxy_zoo views shards sheet.png --recipe ng_cnn --count 8
      galaxy_zoo views shards sheet.png --recipe plain --set view.crop_px=128
      galaxy_zoo views shards gallery.png --recipe ng_cnn --gallery
    """
    is_given = click.get_current_context().get_parameter_source("random_views") is ParameterSource.COMMANDLINE
    if options["gallery"] and is_given:
        raise click.UsageError("--gallery shows no random views; omit --random-views")
    with ends_at_ctrl_c():
        from evaluation.views import SheetRequest, draw  # noqa: PLC0415 - takes seconds
    draw(SheetRequest(settings=parse_set(settings), **options))
