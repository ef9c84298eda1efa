"""Train an ensemble from shards.

    python train.py shards --recipe quick --members 2 --out runs/quick

Options -> recipe -> loaders -> members -> loop. All members learn from one stream: an image is read and decoded
once and each member gets its own view of it.
"""

if __name__ == "__main__":  # what is below takes seconds
    from galaxy_zoo.starting import end_at_ctrl_c

    end_at_ctrl_c()

from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import click
import numpy as np
import torch
from numpy.typing import NDArray

from ensemble.listing import table_of_recipes
from ensemble.recipe import load_recipe
from galaxy_zoo.console import INTERRUPTED, Command, cache_options, machine_options, path_or_url
from galaxy_zoo.errors import RecipeError, RunError, ShardError
from galaxy_zoo.files import sha256_of
from galaxy_zoo.fold import Fold, folds_named
from galaxy_zoo.manifest import MANIFEST_NAME, Manifest, read_manifest
from galaxy_zoo.remote import AnyPath
from galaxy_zoo.strict import nearest
from galaxy_zoo.votes import classes_by, rmse
from pipeline.augment import FixedViews, RandomViews, Views, member_seeds
from pipeline.cache import Cache, ShardSet, open_set
from pipeline.device import choose_device
from pipeline.groups import Opened, open_all, open_groups
from pipeline.loader import Decoding, Loader, Sampling
from pipeline.options import stamps_options
from pipeline.order import class_shares
from pipeline.shards import Samples
from pipeline.stamps import StampMode, StampPolicy
from training.checkpoint import common_positions
from training.figures import draw_curves, galaxies
from training.interrupt import Interrupt
from training.logbook import Logbook
from training.loop import Held, Pauses, Training, train_epoch
from training.member import Member
from training.meter import Meter
from training.ranks import ALONE, Parallel, Ranks, started_by_torchrun
from training.run import RUN_NAME, Data, Run, current_versions, load_run

SHOWN_GALAXIES = 6


@dataclass(frozen=True)
class Machine:
    """What trains, and how often it saves. device: of this rank."""

    ranks: Ranks
    device: torch.device
    threads: int | None
    stamps: StampPolicy
    save_steps: int
    save_minutes: float


def _list_recipes(context: click.Context, option: click.Parameter, wanted: bool) -> None:  # noqa: ARG001
    if wanted:
        click.echo(table_of_recipes(Path(__file__).parent / "benchmarks" / "results"))
        context.exit()


