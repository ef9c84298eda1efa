"""Carry out train.py: request -> recipe and shards -> a run for each fold -> loaders, members and a trainer."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import click
import torch

from ensemble.networks.backbones import Timm
from ensemble.networks.weights import Weights, read_weights
from ensemble.recipe import Recipe, load_recipe
from galaxy_zoo.console import INTERRUPTED
from galaxy_zoo.errors import OutputError, RunError
from galaxy_zoo.files import check_outputs, is_utf8, sha256_of
from galaxy_zoo.fold import Fold, folds_named
from galaxy_zoo.manifest import MANIFEST_NAME, Manifest, read_manifest
from galaxy_zoo.text import shown
from pipeline.augment import FixedViews, RandomViews, Views, member_seeds
from pipeline.cache import Cache, ShardSet, open_set
from pipeline.device import choose_device
from pipeline.groups import Opened
from pipeline.loader import Decoding, Loader, Sampling
from pipeline.shards import Samples
from pipeline.stamps import StampPolicy
from training.checkpoint import Position, common_positions
from training.figures import draw
from training.held_out import HeldOut
from training.initial import start_from_earlier
from training.interrupt import Interrupt
from training.intro import describe_start
from training.logbook import Logbook
from training.loop import SaveSchedule, TrackedMember, Trainer
from training.member import Member
from training.meter import Meter
from training.ranks import ALONE, Ranks, joined_ranks, members_of, own_device, own_threads
from training.request import TrainingRequest
from training.resuming import check_run
from training.run import BEST_NAME, RUN_NAME, Data, InitFrom, Run, current_versions, load_run
from training.samples import balanced_shares, baseline_rmse, check_votes, open_samples
from training.start import StartTimer
from training.step import recorder_on
from training.trials import best_trials


@dataclass(frozen=True, kw_only=True)
class Session:
    """What all runs of a command share. device: device of this rank; start: timer of the start of the process."""

    request: TrainingRequest
    source: ShardSet
    manifest: Manifest
    ranks: Ranks
    device: torch.device
    decoding: Decoding
    start: StartTimer

    @property
    def team(self) -> Ranks:
        """Ranks that train the same members as this one."""
        return self.ranks if self.request.parallel == "data" else ALONE

    def load(self, samples: Samples, views: Views, sampling: Sampling) -> Loader:
        """Return a loader of this rank's share of each batch, or of whole batches if the rank has its own members.

        Raises:
            RunError: a batch is too small for the ranks.
        """
        team = self.team
        try:
            sampling = replace(sampling, rank=team.rank, world_size=team.world_size)
        except ValueError as error:
            raise RunError(f"{error}; start fewer") from error
        return Loader(samples, views, sampling, self.decoding)


def train(request: TrainingRequest) -> None:
    """Train what is asked for: one run, or one for each fold. End the process with 130 if interrupted.

    Raises:
        GalaxyZooError: an input or output is bad.
    """
    start = StartTimer()
    recipe = load_recipe(request.recipe, request.settings)
    if request.weights and not isinstance(recipe.network, Timm):
        raise RunError(f"recipe {recipe.name} has no network with pretrained weights; omit --weights")
    if request.no_pretrained and isinstance(recipe.network, Timm) and recipe.network.frozen:
        raise RunError(
            f"recipe {recipe.name} trains only what replaces the last layer of pretrained weights; to train all of it "
            "from random weights, add --set network.frozen=false"
        )
    folder = request.out or Path("runs") / recipe.name
    if not is_utf8(folder):
        raise OutputError(
            f"{folder}: a path that is not UTF-8, which TensorBoard cannot write to; give another --out"
        )
    recipe_file = Path(request.recipe) if request.recipe.endswith(".toml") else None
    inputs = (request.shards, *filter(None, [recipe_file, request.init_from, request.weights]))
    check_outputs((folder, request.cache_folder, *filter(None, [request.stamps_folder])), inputs)
    if request.init_from and request.init_from.resolve() in folder.resolve().parents:
        raise OutputError(f"{folder}: inside {request.init_from}, which --init-from reads; give another --out")
    device = choose_device(request.device)
    stamps = StampPolicy(request.stamps, folder=request.stamps_folder, reused=recipe.training.epochs > 1)
    with (
        open_set(request.shards, Cache(request.cache_folder, request.cache_gb)) as source,
        joined_ranks(device, request.parallel) as ranks,
    ):
        manifest = read_manifest(source.folder)
        folds = folds_named(request.fold or _own_fold(recipe, manifest, quiet=not ranks.is_first))
        recipe = recipe.with_statistics(manifest.channel_mean, manifest.channel_std)
        source.need_objects(recipe.view)
        device = own_device(device)
        decoding = Decoding(device=device, num_threads=own_threads(request.workers), stamps=stamps)
        session = Session(
            request=request,
            source=source,
            manifest=manifest,
            ranks=ranks,
            device=device,
            decoding=decoding,
            start=start,
        )
        for name, fold in folds.items():
            of_fold = folder / f"fold-{name.replace('/', '-of-')}" if len(folds) > 1 else folder
            run = _describe(recipe, session, folder=of_fold, fold_name=name)
            if not train_run(run, fold, session):
                resuming = "to continue, run the same command with --resume"
                click.echo(f"{shown(run.folder)}: stopped and saved; {resuming}", err=True)
                raise SystemExit(INTERRUPTED)
        if ranks.is_first:
            runs, how = (f"{folder}/fold-*", " --out-of-fold") if len(folds) > 1 else (folder, "")
            command = f"evaluate.py {runs} {request.shards}{how}"
            if set(folds) == {"none"}:
                others = request.shards if "test" in manifest.splits else "FOLDER_OF_IMAGES"
                command = f"predict.py {runs} {others}"
            click.echo(shown(f"next: {command}"))


def _own_fold(recipe: Recipe, manifest: Manifest, *, quiet: bool) -> str:
    """Return the name of the recipe's fold; of one in fewer folds where there are fewer shards, and say so."""
    asked, num_shards = recipe.training.fold, len(manifest.splits.get("train", ()))
    fold = Fold.named(asked)
    if fold is None or (fitting := fold.fitted(num_shards)) == fold:
        return asked
    if not quiet:
        words = f"holding out fold {fitting}, not the recipe's {asked}: the set has {num_shards} training shards"
        click.echo(words, err=True)
    return str(fitting)


