"""Evaluate runs on galaxies they have not seen, and write a report to look at.

    python evaluate.py runs/quick shards --out report        # then open report/report.html
    python evaluate.py runs/quick/fold-* shards --out-of-fold

Runs and shards -> galaxies that no run has seen -> votes of every member and view -> evaluation.report.
"""

if __name__ == "__main__":  # what is below takes seconds
    from galaxy_zoo.starting import end_at_ctrl_c

    end_at_ctrl_c()

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor, nn

from ensemble.model import Predictor
from evaluation.evidence import Evidence, Prediction, Scored
from evaluation.extra import check_extra
from evaluation.section import Section
from galaxy_zoo.console import Command, cache_options, machine_options, path_or_url, progress
from galaxy_zoo.errors import RunError, ShardError
from galaxy_zoo.files import exclusive, sha256_of
from galaxy_zoo.labels import read_votes
from galaxy_zoo.manifest import MANIFEST_NAME, Shard, read_manifest
from galaxy_zoo.remote import AnyPath
from galaxy_zoo.submission import votes_of_ids
from galaxy_zoo.tree import DecisionTree
from galaxy_zoo.view import View
from galaxy_zoo.votes import Floats, mean_votes
from pipeline.augment import FixedView
from pipeline.cache import Cache, open_set
from pipeline.device import choose_device
from pipeline.loader import Loader
from pipeline.options import parse_views
from pipeline.shards import Samples
from predict import Reading, Shards, check_fit
from prediction.embedding import Embedder
from prediction.passes import TrainedMember, find_members
from training.run import Run, load_run


@dataclass(frozen=True)
class Part:
    """Some shards of a split, and their samples."""

    source: Shards
    shards: tuple[Shard, ...]
    samples: Samples

    def open(self, view: View, *, plain: bool = False) -> Loader:
        """Their batches; plain: with the plain view alone."""
        reading = replace(self.source.reading, views=(FixedView(),)) if plain else self.source.reading
        return replace(self.source, reading=reading).open(self.shards, view)


@dataclass(frozen=True)
class Sets:
    """The galaxies of a report.

    validation: what to evaluate on. training: some that all runs were trained on, None where they are not known.
    mean_votes: of all of those, shape (answers,).
    """

    validation: Part
    training: Part | None
    mean_votes: Floats


def open_sets(source: Shards, runs: Sequence[Run]) -> Sets:
    """The galaxies of a split that no run has seen, and about as many that all have.

    Args:
        runs: fit the shards (`predict.check_fit`).

    Raises:
        RunError: every galaxy was seen by one of the runs.
        ShardError: there is no such split.
    """
    digest = sha256_of(source.shard_set.folder / MANIFEST_NAME)
    is_own = all(run.data.manifest_sha256 == digest for run in runs)
    seen: tuple[Shard, ...] = ()
    if is_own and source.manifest.splits.get("train"):
        unseen_by = [source.unseen(run) for run in runs]
        seen = tuple(s for s in source.training_shards if not any(s.name in names for names in unseen_by))
    validation = _unseen(source, runs) if source.split == "train" else source.shards
    source.shard_set.need(source.split, *(["train"] if seen else []))
    part = _open(source, validation)
    if not seen:
        return Sets(part, None, _mean_of(runs[0]))
    means = mean_votes(_open(source, seen).samples.votes)
    return Sets(part, _open(source, _first(seen, len(part.samples))), means)


def _unseen(source: Shards, runs: Sequence[Run]) -> tuple[Shard, ...]:
    """The training shards that no run has seen."""
    unseen_by = [source.unseen(run) for run in runs]
    shards = tuple(s for s in source.training_shards if all(s.name in names for names in unseen_by))
    if not shards:
        folds = ", ".join(f"{run.folder}: --fold {run.fold}" for run in runs)
        raise RunError(
            f"every galaxy of {source.shard_set.path} was seen by one of the runs ({folds}); evaluate runs of "
            "other folds one by one, or on other galaxies with --split test --truth VOTES.csv"
        )
    return shards


def open_folds(source: Shards, folds: Sequence[Sequence[Run]]) -> Sets:
    """The training galaxies that one run of each cross-validation has held out.

    Raises:
        RunError: a galaxy was held out by several runs of a cross-validation, or none by one of each.
    """
    for runs in folds:
        held_out: dict[str, Run] = {}
        for run in runs:
            for name in sorted(source.unseen(run)):
                if (other := held_out.setdefault(name, run)) is not run:
                    raise RunError(
                        f"{other.folder} and {run.folder} both held out {name}; --out-of-fold takes the runs of one "
                        "--fold all/K, or of one for each of several recipes"
                    )
    unseen_by = [frozenset[str]().union(*(source.unseen(run) for run in runs)) for runs in folds]
    shards = tuple(s for s in source.training_shards if all(s.name in names for names in unseen_by))
    if not shards:
        raise RunError("no galaxy was held out by a run of each recipe; name runs of the same folds")
    source.shard_set.need("train")
    return Sets(_open(source, shards), None, mean_votes(_open(source, source.training_shards).samples.votes))


