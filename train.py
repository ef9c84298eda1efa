"""Train an ensemble from shards.

    python train.py shards --recipe quick --members 2 --out runs/quick

Options -> recipe -> loaders -> members -> loop. All members learn from one stream: an image is read and decoded
once and each member gets its own view of it.
"""

import math
from collections.abc import Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray

from ensemble.checkpoint import (
    Position,
    checkpoint_path,
    forget_after,
    load_state,
    positions,
    save_checkpoint,
    save_state,
)
from ensemble.interrupt import Interrupt
from ensemble.logbook import Logbook
from ensemble.member import Member
from ensemble.meter import Meter
from ensemble.recipe import Recipe, known_recipes, load_recipe
from ensemble.run import BEST_NAME, Data, Run, current_versions, load_run
from ensemble.strict import nearest
from galaxy_zoo.console import INTERRUPTED, Command
from galaxy_zoo.errors import RecipeError, RunError, ShardError
from galaxy_zoo.files import sha256_of
from galaxy_zoo.manifest import MANIFEST_NAME, Manifest, read_manifest
from galaxy_zoo.tree import DecisionTree
from galaxy_zoo.votes import classes_by, mean_votes, rmse
from pipeline.augment import FixedViews, RandomViews, member_seeds
from pipeline.calibration import tune
from pipeline.device import choose_device
from pipeline.loader import Batch, Loader
from pipeline.order import class_shares
from pipeline.shards import Fold, Samples, open_split
from pipeline.store import StoreMode, StorePolicy

LOWER_RATE = "the checkpoints of the epoch before are kept; train anew with a lower learning rate"


def train_epoch(members: list[Member], batches: Iterable[Batch], meter: Meter, interrupt: Interrupt) -> bool:
    """One pass over the batches; true if it came to the end, false if it was asked to stop before."""
    for batch in meter.watch(batches):
        losses = [member.step(images, batch.votes) for member, images in zip(members, batch.views, strict=True)]
        meter.add(len(batch.ids), losses)
        if interrupt.requested:
            return False
    return True


@dataclass
class Held:
    """The fold held out: its samples, their plain views, and the score of the training mean votes on it."""

    samples: Samples
    batches: Loader
    baseline_rmse: float

    def score(self, members: list[Member]) -> list[float]:
        """Kaggle's RMSE of each member."""
        predicted: list[list[torch.Tensor]] = [[] for _ in members]
        for batch in self.batches.epoch(0):
            for member, parts in zip(members, predicted, strict=True):
                parts.append(member.predict(batch.views[0]))
        votes = [torch.cat(parts).cpu().numpy() for parts in predicted]
        if not all(np.isfinite(each).all() for each in votes):
            raise RunError(f"the predictions of a member are not numbers; {LOWER_RATE}")
        return [rmse(each, self.samples.votes) for each in votes]


