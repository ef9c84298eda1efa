"""Heads turn logits, shape (batch, answers), into votes of the same shape, float32, in [0, 1] outside training.

No head has a linear layer for each question: that is one linear layer seen in slices.
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
    """Description of a head in a recipe."""

    def build(self, tree: DecisionTree) -> nn.Module:
        """Build the head for the answers of `tree`."""


@dataclass(frozen=True)
class Sigmoid:
    """A sigmoid of each answer by itself, so votes do not obey the tree."""

    def build(self, tree: DecisionTree) -> nn.Module:  # noqa: ARG002
        """Build the head."""
        return nn.Sigmoid()


@dataclass(frozen=True)
class Linear:
    """The logits themselves, clipped to [0, 1] outside training."""

    def build(self, tree: DecisionTree) -> nn.Module:  # noqa: ARG002
        """Build the head."""
        return LinearHead()


@dataclass(frozen=True)
class Tree:
    """Votes that obey the tree: each question normalised to 1, then times the votes of its parent.

    form: "softmax", or "divisive": a ReLU, divided by its sum over the question.
    """

    form: Literal["softmax", "divisive"] = "softmax"

    def build(self, tree: DecisionTree) -> nn.Module:
        """Build the head."""
        return TreeHead(tree, self.form)


@dataclass(frozen=True)
class Dirichlet:
    """Concentrations of a Dirichlet distribution for each question, trained on voter counts.

    In training it returns the concentrations, for loss "dirichlet_multinomial", otherwise the expected votes.
    """

    def build(self, tree: DecisionTree) -> nn.Module:
        """Build the head."""
        return DirichletHead(tree)


HEADS: dict[str, type[Head]] = {"sigmoid": Sigmoid, "linear": Linear, "tree": Tree, "dirichlet": Dirichlet}


class LinearHead(nn.Module):
    """Pass logits on in training, clip them to [0, 1] otherwise."""

    def forward(self, logits: Tensor) -> Tensor:
        """Return shape (batch, answers)."""
        return logits if self.training else logits.clamp(0, 1)


class TreeHead(nn.Module):
    """Turn logits into votes; the answers of a question sum to the votes of its parent.

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
    """Return ReLU(logits) divided by its sum over the question; equal shares where all are 0."""
    positive = logits.relu() + EPSILON
    return positive / positive.sum(dim=1, keepdim=True)
