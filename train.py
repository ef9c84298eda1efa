"""Train an ensemble from shards.

    python train.py shards --recipe quick --members 2 --out runs/quick

All members learn from one stream: an image is read and decoded once, and each member gets its own view of it. This is
the command line; training/build.py does the work.
"""

import math
import os
from pathlib import Path
from typing import Any

import click

from galaxy_zoo.console import Command, cache_options, ends_at_ctrl_c, machine_options, path_or_url
from galaxy_zoo.fold import folds_named
from pipeline.options import stamps_options
from training.request import MOST_MEMBERS, TrainingRequest


def _list_recipes(context: click.Context, option: click.Parameter, wanted: bool) -> None:  # noqa: ARG001
    if wanted:
        with ends_at_ctrl_c():
            from ensemble.listing import table_of_recipes  # noqa: PLC0415 - reads every recipe
        click.echo(table_of_recipes(Path(__file__).parent / "benchmarks" / "results"))
        context.exit()


def _check_fold(context: click.Context, option: click.Parameter, name: str | None) -> str | None:  # noqa: ARG001
    try:
        if name is not None:
            folds_named(name)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return name


@click.command(cls=Command, context_settings={"show_default": True, "max_content_width": 100})
@click.argument("shards", type=path_or_url)
@click.option("--recipe", default="quick", help="A name of --list, or a TOML file.")
@click.option(
    "--list", is_flag=True, is_eager=True, expose_value=False, callback=_list_recipes, help="Show all recipes."
)
@click.option("--members", default=1, type=click.IntRange(1, MOST_MEMBERS), help="Models in the ensemble.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=None, help="The run's folder.  [default: runs/RECIPE]"
)
@click.option("--epochs", type=click.IntRange(1, 99_999), default=None, help="Instead of the recipe's.")
@click.option(
    "--fold",
    default=None,
    callback=_check_fold,
    help="Hold out fold k/K to score on, or 'none'; 'all/K': train a run for each.  [default: the recipe's, in fewer "
    "folds where there are fewer shards]",
)
@click.option("--seed", default=0, type=click.IntRange(0, 2**32 - 1), help="Of weights, order and views.")
@click.option("--resume", is_flag=True, help="Go on with the run in --out if there is one, else begin it.")
@click.option(
    "--no-pretrained", is_flag=True, help="Start from random weights even if the recipe has pretrained ones."
)
@click.option(
    "--parallel",
    default="members",
    type=click.Choice(["members", "data"]),
    help="Under torchrun: each rank has members of its own, or all share the batches of every member.",
)
@click.option(
    "--stick-to-shard",
    is_flag=True,
    help="With --parallel data: each rank reads only its part of the shards, in every epoch.",
)
@click.option(
    "--save-steps", default=0, type=click.IntRange(0, 10**9), help="Save also after so many steps; 0: do not."
)
@click.option(
    "--save-minutes", default=10.0, type=click.FloatRange(0, 525_600), help="Save also after so long; 0: do not."
)
@machine_options
@stamps_options
@cache_options
def main(**options: Any) -> None:
    """Train an ensemble of MEMBERS models from the folder SHARDS, or from the URL of one in an object store.

    Ctrl-C saves and stops; the same command with --resume goes on at that step, with the same result as a training
    that was never stopped. torchrun --max-restarts needs --resume too: ranks that are started again then go on from
    the last checkpoint. Exit codes: 0 done, 1 an input or output is bad, 2 wrong usage, 130 interrupted.

    \b
    Examples:
      python train.py shards --recipe quick --members 2 --out runs/quick
      torchrun --nproc-per-node 4 train.py shards --recipe ng_cnn --members 8
    """
    request = TrainingRequest(**options)
    _check_usage(request)
    with ends_at_ctrl_c():
        from training.build import train  # noqa: PLC0415 - torch and DALI take seconds
    train(request)


def _check_usage(request: TrainingRequest) -> None:
    """Raise click.UsageError for options that do not go together, or that click lets pass."""
    if math.isnan(request.save_minutes):
        raise click.BadParameter("give a number of minutes", param_hint="--save-minutes")
    if not request.stick_to_shard:
        return
    if request.parallel != "data":
        raise click.UsageError(
            "--stick-to-shard gives the shards to ranks that share batches; add --parallel data, under torchrun"
        )
    if not request.resume and int(os.environ.get("WORLD_SIZE", "1")) == 1:
        raise click.UsageError("--stick-to-shard needs several ranks: torchrun --nproc-per-node 2 train.py ...")


if __name__ == "__main__":
    main()