@dataclass
class Training:
    """Everything a training holds. best: the best score of each member so far."""

    run: Run
    members: list[Member]
    batches: Loader
    held: Held | None
    meter: Meter
    books: list[Logbook]
    best: list[float]

    def loop(self, start: Position, loss_sums: list[float], interrupt: Interrupt) -> bool:
        """Train from `start` to the end; false if interrupted, with a checkpoint of that step."""
        steps, epochs = len(self.batches), self.run.recipe.training.epochs
        for epoch in range(start.epoch, epochs):
            first = start.step if epoch == start.epoch else 0
            seen = self.batches.samples_before(first)
            self.meter.begin_epoch(f"epoch {epoch + 1}/{epochs}", seen, loss_sums if first else None)
            if not train_epoch(self.members, self.batches.epoch(epoch, start=first), self.meter, interrupt):
                self._check_losses(epoch)
                self.save(Position(epoch, self.members[0].steps - epoch * steps), self.meter.loss_sums())
                return False
            self.finish_epoch(epoch)
        return True

    def _check_losses(self, epoch: int) -> None:
        losses = self.meter.mean_losses()
        if not all(math.isfinite(loss) for loss in losses):
            raise RunError(f"epoch {epoch + 1}: the loss is {_list(losses)}; {LOWER_RATE}")

    def finish_epoch(self, epoch: int) -> None:
        """Score the members on the fold, write logs and checkpoints.

        Raises:
            RunError: a loss is not a number.
        """
        losses, speed = self.meter.mean_losses(), self.meter.speed()
        self._check_losses(epoch)
        scores = self.held.score(self.members) if self.held else [math.nan] * len(losses)
        for index, (member, book) in enumerate(zip(self.members, self.books, strict=True)):
            metrics = {"loss": losses[index], "learning_rate": member.learning_rate, **speed}
            if self.held:
                metrics |= {"rmse": scores[index], "baseline_rmse": self.held.baseline_rmse}
            book.add(epoch, metrics)
            if not self.held or scores[index] < self.best[index]:
                self.best[index] = scores[index]
                save_state(
                    self.run.member_folder(index) / BEST_NAME, {"weights": member.weights(), "epoch": epoch}
                )
        self.save(Position(epoch + 1, 0), [0.0] * len(losses))
        score = f", RMSE {_list(scores)} (mean votes: {self.held.baseline_rmse:.5f})" if self.held else ""
        self.meter.write(f"epoch {epoch + 1}: loss {_list(losses)}{score}, {self.meter}")

    def save(self, position: Position, loss_sums: list[float]) -> None:
        """Write a checkpoint of every member."""
        for index, member in enumerate(self.members):
            state = {"member": member.state(), "best": self.best[index], "loss_sum": loss_sums[index]}
            save_checkpoint(self.run.member_folder(index), position, state)

    def resume(self) -> tuple[Position, list[float]]:
        """Take over the newest whole checkpoints that all members have.

        Returns:
            Where to go on, and each member's sum of losses in that epoch so far.

        Raises:
            RunError: there are traces of a training, but no checkpoints to go on from.
        """
        folders = [self.run.member_folder(index) for index in range(len(self.members))]
        common = set.intersection(*(set(positions(folder)) for folder in folders))
        for position in sorted(common, reverse=True):
            try:
                loss_sums = self._load(position)
            except RunError as error:
                self.meter.write(f"warning: {error}; trying the checkpoints before")
                continue
            for folder in folders:
                forget_after(folder, position)
            return position, loss_sums
        if any((folder / BEST_NAME).exists() or positions(folder) for folder in folders):
            raise RunError(
                f"{self.run.folder}: no whole checkpoint that all members have, so it cannot go on; "
                "restore member-*/last-*.safetensors, or train anew with another --out"
            )
        return Position(0, 0), []

    def _load(self, position: Position) -> list[float]:
        paths = [checkpoint_path(self.run.member_folder(i), position) for i in range(len(self.members))]
        states = [load_state(path) for path in paths]
        for index, (path, state) in enumerate(zip(paths, states, strict=True)):
            try:
                self.members[index].load_state(state["member"])
                self.best[index] = state["best"]
            except (KeyError, ValueError, RuntimeError) as error:
                raise RunError(f"{path}: not a checkpoint of this member ({_first_line(error)})") from error
        return [float(state["loss_sum"]) for state in states]


@click.command(cls=Command, context_settings={"show_default": True, "max_content_width": 100})
@click.argument("shards", type=click.Path(path_type=Path))
@click.option("--recipe", "recipe_name", default="quick", help=f"{', '.join(known_recipes())}, or a TOML file.")
@click.option("--members", default=1, type=click.IntRange(1, 99), help="Models in the ensemble.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=None, help="The run's folder.  [default: runs/RECIPE]"
)
@click.option("--epochs", type=click.IntRange(1), default=None, help="Instead of the recipe's.")
@click.option("--fold", "fold_name", default="0/10", help="Hold out fold k of K to score on, or 'none'.")
@click.option("--seed", default=0, type=click.IntRange(0), help="Of weights, order and views.")
@click.option("--resume", is_flag=True, help="Go on with the run in --out from its last checkpoint.")
@click.option(
    "--no-pretrained", is_flag=True, help="Start from random weights where the recipe has pretrained ones."
)
@click.option(
    "--device", default="auto", type=click.Choice(["auto", "cpu", "cuda"]), help="auto: cuda if there is one."
)
@click.option(
    "--threads",
    type=click.IntRange(1),
    default=None,
    help="To decode with.  [default: as calibrated, or all cores]",
)
@click.option("--calibrate", is_flag=True, help="First measure the fastest way to decode here, and remember it.")
@click.option(
    "--store",
    default="auto",
    type=click.Choice(["auto", "stream", "resident"]),
    help="Keep the decoded stamps in the device's memory, or decode every epoch. auto: keep what fits.",
)
@click.option(
    "--store-folder",
    type=click.Path(path_type=Path),
    default=None,
    help="Save the stamps that are kept there, and take them from there at the next start.",
)
def main(
    shards: Path,
    recipe_name: str,
    members: int,
    out: Path | None,
    epochs: int | None,
    fold_name: str,
    seed: int,
    resume: bool,
    no_pretrained: bool,
    device: str,
    threads: int | None,
    calibrate: bool,
    store: StoreMode,
    store_folder: Path | None,
) -> None:
    """Train an ensemble of MEMBERS models from the folder SHARDS.

    Ctrl-C saves and stops; the same command with --resume goes on at that step, with the same result as a training
    that was never stopped. Exit codes: 0 done, 1 an input or output is bad, 2 wrong usage, 130 interrupted.

    \b
    Example:
      python train.py shards --recipe quick --members 2 --out runs/quick
    """
    recipe = load_recipe(recipe_name)
    if epochs:
        recipe = recipe.with_epochs(epochs)
    fold, manifest = _parse_fold(fold_name), read_manifest(shards)
    recipe = recipe.with_statistics(manifest.channel_mean, manifest.channel_std)
    run = Run(
        folder=out or Path("runs") / recipe.name,
        recipe=recipe,
        members=members,
        seed=seed,
        fold=fold_name,
        pretrained=not no_pretrained,
        data=_describe(shards, manifest),
        versions=current_versions(),
    )
    samples, held_out = open_split(shards, "train", fold=fold)
    for some in (samples, held_out):
        if some is not None and np.isnan(some.votes).all():
            raise ShardError(f"{some.shards[0].name}, ...: no votes at all; pack the images with their labels")
    if resume:
        run.check_same(load_run(run.folder))
    else:
        run.check_free()
    policy = StorePolicy(store, folder=store_folder, reused=recipe.training.epochs > 1)
    finished = _train(
        run, samples, held_out, choose_device(device), threads, policy, calibrate=calibrate, resume=resume
    )
    if not finished:
        click.echo(f"stopped and saved; go on with the same command and --resume (--out {run.folder})", err=True)
        raise SystemExit(INTERRUPTED)
    click.echo(f"trained {members} x {recipe.name}: {run.folder}")


