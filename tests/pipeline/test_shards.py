import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from making import NUM_TRAIN

from galaxy_zoo.errors import ShardError
from galaxy_zoo.fold import Fold
from pipeline.shards import open_shards


def test_samples_are_those_of_the_source_in_another_order(shards: Path, labels: pd.DataFrame) -> None:
    samples = open_shards(shards, "train")
    assert sorted(samples.keys) == sorted(labels.index)
    assert samples.keys.tolist() != labels.index.tolist()
    assert samples.votes.dtype == np.float32
    assert np.allclose(samples.votes, labels.loc[samples.keys.tolist()], atol=1e-7)


def test_jpegs_are_the_bytes_of_the_files(shards: Path, kaggle_folder: Path) -> None:
    samples = open_shards(shards, "train")
    for key, jpeg in zip(samples.keys, samples.jpegs(np.arange(len(samples))), strict=True):
        assert bytes(jpeg) == (kaggle_folder / "images_training_rev1" / f"{key}.jpg").read_bytes()


def test_folds_are_disjoint_and_each_sample_is_held_out_once(shards: Path) -> None:
    held = []
    for index in range(5):
        kept = open_shards(shards, "train", fold=Fold(index, 5))
        out = open_shards(str(shards), fold=f"{index}/5", held_out=True)
        assert not set(kept.keys) & set(out.keys)
        assert len(kept) + len(out) == NUM_TRAIN
        held += out.keys.tolist()
    assert len(held) == len(set(held)) == NUM_TRAIN


def test_folds_and_splits_that_are_not_there_are_refused(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="11 folds of 10 shards"):
        open_shards(shards, "train", fold=Fold(0, 11))
    with pytest.raises(ShardError, match="no validation shards; its splits are: t"):
        open_shards(shards, "validation")
    with pytest.raises(ShardError, match=r"no manifest\.json"):
        open_shards(tmp_path, "train")


def use_the_index_of_another_shard(folder: Path) -> None:
    shutil.copy(folder / "train-000005.idx", folder / "train-000004.idx")


def use_the_manifest_of_another_tree(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["tree"]["question"].pop()
    manifest["vote_mean"] = manifest["vote_mean"][:31]
    del manifest["statistics"]
    (folder / "manifest.json").write_text(json.dumps(manifest))


BROKEN: list[tuple[Callable[[Path], object], str]] = [
    (lambda folder: (folder / "train-000004.tar").unlink(), r"train-000004\.tar: the shard is missing"),
    *((lambda f, n=n: os.truncate(f / "train-000004.tar", n), r"train-000004\.tar") for n in (5000, 512, 0)),
    (lambda folder: (folder / "train-000004.idx").unlink(), r"train-000004\.idx: the index is missing"),
    (use_the_index_of_another_shard, r"train-000004\.idx: not the index"),
    (use_the_manifest_of_another_tree, "not float32 arrays of 31 answers"),
]


def test_shards_that_are_not_whole_are_refused_by_name(
    shards: Path, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    for number, (break_them, message) in enumerate(BROKEN):
        with subtests.test(message, number=number):
            copy = shutil.copytree(shards, tmp_path / str(number))
            break_them(copy)
            with pytest.raises(ShardError, match=message):
                open_shards(copy, "train")
