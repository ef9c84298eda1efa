"""How fast predict.py is with all its test-time views."""

import torch

from benchmarks.gpu_results import Result, measured
from benchmarks.gpu_setup import Setup
from ensemble.model import Predictor, build_network
from galaxy_zoo.manifest import read_manifest
from pipeline.augment import FixedViews, rotations_and_flips
from pipeline.loader import Decoding, Loader, Sampling
from prediction.passes import Seer, predict_part

RECIPE = "ng_resnet50"
NUM_VIEWS = 16
BATCH_SIZE = 128
KAGGLE_TEST = 79_975
"""Galaxies of the challenge's test set."""


def predict(setup: Setup) -> list[Result]:
    """One member with random weights over the training samples."""
    recipe, num_views = setup.recipe(RECIPE), 4 if setup.quick else NUM_VIEWS
    network = build_network(recipe, read_manifest(setup.shards).tree, pretrained=False)
    member = Seer(Predictor(network, torch.device(setup.device)))
    views = FixedViews(recipe.view, rotations_and_flips(num_views))
    size = setup.batch_size if setup.quick else BATCH_SIZE
    sampling, decoding = Sampling(batch_size=size, shuffle=False), Decoding(device=setup.device)
    with Loader(setup.samples(), views, sampling, decoding) as loader:
        rates = setup.rates(lambda run: len(predict_part([member], loader.epoch(0))["ids"]))  # noqa: ARG005
    what = f"{RECIPE}, {recipe.view.size_px} px, {num_views} views"
    return [
        measured(what, "galaxies/s", rates),
        measured(what, "views/s", [num_views * rate for rate in rates]),
        measured(f"{KAGGLE_TEST:,} galaxies (extrapolated)", "s", [KAGGLE_TEST / rate for rate in rates]),
    ]
