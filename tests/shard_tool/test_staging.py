"""Packing for a prediction: what it says, predict.py can follow."""

import re
from pathlib import Path

import numpy as np
import pytest
from making import make_image
from PIL import Image

import predict
from galaxy_zoo.errors import SourceError
from galaxy_zoo.tree import load_tree
from shard_tool.staging import for_prediction, stage

TREE = load_tree("gz2-kaggle")
OPTIONS = {option for parameter in predict.main.params for option in parameter.opts}


def only_names_options_of_predict(message: str) -> bool:
    return set(re.findall(r"(?<!\S)--[a-z][a-z-]*", message)) <= OPTIONS


def test_images_that_need_a_stretch_are_packed_before(tmp_path: Path) -> None:
    fits = pytest.importorskip("astropy.io.fits")
    (tmp_path / "images").mkdir()
    fits.PrimaryHDU(np.zeros((8, 8), np.float32)).writeto(tmp_path / "images" / "1.fits")
    with pytest.raises(SourceError, match="need a stretch; pack these images with shard_tool pack") as raised:
        stage(tmp_path / "images", tmp_path / "out", TREE, (8, 8), resize=False, measures=False)
    assert only_names_options_of_predict(str(raised.value))


def test_images_that_are_no_squares_are_packed_before(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.fromarray(make_image(np.random.default_rng(0))[:50]).save(tmp_path / "images" / "1.png")
    with pytest.raises(SourceError, match="not square; pack these images with shard_tool pack") as raised:
        stage(tmp_path / "images", tmp_path / "out", TREE, (64, 64), resize=True, measures=False)
    assert only_names_options_of_predict(str(raised.value))


MESSAGES = [
    ("a.png: 9 x 8 pixels", "a.png: 9 x 8 pixels"),
    ("a; b; scale it with --resize", "a; b; scale it with --resize"),
    ("a; b; pass --pad, or --resize", "a; b; pack these images with shard_tool pack, and predict the shards"),
    ("a; name a folder -- or not", "a; name a folder -- or not"),
]


def test_only_the_last_clause_changes_and_only_where_it_names_an_option(subtests: pytest.Subtests) -> None:
    for message, expected in MESSAGES:
        with subtests.test(expected=expected):
            assert for_prediction(message) == expected