def group_folds(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs of the same recipe and as many members together, as of one cross-validation."""
    groups: list[list[Run]] = []
    for run in runs:
        same = (g for g in groups if (g[0].recipe.table, g[0].members) == (run.recipe.table, run.members))
        if (group := next(same, None)) is None:
            groups.append([run])
        else:
            group.append(run)
    return groups


def _open(source: Shards, shards: tuple[Shard, ...]) -> Part:
    return Part(source, shards, Samples(source.shard_set.folder, source.manifest, shards))


def _first(shards: tuple[Shard, ...], num_samples: int) -> tuple[Shard, ...]:
    """The fewest of the first shards that hold `num_samples`; all where they hold fewer."""
    ends = np.cumsum([shard.samples for shard in shards])
    return shards[: 1 + int(np.searchsorted(ends, num_samples))]


def _mean_of(run: Run) -> Floats:
    """The mean votes of the shards that a run was trained on, shape (answers,); NaN where unknown."""
    means = run.data.vote_mean or (None,) * len(run.data.tree.columns)
    return np.array([np.nan if mean is None else mean for mean in means])


def true_votes(part: Part, truth: Path | None, tree: DecisionTree) -> Floats:
    """The votes of samples, from the shards or from a table, shape (samples, answers).

    Raises:
        InputError: the table cannot be read or lacks a sample, or there are no votes.
    """
    where, votes = f"the {part.source.split} shards of {part.source.shard_set.path}", part.samples.votes
    if truth is not None:
        table = read_votes(truth, tree, allow_missing=True)
        where, votes = str(truth), votes_of_ids(table, part.samples.keys.tolist(), str(truth))
    if np.isnan(votes).all():
        raise ShardError(f"no votes in {where} to evaluate on; give a table of them with --truth VOTES.csv")
    return votes


def predict(members: Sequence[Predictor], loader: Loader, desc: str) -> Floats:
    """Votes of every member and view, float32, shape (members, views, galaxies, answers); shows progress."""
    parts = []
    with progress(total=loader.num_samples, unit="galaxy", desc=desc) as bar:
        for batch in loader.epoch(0):
            votes = [torch.stack([member.predict(images) for images in batch.views]) for member in members]
            parts.append(torch.stack(votes).cpu().numpy())
            bar.update(len(batch.ids))
    return np.concatenate(parts, axis=2)


def predict_run(name: str, trained: Sequence[TrainedMember], sets: Sets) -> Prediction:
    """All members of a run on both sets."""
    run, device = trained[0].run, sets.validation.source.device
    members = [member.load(device) for member in trained]
    with sets.validation.open(run.recipe.view) as loader:
        validation = predict(members, loader, f"{name}: validation")
    training = None
    if sets.training is not None:
        with sets.training.open(run.recipe.view, plain=True) as loader:
            training = predict(members, loader, f"{name}: training")
    return Prediction(name, run, validation, training)


def predict_out_of_fold(name: str, folds: Sequence[Sequence[TrainedMember]], sets: Sets) -> Prediction:
    """The runs of a cross-validation as one: all members of the run that has held a galaxy out predict it."""
    source, shards = sets.validation.source, sets.validation.shards
    votes: dict[str, Floats] = {}
    for trained in folds:
        run = trained[0].run
        mine = tuple(shard for shard in shards if shard.name in source.unseen(run))
        if mine:
            members = [member.load(source.device) for member in trained]
            with _open(source, mine).open(run.recipe.view) as loader:
                found = predict(members, loader, f"{name}: fold {run.fold}")
            ends = np.cumsum([shard.samples for shard in mine])[:-1]
            votes |= zip((shard.name for shard in mine), np.split(found, ends, axis=2), strict=True)
    runs = [trained[0].run for trained in folds]
    validation = np.concatenate([votes[shard.name] for shard in shards], axis=2)
    return Prediction(name, runs[0], validation, folds=tuple(runs[1:]))


def predict_runs(runs: Sequence[Run], members: Sequence[TrainedMember], sets: Sets) -> tuple[Prediction, ...]:
    """Each run by itself."""
    names = _names(runs)
    return tuple(predict_run(name, _of_run(members, run), sets) for name, run in zip(names, runs, strict=True))


def predict_folds(
    folds: Sequence[Sequence[Run]], members: Sequence[TrainedMember], sets: Sets
) -> tuple[Prediction, ...]:
    """Each cross-validation by itself."""
    names = _numbered([runs[0].recipe.name for runs in folds])
    return tuple(
        predict_out_of_fold(name, [_of_run(members, run) for run in runs], sets)
        for name, runs in zip(names, folds, strict=True)
    )


def embed(network: nn.Module, part: Part, view: View, count: int) -> Floats:
    """What the last layer gets of the first `count` samples, shape (samples, features)."""
    embedder, parts, seen = Embedder(network), [], 0
    with part.open(view, plain=True) as loader, torch.inference_mode():
        for batch in loader.epoch(0):
            network(batch.views[0].float())
            parts.append(embedder.take().cpu().numpy())
            seen += len(batch.ids)
            if seen >= count:
                break
    return np.concatenate(parts)[:count]


def images_of(part: Part, positions: Sequence[int], view: View) -> Tensor:
    """The plain views of samples, float32, shape (positions, 3, size, size)."""
    keys = [str(part.samples.keys[at]) for at in positions]
    found: dict[str, Tensor] = {}
    with part.open(view, plain=True) as loader:
        for batch in loader.epoch(0):
            found |= {key: batch.views[0][row] for row, key in enumerate(batch.ids.tolist()) if key in keys}
            if len(found) == len(set(keys)):
                break
    return torch.stack([found[key] for key in keys]).float()


@dataclass(frozen=True)
class Wanted:
    """What the sections that need a network should show; points: galaxies in the embedding, by these methods."""

    cams: int
    galaxies: tuple[str, ...]
    layers: tuple[str, ...]
    points: int
    methods: tuple[str, ...]


def network_sections(
    evidence: Evidence, first: TrainedMember, sets: Sets, wanted: Wanted
) -> list[Callable[[], Section]]:
    """The sections that need a network, the first one: what it looks at, and its embedding."""
    from evaluation import attention, embedding  # noqa: PLC0415 - needs the extra

    view = first.run.recipe.view
    # gradients and maps are looked at as they are, and numpy knows no bf16
    network = first.load(sets.validation.source.device, compiled=False, in_float32=True).network.eval()
    sections: list[Callable[[], Section]] = []
    looked = attention.choose(evidence, wanted.cams, wanted.galaxies)
    layers = attention.choose_layers(network, wanted.layers)
    if len(view.turns_deg) > 1:
        click.echo(
            f"not shown: what {first.name} looks at, for it sees several turns of a galaxy at once", err=True
        )
    elif looked and layers:
        images = images_of(sets.validation, [each.position for each in looked], view)
        sections.append(partial(attention.section, evidence, network, layers, looked, images, view))
    if wanted.points and wanted.methods:
        parts = [part for part in (sets.validation, sets.training) if part is not None]
        found = [embed(network, part, view, -(-wanted.points // len(parts))) for part in parts]
        features = embedding.Features(found[0], found[1] if len(found) > 1 else None)
        sections.append(partial(embedding.section, evidence, features, wanted.methods))
    return sections


@click.command(cls=Command, context_settings={"show_default": True, "max_content_width": 100})
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.argument("shards", type=path_or_url)
@click.option("--out", default="report", type=click.Path(path_type=Path), help="The report's folder.")
@click.option(
    "--split", default="train", type=click.Choice(["train", "test"]), help="train: what no run has seen of it."
)
@click.option(
    "--out-of-fold",
    is_flag=True,
    help="RUNS are folds (train.py --fold all/K): each galaxy by the one that held it out.",
)
@click.option(
    "--truth", type=click.Path(path_type=Path), help="CSV of true votes.  [default: those in the shards]"
)
@click.option("--views", default=4, type=int, help="Test-time views: 1, or an even number (rotations x flip).")
@click.option("--cams", default=6, type=click.IntRange(0, 37), help="Galaxies to show what the network looks at.")
@click.option("--galaxy", "galaxies", multiple=True, help="These instead, by id.  [default: typical ones]")
@click.option("--layer", "layers", multiple=True, help="In these layers.  [default: two first, last convolution]")
@click.option("--points", default=1200, type=click.IntRange(0, 5000), help="Galaxies in the embedding.")
@click.option("--embedding", "methods", default="all", help="Some of pca,tsne,umap; all: those installed.")
@click.option("--batch-size", default=128, type=click.IntRange(1), help="Galaxies a batch.")
@machine_options
@cache_options
def main(
    *,
    runs: tuple[Path, ...],
    shards: AnyPath,
    out: Path,
    split: str,
    out_of_fold: bool,
    truth: Path | None,
    views: int,
    cams: int,
    galaxies: tuple[str, ...],
    layers: tuple[str, ...],
    points: int,
    methods: str,
    batch_size: int,
    device: str,
    threads: int | None,
    cache_folder: Path,
    cache_gb: float | None,
) -> None:
    """Evaluate RUNS on galaxies of the folder (or URL) SHARDS that none of them has seen, and write a report.

    OUT/report.html needs nothing beside it: open it from the disk, or mail it. It holds small pictures of galaxies,
    so publish it only where the images may be published. OUT/tables and OUT/tables.json are its tables.

    \b
    Examples:
      python evaluate.py runs/quick runs/ng_cnn shards --out report
      python evaluate.py runs/quick shards --split test --truth synthetic_test_truth.csv --views 16
      python evaluate.py runs/quick/fold-* shards --out-of-fold
    """
    if out_of_fold and split != "train":
        raise click.UsageError("--out-of-fold is of the galaxies trained on, so it goes without --split test")
    check_extra()
    from evaluation.report import check_folder, write_report  # noqa: PLC0415 - needs the extra

    wanted = Wanted(cams, galaxies, layers, points, _parse_methods(methods))
    reading = Reading(parse_views(views), batch_size, choose_device(device), threads)
    trained = [load_run(folder) for folder in runs]
    members = find_members(trained)
    with open_set(shards, Cache(cache_folder, cache_gb)) as shard_set, ExitStack() as stack:
        source = Shards(shard_set, read_manifest(shard_set.folder), split, reading)
        for run in trained:
            check_fit(run, shard_set.path, source.manifest)
        folds = group_folds(trained) if out_of_fold else []
        sets = open_folds(source, folds) if out_of_fold else open_sets(source, trained)
        tree = trained[0].data.tree
        validation = Scored(sets.validation.samples, true_votes(sets.validation, truth, tree))
        check_folder(out)
        busy = f"{out}: another evaluation writes to it; wait for its end, or give another --out"
        stack.enter_context(exclusive(out / "lock", busy=busy))
        evidence = Evidence(
            tree=tree,
            validation=validation,
            training=None if sets.training is None else _scored(sets.training),
            mean_votes=sets.mean_votes,
            predictions=predict_folds(folds, members, sets)
            if out_of_fold
            else predict_runs(trained, members, sets),
        )
        # What a network looks at, and how it sets galaxies apart, is that of one network on galaxies new to it.
        sections = [] if out_of_fold else network_sections(evidence, members[0], sets, wanted)
        page = write_report(out, evidence, sections)
    click.echo(
        f"{page}: {len(validation.votes):,} galaxies, {evidence.main[0]}, {page.stat().st_size / 1e6:.1f} MB"
    )


def _of_run(members: Sequence[TrainedMember], run: Run) -> list[TrainedMember]:
    return [member for member in members if member.run is run]


def _parse_methods(text: str) -> tuple[str, ...]:
    from evaluation.embedding import METHODS, known_methods  # noqa: PLC0415 - needs the extra

    names = tuple(known_methods()) if text == "all" else tuple(text.split(","))
    for name in names:
        if name not in METHODS:
            raise click.BadParameter(f"{name!r} is none of {', '.join(METHODS)}", param_hint="--embedding")
        if name not in known_methods():
            raise click.BadParameter(
                f"{name} needs a package; install it with: pip install -e '.[umap]'", param_hint="--embedding"
            )
    return names


def _names(runs: Sequence[Run]) -> list[str]:
    """What the report calls the runs: the ends of their folders' paths, as long as tells them apart."""
    paths = [run.folder.resolve().parts for run in runs]
    lengths = range(1, max(map(len, paths)) + 1)
    candidates = (["/".join(parts[-length:]) for parts in paths] for length in lengths)
    return next(names for names in candidates if len(set(names)) == len(names))


def _numbered(names: Sequence[str]) -> list[str]:
    """Names, each with a number where it comes several times."""
    counts = [names[: at + 1].count(name) for at, name in enumerate(names)]
    return [f"{name} ({n})" if names.count(name) > 1 else name for name, n in zip(names, counts, strict=True)]


def _scored(part: Part) -> Scored:
    return Scored(part.samples, part.samples.votes)


if __name__ == "__main__":
    main()
