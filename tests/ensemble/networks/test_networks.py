import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from ensemble.networks.backbones import Timm
from ensemble.networks.convolutional import Cbam, Cnn, LinNet
from ensemble.networks.corners import corner_parts
from ensemble.networks.dieleman import CornerParts, Dieleman, MaxNormLinear, Maxout, Merge
from ensemble.networks.weights import Weights
from galaxy_zoo.errors import RunError


def test_parts_of_a_galaxy_come_together_galaxy_by_galaxy() -> None:
    images = torch.rand(2, 2, 3, 69, 69)
    parts = CornerParts()(images)
    assert parts.shape == (32, 3, 45, 45)
    assert torch.equal(parts[16:], corner_parts(images[1:], 45)[0])
    assert torch.equal(Merge()(parts.flatten(1))[1].view(16, -1), parts[16:].flatten(1))


def test_the_dieleman_network_sees_both_turns_of_each_galaxy() -> None:
    torch.manual_seed(0)
    network = Dieleman(dense=(8,)).build(size_px=69, outputs=5, pretrained=False).eval()
    images = torch.rand(2, 2, 3, 69, 69)
    for turn in (0, 1):
        changed = images.clone()
        changed[1, turn] = 0
        before, after = network(images), network(changed)
        assert torch.equal(before[0], after[0])
        assert not torch.equal(before[1], after[1])


def test_maxout_takes_the_larger_of_neighbours() -> None:
    assert Maxout()(torch.tensor([[1.0, 2.0, 5.0, -1.0]])).tolist() == [[2, 5]]


def test_norms_of_units_are_limited_in_training() -> None:
    layer = MaxNormLinear(8, 4, max_norm=0.3)
    nn.init.constant_(layer.weight, 1.0)
    layer.eval()(torch.rand(2, 8))
    assert layer.weight.detach().norm(dim=1)[0] == pytest.approx(math.sqrt(8))
    layer.train()(torch.rand(2, 8)).sum().backward()
    assert torch.allclose(layer.weight.norm(dim=1), torch.full((4,), 0.3), atol=1e-4)


def test_cbam_adds_what_it_attends_to() -> None:
    attention, images = Cbam(4, reduction=2), torch.randn(2, 4, 6, 6)
    channel = attention.channel(images) / images
    assert torch.allclose(channel, channel[:, :, :1, :1].expand_as(channel), atol=1e-4)
    added = (attention(images) - images) / attention.channel(images)
    assert torch.allclose(added, added[:, :1].expand_as(added), atol=1e-3)
    assert 0 < added.min() < added.max() < 1


def test_a_pool_of_maxima_may_come_before_the_relu_or_after() -> None:
    after, before = (
        Cnn(channels=(4, 8), kernels=(3, 3), pool_first=first).build(size_px=12, outputs=2, pretrained=False)
        for first in (False, True)
    )
    before.load_state_dict(dict(zip(before.state_dict(), after.state_dict().values(), strict=True)))
    images = torch.rand(2, 3, 12, 12)
    assert torch.equal(after(images), before(images))


def test_a_block_without_a_pool_keeps_the_size() -> None:
    network = Cnn(channels=(4, 4, 4), kernels=(3, 3, 3), pools=("none", "max", "none"))
    built = network.build(size_px=12, outputs=2, pretrained=False)
    assert built[-1].in_features == 4 * 6 * 6


def test_batch_norm_counts_pooled_pixels_where_the_pool_comes_first() -> None:
    network = Cnn(channels=(4,), kernels=(3,), batch_norm=True, pool_first=True).build(
        size_px=12, outputs=2, pretrained=False
    )
    shapes = []
    norm = next(layer for layer in network if isinstance(layer, nn.BatchNorm2d))
    norm.register_forward_hook(lambda _, inputs, __: shapes.append(inputs[0].shape))
    network(torch.rand(2, 3, 12, 12))
    assert shapes == [(2, 4, 6, 6)]


def test_a_grey_network_looks_at_one_channel() -> None:
    for kind in (Cnn(channels=(4,), kernels=(3,), grey=True), LinNet((8,), grey=True)):
        network = kind.build(size_px=8, outputs=3, pretrained=False).eval()
        images = torch.rand(2, 3, 8, 8)
        assert torch.equal(network(images), network(images[:, :1].expand(-1, 3, -1, -1)))


def test_xavier_weights_are_drawn_from_their_range() -> None:
    network = LinNet((50,), initial="xavier").build(size_px=8, outputs=5, pretrained=False)
    layer = network[1]
    limit = math.sqrt(6 / (192 + 50))
    assert limit * 0.95 < layer.weight.abs().max() <= limit
    assert torch.all(layer.bias == 0.01)


