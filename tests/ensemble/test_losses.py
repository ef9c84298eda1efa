import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ensemble.losses import LOSSES, Bce, Loss, Mse, Rmse

NAN = float("nan")


@pytest.fixture
def predicted() -> Tensor:
    return torch.rand(6, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()


@pytest.fixture
def votes() -> Tensor:
    return torch.rand(6, 5, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", LOSSES.values())
def test_missing_votes_count_as_if_they_were_not_there(kind: type[Loss], predicted: Tensor, votes: Tensor) -> None:
    votes[:, 3:] = NAN
    votes[5] = NAN
    loss = kind()(predicted, votes)
    assert torch.allclose(loss, kind()(predicted[:5, :3], votes[:5, :3]))
    loss.backward()
    assert predicted.grad is not None
    assert predicted.grad.isfinite().all()
    assert (predicted.grad[votes.isnan()] == 0).all()


@pytest.mark.parametrize("kind", LOSSES.values())
def test_a_batch_without_votes_teaches_nothing(kind: type[Loss], predicted: Tensor, votes: Tensor) -> None:
    loss = kind()(predicted, torch.full_like(votes, NAN))
    loss.backward()
    assert loss.item() < 1e-5
    assert predicted.grad is not None
    assert (predicted.grad == 0).all()


def test_losses_are_what_torch_calls_by_the_same_name(predicted: Tensor, votes: Tensor) -> None:
    assert torch.allclose(Mse()(predicted, votes), F.mse_loss(predicted, votes))
    assert torch.allclose(Rmse()(predicted, votes), F.mse_loss(predicted, votes).sqrt())
    assert torch.allclose(Bce()(predicted, votes), F.binary_cross_entropy(predicted, votes))


def test_the_root_has_a_finite_slope_where_the_error_is_zero(predicted: Tensor) -> None:
    Rmse()(predicted, predicted.detach()).backward()
    assert predicted.grad is not None
    assert predicted.grad.isfinite().all()
