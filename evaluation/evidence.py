"""What a report is built from: galaxies, their true votes, and the predictions of runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from galaxy_zoo.scores import DEFAULT, Resampling
from galaxy_zoo.tree import DecisionTree
from galaxy_zoo.votes import Floats
from pipeline.shards import Samples
from training.run import Run

ALL_RUNS = "all runs"


@dataclass(frozen=True)
class Scored:
    """Galaxies with true votes, float, shape (galaxies, answers); missing votes are NaN."""

    galaxies: Samples
    votes: Floats


@dataclass(frozen=True, kw_only=True)
class RunVotes:
    """Votes that the members of a run predict.

    folds: the other runs of the same cross-validation, each of which predicts the galaxies it held out.
    validation: float32, shape (members, views, galaxies, answers).
    training: the same for training galaxies, from the plain view, shape (members, 1, galaxies, answers); None if
        unknown.
    """

    name: str
    run: Run
    validation: Floats
    training: Floats | None = None
    folds: tuple[Run, ...] = ()

    @cached_property
    def members(self) -> Floats:
        """Mean of each member over the views, shape (members, galaxies, answers)."""
        means: Floats = self.validation.mean(axis=1)
        return means

    @cached_property
    def blend(self) -> Floats:
        """Mean over members and views, shape (galaxies, answers)."""
        mean: Floats = self.members.mean(axis=0)
        return mean


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Everything that the sections of a report use.

    validation: galaxies that no run was trained on or, in a cross-validation, not the run that predicts them.
    training: about as many galaxies that all runs were trained on; None if the shards are not those of the training.
    mean_votes: mean votes of the training galaxies, the baseline, shape (answers,).
    has_chosen_epochs: whether the best epoch of a member was chosen on the validation galaxies.
    """

    tree: DecisionTree
    validation: Scored
    training: Scored | None
    mean_votes: Floats
    predictions: tuple[RunVotes, ...]
    resampling: Resampling = DEFAULT
    has_chosen_epochs: bool = False

    @cached_property
    def baseline(self) -> Floats:
        """Mean votes as the prediction for every galaxy, shape (galaxies, answers)."""
        return np.broadcast_to(np.nan_to_num(self.mean_votes), self.validation.votes.shape)

    @cached_property
    def members(self) -> Floats:
        """All members of all runs, shape (members, galaxies, answers)."""
        return np.concatenate([each.members for each in self.predictions])

    @cached_property
    def blends(self) -> Mapping[str, Floats]:
        """Name -> predicted votes of each run and, if there are several, of all runs together (last)."""
        blends = {each.name: each.blend for each in self.predictions}
        if len(blends) > 1:
            blends[ALL_RUNS] = self.members.mean(axis=0)
        return blends

    @property
    def main(self) -> tuple[str, Floats]:
        """Blend that the report is about: that of all runs. It is fixed beforehand, not chosen by its score."""
        return list(self.blends.items())[-1]

    @cached_property
    def plain(self) -> Floats:
        """Blend of all members from the plain view alone, shape (galaxies, answers)."""
        mean: Floats = np.concatenate([each.validation[:, 0] for each in self.predictions]).mean(axis=0)
        return mean

    @cached_property
    def training_plain(self) -> Floats | None:
        """Like `plain`, for the training galaxies."""
        parts = [each.training[:, 0] for each in self.predictions if each.training is not None]
        return np.concatenate(parts).mean(axis=0) if parts else None

    @cached_property
    def spread(self) -> Floats:
        """Standard deviation over members and views, shape (galaxies, answers)."""
        every = [each.validation.reshape(-1, *self.validation.votes.shape) for each in self.predictions]
        deviations: Floats = np.concatenate(every).std(axis=0)
        return deviations