@pytest.fixture
def with_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """timm with random weights in place of downloaded ones."""
    create = timm.create_model
    monkeypatch.setattr(
        timm, "create_model", lambda *args, **options: create(*args, **options | {"pretrained": False})
    )


@pytest.mark.usefixtures("with_weights")
def test_a_frozen_network_learns_in_its_last_layer_only() -> None:
    network = Timm(model="resnet10t", frozen=True).build(size_px=64, outputs=5, pretrained=True).train()
    learning = {name for name, each in network.named_parameters() if each.requires_grad}
    assert learning == {"fc.weight", "fc.bias"}
    before = {name: each.clone() for name, each in network.named_buffers()}
    network(torch.rand(2, 3, 64, 64)).sum().backward()
    assert all(torch.equal(each, before[name]) for name, each in network.named_buffers())


def weights_of(model: str, **options: Any) -> Weights:
    return Weights(Path("own.pth"), timm.create_model(model, **options).state_dict())


MODELS = [("resnet10t", 1000), ("resnet10t", 3), ("convnext_atto", 0), ("deit_tiny_distilled_patch16_224", 1000)]


def test_weights_from_a_file_are_used_in_all_layers_but_the_last(subtests: pytest.Subtests) -> None:
    for model, num_classes in MODELS:
        with subtests.test(model=model, num_classes=num_classes):
            weights = weights_of(model, num_classes=num_classes)
            torch.manual_seed(1)
            own = Timm(model=model, pretrained=False)
            network = own.build(size_px=224, outputs=5, pretrained=False, weights=weights)
            last = tuple(f"{name}." for name in np.atleast_1d(network.pretrained_cfg["classifier"]))
            kept = {name: each for name, each in network.state_dict().items() if not name.startswith(last)}
            assert kept.keys() == {name for name in weights.tensors if not name.startswith(last)}
            assert all(torch.equal(each, weights.tensors[name]) for name, each in kept.items())
            torch.manual_seed(1)
            random = timm.create_model(model, num_classes=5).state_dict()
            new = {name: each for name, each in network.state_dict().items() if name.startswith(last)}
            assert new
            assert all(torch.equal(each, random[name]) and len(each) == 5 for name, each in new.items())


def test_a_transformer_takes_weights_for_images_of_another_size() -> None:
    weights = weights_of("vit_tiny_patch16_224")
    network = Timm(model="vit_tiny_patch16_224").build(size_px=112, outputs=5, pretrained=True, weights=weights)
    assert network(torch.rand(1, 3, 112, 112)).shape == (1, 5)
    assert torch.equal(network.get_parameter("norm.bias"), weights.tensors["norm.bias"])


OTHERS: list[tuple[Callable[[dict], object], str]] = [
    (lambda given: given.pop("conv1.0.weight"), "missing conv1.0.weight; get model.safetensors of timm"),
    (lambda given: given.update(stem=torch.ones(1)), "unexpected stem;"),
    (lambda given: given.update({"bn1.weight": torch.ones(3)}), r"wrong shapes bn1.weight \[3\] instead of"),
    (lambda given: given.clear() or given.update(vgg=torch.ones(1)), "missing conv1.0.weight, .* more; un"),
]


def test_weights_of_another_network_are_named_in_one_line(subtests: pytest.Subtests) -> None:
    for change, words in OTHERS:
        with subtests.test(words):
            weights = weights_of("resnet10t")
            change(weights.tensors)
            with pytest.raises(RunError, match=words) as raised:
                Timm(model="resnet10t").build(size_px=64, outputs=5, pretrained=True, weights=weights)
            assert str(raised.value).startswith("own.pth: not weights of resnet10t: ")
            assert len(str(raised.value).splitlines()) == 1


def test_hidden_layers_take_the_place_of_the_last() -> None:
    network = Timm(model="resnet10t", hidden=(7,), dropout=0.5).build(size_px=64, outputs=5, pretrained=False)
    assert [type(layer) for layer in network.get_classifier()] == [nn.Linear, nn.ReLU, nn.Dropout, nn.Linear]
    votes: Tensor = network(torch.rand(2, 3, 64, 64))
    assert votes.shape == (2, 5)


def test_an_image_size_a_network_does_not_take_is_named() -> None:
    with pytest.raises(RunError, match="69 px, not 64"):
        Dieleman().build(size_px=64, outputs=5, pretrained=False)
