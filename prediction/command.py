"""The command `galaxy_zoo predict`, and `python predict.py` in a checkout: options, then one call into job.py."""

from pathlib import Path
from typing import Any, get_args

import click

from galaxy_zoo.console import Command, cache_options, ends_at_ctrl_c, local_path, machine_options, path_or_url
from pipeline.options import auto_batch_size_option, stamps_options, views_option, zooms_option
from prediction.request import Blend, PredictionRequest


@click.command(cls=Command, context_settings={"show_default": True, "max_content_width": 100})
@click.argument("runs", type=local_path, nargs=-1, required=True, metavar="RUN...")
@click.argument("source", type=path_or_url, metavar="SHARDS|IMAGES")
@click.option(
    "--out", default="submission.csv", type=click.Path(path_type=Path), help="Submission to write, a CSV."
)
@views_option(default=1)
@zooms_option
@click.option("--split", default="test", type=click.Choice(["test", "train"]), help="Split to predict.")
@click.option(
    "--out-of-fold", is_flag=True, help="Predict each training galaxy with the members that have not seen it."
)
@click.option(
    "--blend",
    default="uniform",
    type=click.Choice(get_args(Blend)),
    help="Mean of all members, mean of the best k on the held-out fold, or weights fitted on that fold.",
)
@click.option(
    "--details",
    type=click.Path(path_type=Path),
    help="Parquet file to write, of votes and spreads.  [default: none]",
)
@click.option(
    "--embeddings", type=click.Path(path_type=Path), help="Parquet file to write, of embeddings.  [default: none]"
)
@click.option(
    "--resize", is_flag=True, help="Scale images that do not have the size trained on.  [default: refuse]"
)
@click.option(
    "--ids", type=click.Path(path_type=Path), help="Expected ids: a benchmark CSV, or a list.  [default: any]"
)
@click.option(
    "--truth",
    type=click.Path(path_type=Path),
    help="CSV of true votes to score against, or a zip that holds one.  [default: none]",
)
@auto_batch_size_option
@machine_options
@stamps_options
@cache_options
def predict(**options: Any) -> None:
    """Predict galaxies with all members of all RUNs, and blend members and test-time views.

    The last path is what to predict: SHARDS (a folder, or its URL in an object store) or IMAGES (an image, a folder or
    an archive) of the size that the runs were trained on.

    After a kill at any moment the same command goes on where it stopped. torchrun shares the work among its
    processes. Exit codes: 0 done, 1 an input or output is bad or an image could not be used, 2 wrong usage.

    \b
    Examples:
      galaxy_zoo predict runs/quick shards --out submission.csv --views 16
      galaxy_zoo predict runs/a runs/b shards --blend best-k
      galaxy_zoo predict runs/quick galaxy.jpg --out votes.csv
    """
    request = PredictionRequest(**options)
    request.check()
    with ends_at_ctrl_c():
        from prediction import job  # noqa: PLC0415 - takes seconds
    job.predict(request)
