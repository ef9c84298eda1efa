"""Heads: logits of shape (batch, answers) to votes in [0, 1] of the same shape, in float32."""

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from galaxy_zoo.tree import DecisionTree

EPSILON = 1e-12
"""Keeps the divisive form from 0 / 0. Source: Dieleman 2014, kaggle-galaxies."""


class Head(Protocol):
    """The description of a head in a recipe."""

    def build(self, tree: DecisionTree) -> nn.Module:
        """Make the head for the answers of `tree`."""


@dataclass(frozen=True)
class Sigmoid:
    """Each answer on its own; does not obey the tree."""

    def build(self, tree: DecisionTree) -> nn.Module:  # noqa: ARG002
        """See `Head`."""
        return nn.Sigmoid()


@dataclass(frozen=True)
class Tree:
    """Votes that obey the tree: each question normalised to 1, then times the votes of its parent.

    form: "softmax", or "divisive": ReLU, divided by the question's sum.
    """

    form: Literal["softmax", "divisive"] = "softmax"

    def build(self, tree: DecisionTree) -> nn.Module:
        """See `Head`."""
        return TreeHead(tree, self.form)


HEADS: dict[str, type[Head]] = {"sigmoid": Sigmoid, "tree": Tree}


class TreeHead(nn.Module):
    """Logits to votes whose questions sum to their parents' votes.

    Source: Dieleman, Willett & Dambre 2015, MNRAS 450, 1441 (the divisive form and the ordered rescaling).
    """

    def __init__(self, tree: DecisionTree, form: Literal["softmax", "divisive"]) -> None:
        super().__init__()
        self._tree = tree
        self._shares = _softmax if form == "softmax" else _divisive

    def forward(self, logits: Tensor) -> Tensor:
        """Votes of shape (batch, answers), in the order of the tree's columns."""
        votes: list[Tensor] = [logits] * len(self._tree.questions)
        columns = self._tree.slices
        owner = {c: (q, c - s.start) for q, s in enumerate(columns) for c in range(s.start, s.stop)}
        for question in self._tree.order:
            shares = self._shares(logits[:, columns[question]])
            parent = self._tree.parents[question]
            if parent is not None:
                asked, answer = owner[parent]
                shares = shares * votes[asked][:, answer, None]
            votes[question] = shares
        return torch.cat(votes, dim=1)


def _softmax(logits: Tensor) -> Tensor:
    return logits.softmax(dim=1)


def _divisive(logits: Tensor) -> Tensor:
    """ReLU over the question's sum; where all are 0, equal shares."""
    positive = logits.relu() + EPSILON
    return positive / positive.sum(dim=1, keepdim=True)
