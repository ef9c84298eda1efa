from typing import Literal

import numpy as np
import pytest
import torch

from ensemble.heads import Linear, Sigmoid, Tree
from galaxy_zoo.tree import DecisionTree, Question, load_tree
from galaxy_zoo.votes import check_votes, normalise_votes

FORMS: list[Literal["softmax", "divisive"]] = ["softmax", "divisive"]
UPSIDE_DOWN = DecisionTree(
    name="upside-down",
    questions=(
        Question(name="arms", columns=("two", "many"), parent="disk"),
        Question(name="shape", columns=("smooth", "disk")),
    ),
)


def test_the_tree_head_obeys_every_constraint(subtests: pytest.Subtests) -> None:
    for form in FORMS:
        for tree in [load_tree("gz2-kaggle"), load_tree("galaxy10"), UPSIDE_DOWN]:
            for scale in [0.0, 1.0, 30.0]:
                with subtests.test(form=form, tree=tree.name, scale=scale):
                    torch.manual_seed(0)
                    votes = Tree(form).build(tree)(scale * torch.randn(500, len(tree.columns)))
                    assert votes.min() >= 0
                    assert check_votes(votes.double().numpy(), tree, tolerance=1e-6) == []


def test_the_divisive_form_is_normalised_rectified_logits() -> None:
    tree = load_tree("gz2-kaggle")
    logits = torch.rand(20, 37)
    votes = Tree("divisive").build(tree)(logits).numpy()
    assert np.allclose(votes, normalise_votes(logits.numpy(), tree), atol=1e-6)


def test_the_tree_head_passes_gradients(subtests: pytest.Subtests) -> None:
    for form in FORMS:
        with subtests.test(form=form):
            logits = torch.rand(4, 37, requires_grad=True)
            Tree(form).build(load_tree("gz2-kaggle"))(logits)[:, 36].sum().backward()
            assert logits.grad is not None
            assert logits.grad.isfinite().all()
            assert logits.grad.abs().sum() > 0


def test_the_sigmoid_head_treats_answers_on_their_own() -> None:
    logits = torch.randn(4, 37)
    assert torch.equal(Sigmoid().build(load_tree("gz2-kaggle"))(logits), torch.sigmoid(logits))


def test_the_linear_head_learns_from_the_logits_and_predicts_votes() -> None:
    head, logits = Linear().build(load_tree("gz2-kaggle")), 3 * torch.randn(4, 37)
    assert torch.equal(head.train()(logits), logits)
    assert torch.equal(head.eval()(logits), logits.clamp(0, 1))