def _describe(recipe: Recipe, session: Session, *, folder: Path, fold_name: str) -> Run:
    """Describe the run that is asked for."""
    request, manifest = session.request, session.manifest
    return Run(
        folder=folder,
        recipe=recipe,
        members=request.members,
        seed=request.seed,
        fold=fold_name,
        pretrained=not request.no_pretrained,
        data=Data(
            tree=manifest.tree,
            image_px=manifest.image_px,
            manifest_sha256=sha256_of(session.source.folder / MANIFEST_NAME),
            vote_mean=manifest.vote_mean,
        ),
        versions=current_versions(),
        shard_groups=session.ranks.world_size if request.stick_to_shard else 0,
        init_from=None if request.init_from is None else InitFrom(run=str(request.init_from), weights_sha256=()),
        # a run with checkpoints goes on without the file
        weights_sha256=sha256_of(request.weights) if request.weights and request.weights.is_file() else "",
    )


def train_run(run: Run, fold: Fold | None, session: Session) -> bool:
    """Train a run, or go on with it; return False if interrupted."""
    ranks, source, team = session.ranks, session.source, session.team
    if ranks.world_size > run.members and session.request.parallel == "members":
        raise RunError(f"{ranks.world_size} ranks for {run.members} members; start fewer, or --parallel data")
    with ExitStack() as stack:
        if ranks.is_first:
            stack.enter_context(run.locked())
        resume = ranks.broadcast_object(session.request.resume and (run.folder / RUN_NAME).exists())
        run = check_run(run, ranks, resume=resume)
        ranks.check_same(run.data.manifest_sha256, f"the manifest of {source.path}")
        ranks.check_same(run.weights_sha256, "the file of --weights")
        opened = open_samples(run, source, fold, ranks)
        check_votes(opened, source, team, has_fold=fold is not None)
        session.start.end("shards")
        trainer = _build_trainer(run, opened, session, stack, resume=resume)
        if trainer is None:
            return False
        start, sums = trainer.resume()
        if (run.init_from or run.weights_sha256) and start == Position(0, 0):
            trainer.save(0)  # so that the earlier run or the file is not needed again
            trainer.writer.finish()
        if team.is_first:
            for each in trainer.tracked:
                each.logbook = stack.enter_context(closing(Logbook(each.folder, epochs_done=start.epoch)))
        num_steps = len(trainer.batches)
        done, total = start.epoch * num_steps + start.step, run.recipe.training.epochs * num_steps
        stack.enter_context(trainer.meter.bar(total, done=done, is_shown=ranks.is_first))
        # other ranks may train members that this one does not know
        has_work = done < total and (ranks.world_size > 1 or not all(each.stopped for each in trainer.members))
        finished = trainer.train(start, sums)
        if finished and team.is_first:
            draw(trainer.tracked, trainer.held_out, run)
        if finished and ranks.is_first:
            trained = "trained" if has_work else "trained already:"
            has_stopped = any(member.stopped for member in trainer.members)
            early = " (some members stopped early, as patience asks)" if has_stopped else ""
            click.echo(shown(f"{trained} {run.members} x {run.recipe.name}: {run.folder}{early}"))
        return finished


