"""Choose the galaxies of a report: those that no run has seen, and some that all runs were trained on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from evaluation.evidence import Scored
from galaxy_zoo.errors import RunError, ShardError
from galaxy_zoo.labels import read_votes
from galaxy_zoo.manifest import Shard
from galaxy_zoo.submission import votes_of_ids
from galaxy_zoo.tree import DecisionTree
from galaxy_zoo.view import View
from galaxy_zoo.votes import Floats, mean_votes
from pipeline.augment import FixedView
from pipeline.loader import Loader
from pipeline.shards import Samples
from prediction.source import Shards
from training.run import Run


@dataclass(frozen=True)
class Subset:
    """Some shards of a split, and their samples."""

    source: Shards
    shards: tuple[Shard, ...]
    samples: Samples

    @property
    def scored(self) -> Scored:
        """Samples with their votes in the shards."""
        return Scored(self.samples, self.samples.votes)

    def open(self, view: View, *, plain: bool = False) -> Loader:
        """Return a loader of the samples; plain: only the plain view."""
        reading = replace(self.source.reading, views=(FixedView(),)) if plain else self.source.reading
        return replace(self.source, reading=reading).open(self.shards, view)


@dataclass(frozen=True)
class Sets:
    """The galaxies of a report.

    validation: galaxies to evaluate on. training: some that all runs were trained on, None if unknown.
    mean_votes: mean votes of all training galaxies, shape (answers,).
    """

    validation: Subset
    training: Subset | None
    mean_votes: Floats


def open_sets(source: Shards, runs: Sequence[Run]) -> Sets:
    """Return the galaxies of a split that no run has seen, and about as many that all have seen.

    Args:
        runs: runs that fit the shards (`Shards.check_fits`).

    Raises:
        RunError: every galaxy was seen by one of the runs.
        ShardError: there is no such split.
    """
    seen: tuple[Shard, ...] = ()
    if all(map(source.is_trained_on, runs)) and source.manifest.splits.get("train"):
        unseen_by = [source.unseen(run) for run in runs]
        seen = tuple(s for s in source.training_shards if not any(s.name in names for names in unseen_by))
    validation = _unseen(source, runs) if source.split == "train" else source.shards
    source.shard_set.need(source.split, *(["train"] if seen else []))
    subset = _open(source, validation)
    if not seen:
        return Sets(subset, None, _mean_of(runs[0]))
    means = mean_votes(_open(source, seen).samples.votes)
    return Sets(subset, _open(source, _first(seen, len(subset.samples))), means)


def _unseen(source: Shards, runs: Sequence[Run]) -> tuple[Shard, ...]:
    """Return the training shards that no run has seen."""
    unseen_by = [source.unseen(run) for run in runs]
    shards = tuple(s for s in source.training_shards if all(s.name in names for names in unseen_by))
    if not shards:
        folds = ", ".join(f"{run.folder}: --fold {run.fold}" for run in runs)
        raise RunError(
            f"every galaxy of {source.shard_set.path} was seen by one of the runs ({folds}); score the runs "
            "of a cross-validation with --out-of-fold, others one by one, or all on other galaxies with --split test "
            "--truth VOTES.csv"
        )
    return shards


def open_folds(source: Shards, folds: Sequence[Sequence[Run]]) -> Sets:
    """Return the training galaxies that one run of each cross-validation has held out.

    Raises:
        RunError: several runs of a cross-validation held out the same galaxy, or no galaxy was held out once by each
            cross-validation.
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
    """Group runs with the same recipe and number of members into cross-validations."""
    groups: list[list[Run]] = []
    for run in runs:
        same = (g for g in groups if (g[0].recipe.table, g[0].members) == (run.recipe.table, run.members))
        if (group := next(same, None)) is None:
            groups.append([run])
        else:
            group.append(run)
    return groups


def _open(source: Shards, shards: tuple[Shard, ...]) -> Subset:
    return Subset(source, shards, source.samples(shards))


def _first(shards: tuple[Shard, ...], num_samples: int) -> tuple[Shard, ...]:
    """Return the first shards, as few as hold `num_samples`; all if they hold fewer."""
    ends = np.cumsum([shard.samples for shard in shards])
    return shards[: 1 + int(np.searchsorted(ends, num_samples))]


def _mean_of(run: Run) -> Floats:
    """Return the mean votes of the shards that a run was trained on, shape (answers,); NaN where unknown."""
    means = run.data.vote_mean or (None,) * len(run.data.tree.columns)
    return np.array([np.nan if mean is None else mean for mean in means])


def true_votes(subset: Subset, truth: Path | None, tree: DecisionTree) -> Floats:
    """Return the votes of samples, from the shards or from a table, shape (samples, answers).

    Raises:
        InputError: the table cannot be read, lacks a sample or holds no votes.
    """
    where, votes = f"the {subset.source.split} shards of {subset.source.shard_set.path}", subset.samples.votes
    if truth is not None:
        table = read_votes(truth, tree, allow_missing=True)
        where, votes = str(truth), votes_of_ids(table, subset.samples.keys.tolist(), str(truth))
    if np.isnan(votes).all():
        raise ShardError(f"no votes in {where} to evaluate on; give a table of them with --truth VOTES.csv")
    return votes
