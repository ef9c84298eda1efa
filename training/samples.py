"""The samples of a run: those this rank reads, how often each comes, and the score of their mean votes."""

import click
import numpy as np
import torch
from numpy.typing import NDArray

from galaxy_zoo.errors import RecipeError, RunError, ShardError
from galaxy_zoo.fold import Fold
from galaxy_zoo.strict import suggestion_or_list
from galaxy_zoo.text import shown
from galaxy_zoo.votes import classes_by, rmse
from pipeline.cache import ShardSet
from pipeline.groups import Opened, open_all, open_groups
from pipeline.order import class_shares
from pipeline.shards import Samples
from training.ranks import ALONE, Ranks
from training.run import Run


def open_samples(run: Run, source: ShardSet, fold: Fold | None, ranks: Ranks) -> Opened:
    """Open the samples that this rank reads.

    Raises:
        RunError: there are more ranks than groups of shards.
    """
    if not run.shard_groups:
        return open_all(source, fold=fold)
    if ranks.world_size > run.shard_groups:
        raise RunError(
            f"{ranks.world_size} ranks for the {run.shard_groups} groups of shards that the run was begun with; "
            f"start at most {run.shard_groups}, or begin anew with another --out"
        )
    rank, world_size = ranks.rank, ranks.world_size
    return open_groups(source, fold=fold, num_groups=run.shard_groups, rank=rank, world_size=world_size)


def check_votes(opened: Opened, source: ShardSet, team: Ranks, *, has_fold: bool) -> None:
    """Check that some rank of the team has votes to learn from and, if there is a fold, votes to score on.

    Raises:
        ShardError: no rank has any.
    """
    for some in (opened.samples, opened.held_out) if has_fold else (opened.samples,):
        if not any(team.all_gather_object(some is not None and not np.isnan(some.votes).all())):
            raise ShardError(
                f"{source.path}: no votes at all; pack the images with their labels, or index tars of classes with "
                "their tree: shard_tool index FOLDER --tree TREE --overwrite"
            )


def baseline_rmse(opened: Opened, team: Ranks) -> float:
    """Return the score on the fold of predicting the mean votes of the training samples of all ranks."""
    readers, votes = team if opened.groups else ALONE, opened.samples.votes
    present = ~np.isnan(votes)
    sums = np.stack([present.sum(axis=0), np.where(present, votes, 0).sum(axis=0, dtype=np.float64)])
    count, total = readers.all_reduce(torch.from_numpy(sums)).numpy()
    mine = votes[:0] if opened.held_out is None else opened.held_out.votes
    true = np.concatenate(readers.all_gather_object(mine))
    return rmse(np.broadcast_to(total / np.maximum(count, 1), true.shape), true)


def balanced_shares(run: Run, samples: Samples, *, quiet: bool) -> NDArray[np.float64] | None:
    """Return how often each sample comes in an epoch if the recipe asks for a balance; print it for each answer.

    Raises:
        RecipeError: the tree has no such question, or this rank does not have the votes of all samples.
    """
    training, tree = run.recipe.training, run.data.tree
    name, names = training.balance, [question.name for question in tree.questions]
    if not name:
        return None
    if run.shard_groups:
        raise RecipeError(
            f"recipe {run.recipe.name}: [training] balance takes the votes of all galaxies, which no rank has "
            "with --stick-to-shard; omit that option, or choose a recipe that balances nothing"
        )
    if name not in names:
        hint = suggestion_or_list(name, names)
        raise RecipeError(
            f"recipe {run.recipe.name}: [training] balance: no question {name!r} in {tree.name}{hint}"
        )
    classes = classes_by(samples.votes, tree, names.index(name))
    shares = class_shares(classes, training.balance_strength)
    for index, answer in [*enumerate(tree.questions[names.index(name)].answers), (-1, "unknown")]:
        if (count := int((classes == index).sum())) and not quiet:
            often = shares[classes == index][0]
            line = f"{name}: {answer}: {count:,} galaxies, each {often:.3g} times an epoch on average"
            click.echo(shown(line), err=True)
    return shares
