"""Walk down the tree along the answers with the most votes, given by volunteers or by a network."""

from dataclasses import dataclass

import numpy as np

from galaxy_zoo.tree import DecisionTree
from galaxy_zoo.votes import Floats


@dataclass(frozen=True, kw_only=True)
class ChosenAnswer:
    """The answer chosen at one question.

    votes: fraction of all voters. share: fraction of the voters who were asked the question.
    """

    question: str
    answer: str
    votes: float
    share: float


def walk(votes: Floats, tree: DecisionTree) -> list[ChosenAnswer]:
    """Return the answers with the most votes from the first question down, parents first.

    A question that lacks a vote or that nobody answered ends its branch.

    Args:
        votes: votes of one galaxy, shape (answers,).
    """
    first, *_ = tree.order
    steps, chosen = [], set()
    for number in tree.order:
        question, columns = tree.questions[number], tree.slices[number]
        mine = votes[columns]
        if (number == first or tree.parents[number] in chosen) and mine.max() > 0:  # NaN compares false
            best = int(np.argmax(mine))
            chosen.add(columns.start + best)
            steps.append(
                ChosenAnswer(
                    question=question.name,
                    answer=question.answers[best],
                    votes=float(mine[best]),
                    share=float(mine[best] / mine.sum()),
                )
            )
    return steps


def describe_walk(votes: Floats, tree: DecisionTree) -> str:
    """Describe a walk in one line with shares, as in "features or disk 0.83 -> not edge-on 0.91 -> spiral 0.77"."""
    return " -> ".join(f"{step.answer} {step.share:.2f}" for step in walk(votes, tree))