def _train(
    run: Run,
    samples: Samples,
    held_out: Samples | None,
    device: torch.device,
    threads: int | None,
    store: StorePolicy,
    *,
    calibrate: bool,
    resume: bool,
) -> bool:
    """Build loaders and members and train; false if interrupted."""
    recipe, seeds = run.recipe, member_seeds(run.seed, range(run.members))
    views, size = RandomViews(recipe.view, seeds), recipe.training.batch_size
    tuning = tune(samples, views, batch_size=size, device=device, threads=threads, calibrate=calibrate)
    load = partial(
        Loader,
        batch_size=size,
        device=device,
        num_threads=tuning.num_threads,
        hw_decoder_load=tuning.hw_decoder_load,
        store=store,
    )
    with ExitStack() as stack:
        shares = _balance(recipe, samples, run.data.tree)
        batches = stack.enter_context(load(samples, views, seed=run.seed, shares=shares))
        held = None
        if held_out is not None:
            plain = stack.enter_context(load(held_out, FixedViews(recipe.view), shuffle=False))
            held = Held(held_out, plain, _baseline_rmse(samples, held_out))
        build = partial(Member, recipe, run.data.tree, steps_per_epoch=len(batches), device=device)
        pretrained = run.pretrained and not (resume and run.has_checkpoints())
        members = [build(seed=seed, pretrained=pretrained) for seed in seeds]
        stack.enter_context(run.locked())
        if not resume:
            run.create()
        training = Training(run, members, batches, held, Meter(run.members, device), [], [math.inf] * run.members)
        start, loss_sums = training.resume()
        training.books = [
            stack.enter_context(closing(Logbook(run.member_folder(m), epochs_done=start.epoch)))
            for m in range(run.members)
        ]
        stop = stack.enter_context(Interrupt())
        done = start.epoch * len(batches) + start.step
        stack.enter_context(training.meter.bar(recipe.training.epochs * len(batches), done=done))
        return training.loop(start, loss_sums, stop)


def _baseline_rmse(samples: Samples, held_out: Samples) -> float:
    """The score of predicting the mean votes of the training samples."""
    means = np.nan_to_num(mean_votes(samples.votes))
    return rmse(np.broadcast_to(means, held_out.votes.shape), held_out.votes)


def _balance(recipe: Recipe, samples: Samples, tree: DecisionTree) -> NDArray[np.float64] | None:
    """How often each sample comes in an epoch, where the recipe asks for a balance; says so by answer.

    Raises:
        RecipeError: the tree has no such question.
    """
    name, names = recipe.training.balance, [question.name for question in tree.questions]
    if not name:
        return None
    if name not in names:
        hint = nearest(name, names)
        raise RecipeError(f"recipe {recipe.name}: [training] balance: no question {name!r} in {tree.name}{hint}")
    classes = classes_by(samples.votes, tree, names.index(name))
    shares = class_shares(classes, recipe.training.balance_strength)
    for index, answer in [*enumerate(tree.questions[names.index(name)].answers), (-1, "unknown")]:
        if count := int((classes == index).sum()):
            often = shares[classes == index][0]
            click.echo(
                f"{name}: {answer}: {count:,} galaxies, each {often:.3g} times an epoch on average", err=True
            )
    return shares


def _describe(folder: Path, manifest: Manifest) -> Data:
    digest = sha256_of(folder / MANIFEST_NAME)
    return Data(manifest.tree, manifest.image_px, digest, manifest.vote_mean)


def _parse_fold(text: str) -> Fold | None:
    if text == "none":
        return None
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and int(index) < int(count) and int(count) > 1):
        raise click.BadParameter(f"{text!r} is neither 'none' nor k/K with 0 <= k < K", param_hint="--fold")
    return Fold(int(index), int(count))


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _list(values: list[float]) -> str:
    return " ".join(f"{value:.5f}" for value in values)


if __name__ == "__main__":
    main()
