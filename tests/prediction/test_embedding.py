"""Embeddings are what the last layer of a network gets."""

import pytest
import torch

from ensemble.networks import Cnn, Timm
from galaxy_zoo.errors import RunError
from prediction.embedding import Embedder

NETWORKS = [
    (Cnn(channels=(4,), kernels=(3,), hidden=(6,)), 6),
    (Cnn(channels=(4,), kernels=(3,), features="mean"), 4),
    (Timm(model="resnet18", pretrained=False), 512),
    (Timm(model="mobilenetv3_small_050", pretrained=False), 1024),
]


def test_an_embedding_is_what_the_last_layer_gets(subtests: pytest.Subtests) -> None:
    for network, features in NETWORKS:
        with subtests.test(network=network):
            torch.manual_seed(0)
            module = network.build(size_px=32, outputs=5, pretrained=False).eval()
            embedder = Embedder(module, remedy="")
            with torch.no_grad():
                logits = module(torch.rand(3, 3, 32, 32))
            embedding = embedder.take()
            assert embedding.shape == (3, features)
            last = [layer for layer in module.modules() if isinstance(layer, torch.nn.Linear)][-1]
            torch.testing.assert_close(torch.nn.functional.linear(embedding, last.weight, last.bias), logits)


def test_a_network_without_a_linear_layer_has_no_embedding() -> None:
    with pytest.raises(RunError, match="no linear layer, so no embedding; omit it"):
        Embedder(torch.nn.Conv2d(3, 5, 1), remedy="omit it")
