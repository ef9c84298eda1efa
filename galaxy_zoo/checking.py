"""The reference that predictions are checked against: the expected ids and the true votes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from galaxy_zoo.labels import read_votes
from galaxy_zoo.scores import describe_scores
from galaxy_zoo.submission import read_ids, votes_of_ids
from galaxy_zoo.tree import DecisionTree
from galaxy_zoo.votes import Floats, rmse


@dataclass(frozen=True)
class Reference:
    """The ids that a submission should hold, and the true votes by id; either is None if unknown.

    where: name of the table of true votes in errors.
    """

    ids: list[str] | None
    truth: pd.DataFrame | None
    where: str

    @property
    def is_empty(self) -> bool:
        """Whether neither ids nor votes are known."""
        return self.ids is None and self.truth is None

    def describe(self, ids: Sequence[str], votes: Floats, tree: DecisionTree) -> list[str]:
        """Return lines with the scores of `votes` and of the mean true votes; no lines without true votes.

        Args:
            votes: shape (galaxies, answers).

        Raises:
            SubmissionError: a predicted galaxy has no true votes.
        """
        if self.truth is None:
            return []
        order = sorted(range(len(ids)), key=ids.__getitem__)  # intervals depend on it
        ids, votes = [ids[each] for each in order], votes[order]
        true = votes_of_ids(self.truth, ids, self.where)
        others = len(self.truth) - len(ids)
        lines = [f"{others:,} galaxies of {self.where} are not predicted"] if others else []
        overall, *by_question = describe_scores(votes, true, tree)
        return [*lines, overall, *_describe_mean(true), *by_question]


def read_reference(ids: Path | None, truth: Path | None, tree: DecisionTree) -> Reference:
    """Read the files of ids and of true votes that are given.

    Raises:
        SubmissionError: the file of ids holds no ids.
        LabelError: the table of true votes cannot be read.
    """
    return Reference(
        None if ids is None else read_ids(ids, tree),
        None if truth is None else read_votes(truth, tree, allow_missing=True),
        str(truth),
    )


def _describe_mean(true: Floats) -> Iterator[str]:
    """Yield a line with the score of the mean votes; none where no vote is present."""
    present = ~np.isnan(true)
    if present.any():
        mean = np.where(present, true, 0).sum(axis=0) / np.maximum(present.sum(axis=0), 1)
        score = rmse(np.broadcast_to(mean, true.shape), true)
        yield f"RMSE {score:.5f} if every galaxy got the mean true votes"
