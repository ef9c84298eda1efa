"""Heads: logits of shape (batch, answers) to votes of the same shape, in float32; in [0, 1] outside training.

A linear layer for each question is one linear layer seen in slices, so it needs no kind of its own.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from galaxy_zoo.tree import DecisionTree

EPSILON = 1e-12
"""Keeps the divisive form from 0 / 0. Source: Dieleman 2014, kaggle-galaxies."""

LOWEST, SPREAD = 1.0, 100.0
"""Concentrations are between LOWEST and LOWEST + SPREAD. Source: Walmsley et al. 2022, MNRAS 509, 3966, and Zoobot."""


class Head(Protocol):
    """The description of a head in a recipe."""

    def build(self, tree: DecisionTree) -> nn.Module:
        """Make the head for the answers of `tree`."""


@dataclass(frozen=True)
class Sigmoid:
    """Each answer on its own, so the votes do not obey the tree."""

    def build(self, tree: DecisionTree) -> nn.Module:  # noqa: ARG002
        """See `Head`."""
        return nn.Sigmoid()


@dataclass(frozen=True)
class Linear:
    """The logits themselves, without an activation. Outside training they are clipped to [0, 1], as votes are."""

    def build(self, tree: DecisionTree) -> nn.Module:  # noqa: ARG002
        """See `Head`."""
        return LinearHead()


@dataclass(frozen=True)
class Tree:
    """Votes that obey the tree: each question normalised to 1, then times the votes of its parent.

    form: "softmax", or "divisive": ReLU, divided by the question's sum.
    """

    form: Literal["softmax", "divisive"] = "softmax"

    def build(self, tree: DecisionTree) -> nn.Module:
        """See `Head`."""
        return TreeHead(tree, self.form)


@dataclass(frozen=True)
class Dirichlet:
    """Concentrations of a Dirichlet distribution for each question, trained on voter counts.

    It returns the concentrations in training, for loss "dirichlet_multinomial", and the expected votes otherwise.
    """

    def build(self, tree: DecisionTree) -> nn.Module:
        """See `Head`."""
        return DirichletHead(tree)


HEADS: dict[str, type[Head]] = {"sigmoid": Sigmoid, "linear": Linear, "tree": Tree, "dirichlet": Dirichlet}


class LinearHead(nn.Module):
    """Pass logits on in training, clip them to [0, 1] otherwise."""

    def forward(self, logits: Tensor) -> Tensor:
        """Return shape (batch, answers)."""
        return logits if self.training else logits.clamp(0, 1)


class TreeHead(nn.Module):
    """Logits to votes whose questions sum to their parents' votes.

    Source: Dieleman, Willett & Dambre 2015, MNRAS 450, 1441 (the divisive form and the ordered rescaling).
    """

    def __init__(self, tree: DecisionTree, form: Literal["softmax", "divisive"]) -> None:
        super().__init__()
        self._tree = tree
        self._shares = _softmax if form == "softmax" else _divisive

    def forward(self, logits: Tensor) -> Tensor:
        """Return votes, shape (batch, answers), in the order of the tree's columns."""
        return votes_of_shares([self._shares(logits[:, columns]) for columns in self._tree.slices], self._tree)


class DirichletHead(nn.Module):
    """Turn logits into concentrations in training, into their expected votes otherwise."""

    def __init__(self, tree: DecisionTree) -> None:
        super().__init__()
        self._tree = tree

    def forward(self, logits: Tensor) -> Tensor:
        """Return concentrations or votes, shape (batch, answers)."""
        concentrations = LOWEST + SPREAD * logits.sigmoid()
        if self.training:
            return concentrations
        questions = [concentrations[:, columns] for columns in self._tree.slices]
        return votes_of_shares([each / each.sum(dim=1, keepdim=True) for each in questions], self._tree)


def votes_of_shares(shares: list[Tensor], tree: DecisionTree) -> Tensor:
    """Multiply each question's shares, which sum to 1, by the votes of its parent; return shape (batch, answers)."""
    votes = list(shares)
    owner = {c: (q, c - s.start) for q, s in enumerate(tree.slices) for c in range(s.start, s.stop)}
    for question in tree.order:
        parent = tree.parents[question]
        if parent is not None:
            asked, answer = owner[parent]
            votes[question] = shares[question] * votes[asked][:, answer, None]
    return torch.cat(votes, dim=1)


def _softmax(logits: Tensor) -> Tensor:
    return logits.softmax(dim=1)


def _divisive(logits: Tensor) -> Tensor:
    """Divide ReLU by the question's sum; return equal shares where all are 0."""
    positive = logits.relu() + EPSILON
    return positive / positive.sum(dim=1, keepdim=True)
