import pytest
import torch
from torch import Tensor
from torch.distributions import Beta, Binomial
from torch.nn import functional as F

from ensemble.losses import LOSSES, Bce, CrossEntropy, DirichletMultinomial, Hierarchical, Mse, Rmse
from galaxy_zoo.tree import DecisionTree, Question, load_tree

NAN = float("nan")
SHAPE = Question(name="shape", columns=("smooth", "disk", "star"))
BAR = Question(name="bar", columns=("yes", "no"), parent="disk")
TREE, SHORTER = DecisionTree(name="both", questions=(SHAPE, BAR)), DecisionTree(name="one", questions=(SHAPE,))


@pytest.fixture
def predicted() -> Tensor:
    return torch.rand(6, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()


@pytest.fixture
def votes() -> Tensor:
    return torch.rand(6, 5, generator=torch.Generator().manual_seed(1))


def test_missing_votes_count_as_if_they_were_not_there(
    predicted: Tensor, votes: Tensor, subtests: pytest.Subtests
) -> None:
    for kind in LOSSES.values():
        with subtests.test(kind=kind):
            predicted.grad = None
            votes[:, 3:] = NAN
            votes[5] = NAN
            loss = kind().build(TREE)(predicted, votes)
            assert torch.allclose(loss, kind().build(SHORTER)(predicted[:5, :3], votes[:5, :3]))
            loss.backward()
            assert predicted.grad is not None
            assert predicted.grad.isfinite().all()
            assert (predicted.grad[votes.isnan()] == 0).all()


def test_a_batch_without_votes_teaches_nothing(
    predicted: Tensor, votes: Tensor, subtests: pytest.Subtests
) -> None:
    for kind in LOSSES.values():
        with subtests.test(kind=kind):
            predicted.grad = None
            loss = kind().build(TREE)(predicted, torch.full_like(votes, NAN))
            loss.backward()
            assert loss.item() < 1e-5
            assert predicted.grad is not None
            assert (predicted.grad == 0).all()


def test_losses_are_what_torch_calls_by_the_same_name(predicted: Tensor, votes: Tensor) -> None:
    assert torch.allclose(Mse().build(TREE)(predicted, votes), F.mse_loss(predicted, votes))
    assert torch.allclose(Rmse().build(TREE)(predicted, votes), F.mse_loss(predicted, votes).sqrt())
    assert torch.allclose(Bce().build(TREE)(predicted, votes), F.binary_cross_entropy(predicted, votes))


def test_the_hierarchical_loss_counts_every_question_the_same(predicted: Tensor, votes: Tensor) -> None:
    parts = [F.binary_cross_entropy(predicted[:, q], votes[:, q]) for q in TREE.slices]
    assert torch.allclose(Hierarchical().build(TREE)(predicted, votes), sum(parts))


def test_cross_entropy_of_one_question_is_torchs() -> None:
    tree = load_tree("galaxy10")
    logits = 5 * torch.randn(6, 10, generator=torch.Generator().manual_seed(0))
    classes = torch.arange(6)
    loss = CrossEntropy().build(tree)(logits.softmax(dim=1), F.one_hot(classes, 10).float())
    assert torch.allclose(loss, F.cross_entropy(logits, classes))


def test_cross_entropy_is_lowest_where_the_shares_are_right(predicted: Tensor, votes: Tensor) -> None:
    loss = CrossEntropy().build(TREE)
    right = loss(votes, votes)
    assert loss(predicted, votes) > right
    assert torch.allclose(loss(0.5 * votes, votes), right)  # shares of a question, whatever their sum


def test_the_dirichlet_multinomial_of_two_answers_is_the_beta_binomial() -> None:
    """Against the integral of the binomial likelihood over the Beta distribution."""
    tree = DecisionTree(name="one", questions=(Question(name="bar", columns=("yes", "no")),))
    alpha, counts = torch.tensor([[3.0, 5.0]]), torch.tensor([[7.0, 4.0]])
    loss = DirichletMultinomial(voters=11).build(tree)(alpha, counts / 11)
    shares = torch.linspace(0, 1, 20_001, dtype=torch.float64)[1:-1]
    density = Beta(3.0, 5.0).log_prob(shares).exp() * Binomial(11, shares).log_prob(torch.tensor(7.0)).exp()
    ways = torch.tensor(12.0).lgamma() - torch.tensor(8.0).lgamma() - torch.tensor(5.0).lgamma()
    assert -loss.item() == pytest.approx((torch.trapezoid(density, shares).log() - ways).item(), abs=1e-4)


def test_the_root_has_a_finite_slope_where_the_error_is_zero(predicted: Tensor) -> None:
    Rmse().build(TREE)(predicted, predicted.detach()).backward()
    assert predicted.grad is not None
    assert predicted.grad.isfinite().all()
