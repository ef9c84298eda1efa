import pytest
import torch
from torch import nn

from ensemble.networks.equivariant import GroupBatchNorm2d, GroupCnn, GroupName, elements, turn
from galaxy_zoo.errors import RunError

SIZE = 24


def network(group: GroupName, pools: int = 2) -> nn.Module:
    """In double precision and with statistics of batch norm that are not those it starts with."""
    torch.manual_seed(0)
    made = (
        GroupCnn(channels=(4, 6, 8), kernels=(5, 3, 3), pools=pools, hidden=10, group=group)
        .build(size_px=SIZE, outputs=3, pretrained=False)
        .double()
    )
    for _ in range(3):
        made(torch.rand(8, 3, SIZE, SIZE).double())
    return made.eval()


def test_votes_do_not_change_with_the_orientations_of_the_group(subtests: pytest.Subtests) -> None:
    for turned in elements("p4m"):
        for group in ["p4", "p4m"]:
            with subtests.test(turned=turned, group=group):
                made, images = network(group), torch.rand(2, 3, SIZE, SIZE).double()
                same = torch.allclose(made(turn(images, turned)), made(images), atol=1e-12)
                assert same == (turned in elements(group))


def test_maps_turn_with_the_image_and_change_places() -> None:
    first = network("p4m")[0]
    images = torch.rand(1, 3, SIZE, SIZE).double()
    maps = first(images).reshape(4, 8, SIZE, SIZE)
    turned = first(turn(images, (0, 1))).reshape(4, 8, SIZE, SIZE)
    assert torch.allclose(turned[:, 1:4], turn(maps, (0, 1))[:, 0:3])


def test_running_statistics_are_those_of_the_maps_together() -> None:
    norm = GroupBatchNorm2d(2, 4)
    norm.momentum = 1.0
    images = torch.rand(16, 8, 5, 5) * torch.tensor([1.0] * 4 + [3.0] * 4).reshape(1, 8, 1, 1)
    normalised = norm(images)
    of_channels = images.unflatten(1, (2, 4))
    assert torch.allclose(norm.running_mean, of_channels.mean(dim=(0, 2, 3, 4)))
    assert torch.allclose(norm.running_var, of_channels.var(dim=(0, 3, 4)).mean(dim=1))
    assert normalised.mean(dim=(0, 2, 3)).abs().max() < 1e-5


def test_every_weight_is_trained_also_by_a_last_batch_of_one_image() -> None:
    for batch in (4, 1):
        made = network("p4m").train()
        made(torch.rand(batch, 3, SIZE, SIZE).double()).square().sum().backward()
        assert all(each.grad is not None and each.grad.abs().sum() > 0 for each in made.parameters())


def test_a_view_that_pools_would_cut_at_one_side_is_refused() -> None:
    with pytest.raises(RunError, match="multiple of 8 px, not 20"):
        GroupCnn(channels=(4, 4, 4), kernels=(3, 3, 3), pools=3, hidden=8).build(
            size_px=20, outputs=3, pretrained=False
        )


NO_NETWORKS = [
    ({"kernels": (3, 3)}, "1 channels for 2 kernels"),
    ({"kernels": (4,)}, "must be odd"),
    ({"pools": 2}, "from 0 to 1"),
    ({"channels": (0,)}, "channels must be from 1"),
]


def test_values_that_make_no_network_are_refused(subtests: pytest.Subtests) -> None:
    for values, message in NO_NETWORKS:
        with subtests.test(values=values), pytest.raises(ValueError, match=message):
            GroupCnn(**{"channels": (4,), "kernels": (3,), "pools": 0, "hidden": 8} | values)
