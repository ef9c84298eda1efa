"""What a report is made of: the galaxies that no run was trained on, predicted with every member and view."""

from collections.abc import Sequence

import click
import numpy as np
import torch

from ensemble.model import Predictor, predict_views
from evaluation.evidence import Evidence, RunVotes, Scored
from evaluation.galaxies import Sets, group_folds, open_folds, open_sets, true_votes
from evaluation.network import check_wanted, network_sections
from evaluation.report import check_folder, write_report
from evaluation.request import ReportRequest
from galaxy_zoo.files import exclusive
from galaxy_zoo.manifest import read_manifest
from galaxy_zoo.text import counted, shown
from galaxy_zoo.votes import Floats
from pipeline.cache import Cache, open_set
from pipeline.device import choose_device
from pipeline.loader import Loader
from pipeline.stamps import StampPolicy
from prediction.members import TrainedMember, find_members
from prediction.source import Reading, Shards
from training.meter import PredictionMeter
from training.run import Run, load_run


def evaluate(request: ReportRequest) -> None:
    """Evaluate runs, write a report about them, and print its path.

    Raises:
        InputError: a run, shards or a table of votes cannot be used.
        OutputError: the report cannot be written.
    """
    reading = Reading(
        views=request.fixed_views,
        batch_size=request.batch_size,
        device=choose_device(request.device),
        num_threads=request.workers,
        stamps=StampPolicy(request.stamps, folder=request.stamps_folder, reused=False),
    )
    runs = [load_run(folder) for folder in request.runs]
    members, tree = find_members(runs), runs[0].data.tree
    with open_set(request.shards, Cache(request.cache_folder, request.cache_gb)) as shard_set:
        manifest = read_manifest(shard_set.folder)
        source = Shards(shard_set=shard_set, manifest=manifest, split=request.split, reading=reading)
        for run in runs:
            source.check_fits(run)
        folds = group_folds(runs) if request.out_of_fold else []
        sets = open_folds(source, folds) if request.out_of_fold else open_sets(source, runs)
        validation = Scored(sets.validation.samples, true_votes(sets.validation, request.truth, tree))
        if not request.out_of_fold:
            check_wanted(members[0], sets.validation, request)
        check_folder(request.out)
        busy = f"{request.out}: another evaluation writes to it; wait until it ends, or give another --out"
        with exclusive(request.out / "lock", busy=busy):
            evidence = Evidence(
                tree=tree,
                validation=validation,
                training=None if sets.training is None else sets.training.scored,
                mean_votes=sets.mean_votes,
                has_chosen_epochs=request.split == "train",
                predictions=predict_folds(folds, members, sets)
                if request.out_of_fold
                else predict_runs(runs, members, sets),
            )
            # Heat maps and embedding are shown for galaxies that are new to the network.
            sections = [] if request.out_of_fold else network_sections(evidence, members[0], sets, request)
            page = write_report(request.out, evidence, sections)
    galaxies = counted(len(validation.votes), "galaxy", "galaxies")
    click.echo(f"{shown(page)}: {galaxies}, {evidence.main[0]}, {page.stat().st_size / 1e6:.1f} MB")


def _predict(members: Sequence[Predictor], loader: Loader, label: str) -> Floats:
    """Return the votes of every member and view, float32, shape (members, views, galaxies, answers); show progress."""
    with PredictionMeter(label, loader.num_samples, is_shown=True) as meter:
        votes = [predict_views(members, batch.views) for batch in meter.timed(loader.epoch(0))]
    found: Floats = torch.cat(votes, dim=2).cpu().numpy()  # one copy, or a GPU would idle at each batch
    return found


def predict_run(name: str, trained: Sequence[TrainedMember], sets: Sets) -> RunVotes:
    """Predict the validation and training galaxies with all members of a run."""
    run, device = trained[0].run, sets.validation.source.reading.device
    members = [member.load(device) for member in trained]
    with sets.validation.open(run.recipe.view) as loader:
        validation = _predict(members, loader, f"{name}: validation")
    training = None
    if sets.training is not None:
        with sets.training.open(run.recipe.view, plain=True) as loader:
            training = _predict(members, loader, f"{name}: training")
    return RunVotes(name=name, run=run, validation=validation, training=training)


def predict_out_of_fold(name: str, folds: Sequence[Sequence[TrainedMember]], sets: Sets) -> RunVotes:
    """Predict each galaxy with all members of the run that held it out."""
    source, shards = sets.validation.source, sets.validation.shards
    votes: dict[str, Floats] = {}
    for trained in folds:
        run = trained[0].run
        mine = tuple(shard for shard in shards if shard.name in source.unseen(run))
        if mine:
            members = [member.load(source.reading.device) for member in trained]
            with source.open(mine, run.recipe.view) as loader:
                found = _predict(members, loader, f"{name}: fold {run.fold}")
            ends = np.cumsum([shard.samples for shard in mine])[:-1]
            votes |= zip((shard.name for shard in mine), np.split(found, ends, axis=2), strict=True)
    runs = [trained[0].run for trained in folds]
    validation = np.concatenate([votes[shard.name] for shard in shards], axis=2)
    return RunVotes(name=name, run=runs[0], validation=validation, folds=tuple(runs[1:]))


def predict_runs(runs: Sequence[Run], members: Sequence[TrainedMember], sets: Sets) -> tuple[RunVotes, ...]:
    """Predict with each run by itself."""
    names = _names(runs)
    return tuple(predict_run(name, _of_run(members, run), sets) for name, run in zip(names, runs, strict=True))


def predict_folds(
    folds: Sequence[Sequence[Run]], members: Sequence[TrainedMember], sets: Sets
) -> tuple[RunVotes, ...]:
    """Predict with each cross-validation by itself."""
    names = _numbered([shown(runs[0].recipe.name) for runs in folds])
    return tuple(
        predict_out_of_fold(name, [_of_run(members, run) for run in runs], sets)
        for name, runs in zip(names, folds, strict=True)
    )


def _of_run(members: Sequence[TrainedMember], run: Run) -> list[TrainedMember]:
    return [member for member in members if member.run is run]


def _names(runs: Sequence[Run]) -> list[str]:
    """Return the names of the runs in the report: the shortest ends of their paths that differ."""
    paths = [run.folder.resolve().parts for run in runs]
    lengths = range(1, max(map(len, paths)) + 1)
    candidates = (["/".join(parts[-length:]) for parts in paths] for length in lengths)
    return [shown(name) for name in next(names for names in candidates if len(set(names)) == len(names))]


def _numbered(names: Sequence[str]) -> list[str]:
    """Return the names, with a number added to those that repeat."""
    counts = [names[: at + 1].count(name) for at, name in enumerate(names)]
    return [f"{name} ({n})" if names.count(name) > 1 else name for name, n in zip(names, counts, strict=True)]