@click.command(cls=Command, context_settings={"show_default": True, "max_content_width": 100})
@click.argument("shards", type=path_or_url)
@click.option("--recipe", "recipe_name", default="quick", help="A name of --list, or a TOML file.")
@click.option(
    "--list", is_flag=True, is_eager=True, expose_value=False, callback=_list_recipes, help="Show all recipes."
)
@click.option("--members", default=1, type=click.IntRange(1, 99), help="Models in the ensemble.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=None, help="The run's folder.  [default: runs/RECIPE]"
)
@click.option("--epochs", type=click.IntRange(1), default=None, help="Instead of the recipe's.")
@click.option(
    "--fold",
    "fold_name",
    default=None,
    help="Hold out fold k/K to score on, or 'none'; 'all/K': train a run for each.  [default: the recipe's]",
)
@click.option("--seed", default=0, type=click.IntRange(0), help="Of weights, order and views.")
@click.option("--resume", is_flag=True, help="Go on with the run in --out where there is one, else begin it.")
@click.option(
    "--no-pretrained", is_flag=True, help="Start from random weights where the recipe has pretrained ones."
)
@click.option(
    "--parallel",
    default="members",
    type=click.Choice(get_args(Parallel)),
    help="Under torchrun: each rank has members of its own, or all share the batches of every member.",
)
@click.option(
    "--stick-to-shard",
    is_flag=True,
    help="With --parallel data: each rank reads only its part of the shards, in every epoch.",
)
@click.option("--save-steps", default=0, type=click.IntRange(0), help="Save also after so many steps; 0: do not.")
@click.option("--save-minutes", default=10.0, type=click.FloatRange(0), help="Save also after so long; 0: do not.")
@machine_options
@stamps_options
@cache_options
def main(
    *,
    shards: AnyPath,
    recipe_name: str,
    members: int,
    out: Path | None,
    epochs: int | None,
    fold_name: str | None,
    seed: int,
    resume: bool,
    no_pretrained: bool,
    parallel: Parallel,
    stick_to_shard: bool,
    save_steps: int,
    save_minutes: float,
    device: str,
    threads: int | None,
    stamps: StampMode,
    stamps_folder: Path | None,
    cache_folder: Path,
    cache_gb: float | None,
) -> None:
    """Train an ensemble of MEMBERS models from the folder SHARDS, or from the URL of one in an object store.

    Ctrl-C saves and stops; the same command with --resume goes on at that step, with the same result as a training
    that was never stopped. torchrun --max-restarts needs --resume too: ranks that are started again then go on from
    the last checkpoint. Exit codes: 0 done, 1 an input or output is bad, 2 wrong usage, 130 interrupted.

    \b
    Examples:
      python train.py shards --recipe quick --members 2 --out runs/quick
      torchrun --nproc-per-node 4 train.py shards --recipe ng_cnn --members 8
    """
    if stick_to_shard and parallel != "data":
        raise click.UsageError(
            "--stick-to-shard gives the shards to ranks that share batches; add --parallel data, under torchrun"
        )
    recipe = load_recipe(recipe_name)
    if epochs:
        recipe = recipe.with_epochs(epochs)
    folds, where = _parse_folds(fold_name or recipe.training.fold), choose_device(device)
    policy = StampPolicy(stamps, folder=stamps_folder, reused=recipe.training.epochs > 1)
    with open_set(shards, Cache(cache_folder, cache_gb)) as source, started_by_torchrun(where, parallel) as ranks:
        manifest = read_manifest(source.folder)
        recipe = recipe.with_statistics(manifest.channel_mean, manifest.channel_std)
        source.need_objects(recipe.view)
        threads, here = ranks.threads(threads), ranks.device(where)
        machine = Machine(ranks, here, threads, policy, save_steps, save_minutes)
        for name, fold in folds.items():
            folder = out or Path("runs") / recipe.name
            if len(folds) > 1:
                folder /= f"fold-{name.replace('/', '-of-')}"
            run = Run(
                folder=folder,
                recipe=recipe,
                members=members,
                seed=seed,
                fold=name,
                pretrained=not no_pretrained,
                data=_describe(source.folder, manifest),
                versions=current_versions(),
                shard_groups=ranks.world_size if stick_to_shard else 0,
            )
            _make_run(run, source, fold, machine, resume=ranks.agree(resume and (folder / RUN_NAME).exists()))


def _make_run(run: Run, source: ShardSet, fold: Fold | None, machine: Machine, *, resume: bool) -> None:
    """Train a run, or go on with it, and say what came of it."""
    if machine.ranks.world_size > run.members and not machine.ranks.shares_data:
        raise RunError(
            f"{machine.ranks.world_size} ranks for {run.members} members; start fewer, or --parallel data"
        )
    if resume:
        saved = load_run(run.folder)
        if run.shard_groups and saved.shard_groups:  # as it was begun with, however many ranks there are now
            run = replace(run, shard_groups=saved.shard_groups)
        run.check_same(saved)
    elif machine.ranks.is_first:
        run.check_free()
    machine.ranks.check_same(run.data.manifest_sha256, f"the manifest of {source.path}")
    opened = open_own(run, source, fold, machine.ranks, resume=resume)
    _check_votes(opened, source, machine.ranks, has_fold=fold is not None)
    finished = _train(run, opened, machine, resume=resume)
    if not finished:
        click.echo(f"stopped and saved; go on with the same command and --resume (--out {run.folder})", err=True)
        raise SystemExit(INTERRUPTED)
    if machine.ranks.is_first:
        click.echo(f"trained {run.members} x {run.recipe.name}: {run.folder}")


def open_own(run: Run, source: ShardSet, fold: Fold | None, ranks: Ranks, *, resume: bool) -> Opened:
    """Open what this rank reads.

    Raises:
        UsageError: this is the only rank, so all shards are its own.
        RunError: there are more ranks than groups of shards.
    """
    if not run.shard_groups:
        return open_all(source, "train", fold=fold)
    if run.shard_groups == 1 and not resume:
        raise click.UsageError("--stick-to-shard needs several ranks: torchrun --nproc-per-node 2 train.py ...")
    if ranks.world_size > run.shard_groups:
        raise RunError(
            f"{ranks.world_size} ranks for the {run.shard_groups} groups of shards that the run was begun with; "
            f"start at most {run.shard_groups}, or begin anew with another --out"
        )
    rank, world_size = ranks.rank, ranks.world_size
    return open_groups(source, "train", fold=fold, num_groups=run.shard_groups, rank=rank, world_size=world_size)


