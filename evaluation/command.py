"""The command `galaxy_zoo evaluate`, and `python evaluate.py` in a checkout: options, then one call into collect.py."""

from pathlib import Path
from typing import Any

import click

from evaluation.extra import check_extra
from evaluation.request import ReportRequest
from galaxy_zoo.console import Command, cache_options, ends_at_ctrl_c, local_path, machine_options, path_or_url
from pipeline.options import batch_size_option, stamps_options, views_option, zooms_option


@click.command(cls=Command, context_settings={"show_default": True, "max_content_width": 100})
@click.argument("runs", type=local_path, nargs=-1, required=True, metavar="RUN...")
@click.argument("shards", type=path_or_url)
@click.option("--out", default="report", type=click.Path(path_type=Path), help="Folder of the report.")
@click.option(
    "--split",
    default="train",
    type=click.Choice(["train", "test"]),
    help="Split to evaluate; of train, only galaxies that no run has seen.",
)
@click.option(
    "--out-of-fold",
    is_flag=True,
    help="RUNs are folds (trained with --fold all/K): each galaxy by the one that held it out.",
)
@click.option(
    "--truth", type=click.Path(path_type=Path), help="CSV of true votes.  [default: votes in the shards]"
)
@views_option(default=4)
@zooms_option
@click.option(
    "--cams",
    default=6,
    type=click.IntRange(0, 37),
    help="Number of galaxies with maps of what the network looks at.",
)
@click.option(
    "--galaxy",
    "galaxies",
    multiple=True,
    help="Id of a galaxy to show maps of; repeat for several.  [default: typical ones]",
)
@click.option(
    "--layer",
    "layers",
    multiple=True,
    help="Layer to show maps of; repeat for several.  [default: first two and last convolution]",
)
@click.option(
    "--points",
    default=1200,
    type=click.IntRange(0, 5000),
    help="Number of galaxies in the embedding; 0: no embedding.",
)
@click.option("--embedding", default="all", help="Methods, some of pca,tsne,umap; all: those installed.")
@batch_size_option
@machine_options
@stamps_options
@cache_options
def evaluate(**options: Any) -> None:
    """Evaluate RUNs on galaxies of the folder (or URL) SHARDS that none of them has seen, and write a report.

    OUT/report.html is self-contained: open it from the disk, or mail it. It holds small pictures of galaxies, so
    publish it only if the images may be published. OUT/tables and OUT/tables.json hold its tables.

    \b
    Examples:
      galaxy_zoo evaluate runs/quick runs/ng_cnn shards --out report
      galaxy_zoo evaluate runs/quick shards --split test --truth synthetic_test_truth.csv --views 16
      galaxy_zoo evaluate runs/quick/fold-* shards --out-of-fold
    """
    request = ReportRequest(**options)
    request.check()
    check_extra()
    with ends_at_ctrl_c():
        from evaluation import collect  # noqa: PLC0415 - takes seconds
    collect.evaluate(request)
