"""The command `galaxy_zoo train`, and `python train.py` in a checkout: options, then one call into build.py."""

import math
import os
from pathlib import Path
from typing import Any

import click

from ensemble.recipe_files import Tables, parse_settings
from galaxy_zoo.console import Command, cache_options, ends_at_ctrl_c, machine_options, path_or_url, rare_option
from galaxy_zoo.fold import folds_named
from pipeline.options import stamps_options
from training.request import MOST_MEMBERS, TrainingRequest


def _list_recipes(context: click.Context, option: click.Parameter, wanted: bool) -> None:  # noqa: ARG001
    if wanted:
        with ends_at_ctrl_c():
            from ensemble.listing import table_of_recipes  # noqa: PLC0415 - reads every recipe
        click.echo(table_of_recipes())
        context.exit()


def _check_fold(context: click.Context, option: click.Parameter, name: str | None) -> str | None:  # noqa: ARG001
    try:
        if name is not None:
            folds_named(name)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return name


def parse_set(texts: tuple[str, ...], epochs: int | None = None) -> Tables:
    """Return what --set and --epochs say; raise click.BadParameter if it cannot be read."""
    try:
        return parse_settings([*texts, *([] if epochs is None else [f"training.epochs={epochs}"])])
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--set") from error


set_option = click.option(
    "--set",
    "settings",
    metavar="TABLE.KEY=VALUE",
    multiple=True,
    help="Value of a key of the recipe, as in training.batch_size=64; may be repeated.",
)


@click.command(cls=Command, context_settings={"show_default": True, "max_content_width": 100})
@click.argument("shards", type=path_or_url)
@click.option("--recipe", default="quick", help="Recipe: a name from --list, or a TOML file.")
@click.option(
    "--list",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_recipes,
    help="List all recipes and exit.",
)
@click.option(
    "--members", default=1, type=click.IntRange(1, MOST_MEMBERS), help="Number of members of the ensemble."
)
@click.option(
    "--out", type=click.Path(path_type=Path), default=None, help="Folder of the run.  [default: runs/RECIPE]"
)
@click.option(
    "--epochs",
    type=click.IntRange(1, 99_999),
    default=None,
    help="Number of epochs; short for --set training.epochs=N.  [default: the recipe's]",
)
@set_option
@click.option(
    "--fold",
    default=None,
    callback=_check_fold,
    help="Fold k/K to hold out and score on, or 'none'; 'all/K': one run for each fold.  [default: the recipe's, in "
    "fewer folds if there are fewer shards]",
)
@click.option("--seed", default=0, type=click.IntRange(0, 2**32 - 1), help="Seed of weights, order and views.")
@click.option(
    "--init-from",
    metavar="RUN",
    type=click.Path(path_type=Path),
    default=None,
    help="Earlier run whose weights the members start from; its shards and its tree may be others.",
)
@click.option("--resume", is_flag=True, help="Resume the run in --out if there is one, else begin it.")
@rare_option(
    "--no-pretrained", is_flag=True, help="Start from random weights even if the recipe asks for pretrained ones."
)
@rare_option(
    "--weights",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="File of pretrained weights for a timm network, safetensors or .pth, where there is no internet.  [default: "
    "downloaded]",
)
@rare_option(
    "--parallel",
    default="members",
    type=click.Choice(["members", "data"]),
    help="Under torchrun: each rank trains its own members, or all ranks share the batches of every member.",
)
@rare_option(
    "--stick-to-shard",
    is_flag=True,
    help="With --parallel data: each rank reads only its own part of the shards in every epoch.",
)
@rare_option(
    "--save-steps", default=0, type=click.IntRange(0, 10**9), help="Also save every this many steps; 0: do not."
)
@rare_option(
    "--save-minutes",
    default=10.0,
    type=click.FloatRange(0, 525_600),
    help="Also save every this many minutes; 0: do not.",
)
@machine_options
@stamps_options
@cache_options
def train(*, settings: tuple[str, ...], epochs: int | None, **options: Any) -> None:
    """Train an ensemble of MEMBERS members from the folder SHARDS, or from the URL of one in an object store.

    Ctrl-C saves and stops; the same command with --resume goes on at that step, on a CPU with the same bits as a
    training that was never stopped. With torchrun --max-restarts add --resume too, so that restarted ranks go on from
    the last checkpoint. Exit codes: 0 done, 1 an input or output is bad, 2 wrong usage, 130 interrupted.

    \b
    Examples:
      galaxy_zoo train shards --recipe quick --members 2 --out runs/quick
      torchrun --nproc-per-node 4 --no-python galaxy_zoo train shards --recipe ng_cnn --members 8
    """
    request = TrainingRequest(settings=parse_set(settings, epochs), **options)
    _check_usage(request)
    with ends_at_ctrl_c():
        from training import build  # noqa: PLC0415 - torch and DALI take seconds
    build.train(request)


def _check_usage(request: TrainingRequest) -> None:
    """Check options that click does not check; raise click.UsageError if they do not go together."""
    if math.isnan(request.save_minutes):
        raise click.BadParameter("give a number of minutes", param_hint="--save-minutes")
    if request.weights and (request.no_pretrained or request.init_from):
        other = "--no-pretrained" if request.no_pretrained else "--init-from"
        raise click.UsageError(f"--weights says what the members start from; omit {other}")
    if not request.stick_to_shard:
        return
    if request.parallel != "data":
        raise click.UsageError(
            "--stick-to-shard gives the shards to ranks that share batches; add --parallel data, under torchrun"
        )
    if not request.resume and int(os.environ.get("WORLD_SIZE", "1")) == 1:
        raise click.UsageError("--stick-to-shard needs several ranks: torchrun --nproc-per-node 2 train.py ...")