def _check_votes(opened: Opened, source: ShardSet, ranks: Ranks, *, has_fold: bool) -> None:
    """Check that there are votes to learn from and to score by, on whichever rank.

    Raises:
        ShardError: there are none.
    """
    for some in (opened.samples, opened.held_out) if has_fold else (opened.samples,):
        if not any(ranks.gather(some is not None and not np.isnan(some.votes).all())):
            raise ShardError(f"{source.path}: no votes at all; pack the images with their labels")


def _train(run: Run, opened: Opened, machine: Machine, *, resume: bool) -> bool:
    """Build loaders and members and train; false if interrupted."""
    recipe, ranks = run.recipe, machine.ranks
    numbers = ranks.members(run.members)
    seeds = member_seeds(run.seed, numbers)
    with ExitStack() as stack:
        samples, views = opened.samples, RandomViews(recipe.view, seeds)
        shares = _balance(run, samples, quiet=not ranks.is_first)
        load = _loaders(machine, batch_size=recipe.training.batch_size)
        batches = stack.enter_context(load(samples, views, seed=run.seed, shares=shares, groups=opened.groups))
        held = None
        if run.fold != "none":
            fixed, plain = FixedViews(recipe.view), None
            if (ours := opened.held_out) is not None:
                plain = stack.enter_context(load(ours, fixed, shuffle=False, groups=opened.held_groups))
            held = Held(plain, run.data.tree, _baseline_rmse(opened, ranks), ranks)
        goes_on = resume and bool(common_positions([run.member_folder(number) for number in numbers]))
        build = partial(
            _build_members, run, seeds, len(batches), machine, pretrained=run.pretrained and not goes_on
        )
        members = build([0] * len(seeds))
        if ranks.is_first:
            stack.enter_context(run.locked())
            if not resume:
                run.create()
        ranks.wait()
        meter = Meter(numbers, machine.device, ranks)
        interrupt = stack.enter_context(Interrupt())
        pauses = Pauses(interrupt, machine.save_steps, 60 * machine.save_minutes)
        if recipe.training.trials > 1 and not goes_on:
            best = best_trials(build, len(seeds), recipe.training.trials, batches, held, meter, interrupt)
            if best is None:
                return False
            members = build(best)
        training = Training(run, numbers, members, batches, held, meter, pauses, ranks)
        start, tally = training.resume()
        if ranks.writes:
            training.books = [
                stack.enter_context(closing(Logbook(run.member_folder(m), epochs_done=start.epoch)))
                for m in numbers
            ]
        done = start.epoch * len(batches) + start.step
        stack.enter_context(meter.bar(recipe.training.epochs * len(batches), done=done))
        finished = training.loop(start, tally)
        if finished:
            _draw(training)
        return finished


def _loaders(machine: Machine, *, batch_size: int) -> Callable[..., Loader]:
    """Loaders for this rank: of its share of every batch, or of whole batches where it has members of its own."""
    ranks = machine.ranks
    parts = ranks.world_size if ranks.shares_data else 1
    if batch_size < parts:
        raise RunError(f"a batch of {batch_size} samples is too small for {parts} ranks; start fewer")
    decoding = Decoding(device=machine.device, num_threads=machine.threads, stamps=machine.stamps)
    sampling = Sampling(batch_size=batch_size, rank=ranks.rank if ranks.shares_data else 0, world_size=parts)

    def load(samples: Samples, views: Views, **changes: Any) -> Loader:
        return Loader(samples, views, replace(sampling, **changes), decoding)

    return load


def _build_members(
    run: Run, seeds: tuple[int, ...], steps: int, machine: Machine, trials: list[int], *, pretrained: bool
) -> list[Member]:
    """The members with these seeds, each with the initial weights of one of its trials."""
    build = partial(Member, run.recipe, run.data.tree, steps_per_epoch=steps, device=machine.device)
    return [
        build(seed=seed, trial=trial, pretrained=pretrained, ranks=machine.ranks)
        for seed, trial in zip(seeds, trials, strict=True)
    ]