def _build_trainer(
    run: Run, opened: Opened, session: Session, stack: ExitStack, *, resume: bool
) -> Trainer | None:
    """Build the trainer of a run, and write run.json if the run is new; return None if interrupted."""
    ranks, team, training = session.ranks, session.team, run.recipe.training
    numbers = members_of(run.members, ranks, session.request.parallel)
    seeds, folders = member_seeds(run.seed, numbers), [run.member_folder(number) for number in numbers]
    shares = balanced_shares(run, opened.samples, quiet=not ranks.is_first)
    sampling = Sampling(batch_size=training.batch_size, seed=run.seed, shares=shares, groups=opened.groups)
    batches = stack.enter_context(session.load(opened.samples, RandomViews(run.recipe.view, seeds), sampling))
    held_out = _open_held_out(run, opened, session, stack)
    meter = Meter(numbers, session.device, team, session.start)
    goes_on = resume and bool(common_positions(folders))
    weights = None if goes_on else _pretrained_weights(run, session.request.weights)
    build = partial(
        _build_members,
        run,
        seeds,
        session,
        steps_per_epoch=len(batches),
        is_pretrained=run.pretrained and not goes_on and not run.init_from,
        weights=weights,
        say=cache(meter.write) if ranks.is_first else str,  # once, whatever the number of members
    )
    members = build(trial=0)
    session.start.end("members")
    if ranks.is_first:
        _say_what_starts(
            run,
            session,
            weights=weights,
            num_parameters=members[0].num_parameters,
            steps_per_epoch=len(batches),
        )
    if run.init_from and not goes_on:
        line = start_from_earlier(run, dict(zip(numbers, members, strict=True)))
        if ranks.is_first:
            click.echo(line, err=True)
    elif training.trials > 1 and not goes_on:
        best = best_trials(
            build, training.trials, batches=batches, held_out=held_out, meter=meter, is_first=ranks.is_first
        )
        if best is None:
            return None
        for member, weights_of_best in zip(members, best, strict=True):
            member.start_from(weights_of_best)
    if ranks.is_first and not (resume and run == load_run(run.folder)):  # it may have been given more epochs
        run.create()
    ranks.barrier()
    return Trainer(
        run=run,
        tracked=[TrackedMember(member=m, folder=folder) for m, folder in zip(members, folders, strict=True)],
        batches=batches,
        held_out=held_out,
        meter=meter,
        interrupt=stack.enter_context(Interrupt("finishing this step, then saving ..." if ranks.is_first else "")),
        schedule=SaveSchedule(session.request.save_steps, 60 * session.request.save_minutes),
        team=team,
    )


def _say_what_starts(
    run: Run, session: Session, *, weights: Weights | None, num_parameters: int, steps_per_epoch: int
) -> None:
    """Print on stderr what a run will do, and on what."""
    lines = describe_start(
        run,
        session.manifest,
        settings=session.request.settings,
        weights=weights.path if weights else None,
        num_parameters=num_parameters,
        steps_per_epoch=steps_per_epoch,
        device=session.device,
        ranks=session.ranks,
    )
    click.echo("\n".join(map(shown, lines)), err=True)


def _pretrained_weights(run: Run, path: Path | None) -> Weights | None:
    """Read the pretrained weights of a run that has no checkpoint; return None if they do not come from a file.

    Raises:
        RunError: the run was begun with such a file, and none is given; or `read_weights` raises it.
    """
    if path is not None:
        if path.name == BEST_NAME and (path.parent.parent / RUN_NAME).is_file():
            raise RunError(f"{path}: the weights of a run; give the run: --init-from {path.parent.parent}")
        return read_weights(path)
    if run.weights_sha256:
        raise RunError(
            f"{run.folder} has no checkpoint yet and starts from a file of weights; give it with --weights"
        )
    return None


def _open_held_out(run: Run, opened: Opened, session: Session, stack: ExitStack) -> HeldOut | None:
    """Open the fold held out; return None if the run has none."""
    if run.fold == "none":
        return None
    loader = None
    if opened.held_out is not None:
        sampling = Sampling(batch_size=run.recipe.training.batch_size, shuffle=False, groups=opened.held_groups)
        loader = stack.enter_context(session.load(opened.held_out, FixedViews(run.recipe.view), sampling))
    baseline = baseline_rmse(opened, session.team)
    return HeldOut(loader=loader, tree=run.data.tree, baseline_rmse=baseline, team=session.team)


def _build_members(
    run: Run,
    seeds: Sequence[int],
    session: Session,
    *,
    trial: int,
    steps_per_epoch: int,
    is_pretrained: bool,
    weights: Weights | None,
    say: Callable[[str], object],
) -> list[Member]:
    """Build a member for each seed, with the initial weights of the given trial."""
    return [
        Member(
            run.recipe,
            run.data.tree,
            seed=seed,
            trial=trial,
            pretrained=is_pretrained,
            weights=weights,
            steps_per_epoch=steps_per_epoch,
            device=session.device,
            team=session.team,
            recorder=recorder_on(session.device, session.team, say),
            say=say,
        )
        for seed in seeds
    ]
