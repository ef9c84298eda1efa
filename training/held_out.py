"""The fold held out: scores of members on it, and the best epoch of each member."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ensemble.model import predict_views
from galaxy_zoo.errors import RunError
from galaxy_zoo.scores import scores_by_name
from galaxy_zoo.tree import DecisionTree
from galaxy_zoo.votes import Floats
from pipeline.loader import Loader
from training.member import Member
from training.ranks import ALONE, Ranks


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """The fold held out, as plain views.

    loader: None if this rank has no samples of the fold. baseline_rmse: score of the mean votes of the training
    samples. team: ranks that score together.
    """

    loader: Loader | None
    tree: DecisionTree
    baseline_rmse: float
    team: Ranks = ALONE

    def score(self, members: Sequence[Member]) -> list[dict[str, float]]:
        """Return the scores of each member, by name.

        Raises:
            RunError: a prediction is not finite.
        """
        predicted, votes = self.predict(members)
        if not np.isfinite(predicted).all():
            raise RunError("the predictions of a member are not finite; train again with a lower learning rate")
        return [scores_by_name(each, votes, self.tree) for each in predicted]

    def predict(self, members: Sequence[Member]) -> tuple[Floats, Floats]:
        """Return predicted votes, shape (members, samples, answers), and the true ones, shape (samples, answers)."""
        for member in members:
            member.broadcast_buffers()
        predictors, predicted, votes = [member.predictor for member in members], list[Tensor](), list[Tensor]()
        for batch in self.loader.epoch(0) if self.loader is not None else ():
            if len(batch.ids):  # other ranks may have the whole batch
                predicted.append(predict_views(predictors, batch.views)[:, 0])
                votes.append(batch.votes)
        # a GPU is waited for once, at the end
        mine = (torch.cat(predicted, dim=1).cpu().numpy(), torch.cat(votes).cpu().numpy()) if votes else ()
        parts = [part for part in self.team.all_gather_object(mine) if part]
        return np.concatenate([p for p, _ in parts], axis=1), np.concatenate([v for _, v in parts])


@dataclass
class ScoreHistory:
    """History of a member's score; lower is better. rises: number of epochs in a row in which it got worse."""

    best: float = math.inf
    last: float = math.inf
    rises: int = 0

    def add(self, score: float) -> bool:
        """Add the score of an epoch; return whether it is the best so far, which NaN (no fold) always is."""
        self.rises = self.rises + 1 if score > self.last else 0
        self.last = score
        if score >= self.best:
            return False
        self.best = min(self.best, score)  # min keeps its first argument if the score is NaN
        return True