def best_trials(
    build: Callable[[list[int]], list[Member]],
    num_members: int,
    trials: int,
    batches: Loader,
    held: Held | None,
    meter: Meter,
    interrupt: Interrupt,
) -> list[int] | None:
    """For each member, which of its initial weights score best after one epoch; None if interrupted."""
    if held is None:
        raise RunError("the recipe chooses initial weights by their score, which needs a fold: --fold k/K")
    found = []
    for trial in range(trials):
        members = build([trial] * num_members)
        meter.begin_epoch(f"trial {trial + 1}/{trials}")
        if not train_epoch(members, batches.epoch(0), meter, Pauses(interrupt), held.ranks):
            return None
        found.append([each["rmse"] for each in held.score(members)])
    return [int(best) for best in np.argmin(found, axis=0)]


def _draw(training: Training) -> None:
    """Draw the curves of each member, and show TensorBoard a few galaxies of the fold with what it says of them."""
    run = training.run
    for number, member, book in zip(training.numbers, training.members, training.books, strict=False):
        draw_curves(book.lines(), run.member_folder(number) / "curves.png")
        if training.held and training.held.batches is not None:
            batch = next(batch for batch in training.held.batches.epoch(0) if len(batch.ids))
            images, votes = batch.views[0][:SHOWN_GALAXIES], batch.votes[:SHOWN_GALAXIES]
            plain = images if images.ndim == 4 else images[:, 0]  # of several turns the first
            pixels = plain.permute(0, 2, 3, 1).float().cpu().numpy()
            pixels = pixels * np.array(run.recipe.view.std) + np.array(run.recipe.view.mean)
            predicted = member.predict(images).cpu().numpy()
            figure = galaxies(pixels, predicted, votes.cpu().numpy(), run.data.tree)
            book.show("galaxies", figure, run.recipe.training.epochs)


def _baseline_rmse(opened: Opened, ranks: Ranks) -> float:
    """The score of predicting the mean votes of the training samples, those of all ranks."""
    readers, votes = ranks if opened.groups else ALONE, opened.samples.votes
    present = ~np.isnan(votes)
    sums = np.stack([present.sum(axis=0), np.where(present, votes, 0).sum(axis=0, dtype=np.float64)])
    count, total = readers.sum(torch.from_numpy(sums)).numpy()
    held = np.concatenate(readers.gather(votes[:0] if opened.held_out is None else opened.held_out.votes))
    return rmse(np.broadcast_to(total / np.maximum(count, 1), held.shape), held)


def _balance(run: Run, samples: Samples, *, quiet: bool) -> NDArray[np.float64] | None:
    """How often each sample comes in an epoch, where the recipe asks for a balance; says so by answer.

    Raises:
        RecipeError: the tree has no such question, or the rank has not the votes of all samples.
    """
    training, tree = run.recipe.training, run.data.tree
    name, names = training.balance, [question.name for question in tree.questions]
    if not name:
        return None
    if run.shard_groups:
        raise RecipeError(
            f"recipe {run.recipe.name}: [training] balance takes the votes of all galaxies, which no rank has "
            "with --stick-to-shard; train without that, or with a recipe that balances nothing"
        )
    if name not in names:
        hint = nearest(name, names)
        raise RecipeError(
            f"recipe {run.recipe.name}: [training] balance: no question {name!r} in {tree.name}{hint}"
        )
    classes = classes_by(samples.votes, tree, names.index(name))
    shares = class_shares(classes, training.balance_strength)
    for index, answer in [*enumerate(tree.questions[names.index(name)].answers), (-1, "unknown")]:
        if (count := int((classes == index).sum())) and not quiet:
            often = shares[classes == index][0]
            click.echo(
                f"{name}: {answer}: {count:,} galaxies, each {often:.3g} times an epoch on average", err=True
            )
    return shares


def _describe(folder: Path, manifest: Manifest) -> Data:
    digest = sha256_of(folder / MANIFEST_NAME)
    return Data(manifest.tree, manifest.image_px, digest, manifest.vote_mean)


def _parse_folds(text: str) -> dict[str, Fold | None]:
    """The folds to hold out, one run each, by their names."""
    try:
        return folds_named(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--fold") from error


if __name__ == "__main__":
    main()
