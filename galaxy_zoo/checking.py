"""The reference that predictions are checked against: the expected ids and the true votes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from galaxy_zoo.labels import read_votes
from galaxy_zoo.scores import describe_scores
from galaxy_zoo.submission import read_ids, votes_of_ids
from galaxy_zoo.tree import DecisionTree
from galaxy_zoo.votes import Floats


@dataclass(frozen=True)
class Reference:
    """The ids that a submission should hold, and the true votes by id; either is None if unknown.

    where: name of the table of true votes in errors.
    """

    ids: list[str] | None
    truth: pd.DataFrame | None
    where: str

    def describe(self, ids: Sequence[str], votes: Floats, tree: DecisionTree) -> list[str]:
        """Return lines that give the score of `votes`, shape (galaxies, answers); none without true votes.

        Raises:
            SubmissionError: a predicted galaxy has no true votes.
        """
        if self.truth is None:
            return []
        true = votes_of_ids(self.truth, ids, self.where)
        others = len(self.truth) - len(ids)
        lines = [f"{others:,} galaxies of {self.where} are not predicted"] if others else []
        return lines + describe_scores(votes, true, tree)


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
