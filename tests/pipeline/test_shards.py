import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from making import NUM_TRAIN

from galaxy_zoo.errors import ShardError
from galaxy_zoo.fold import Fold
from pipeline.shards import open_shards


@pytest.fixture
def copy(shards: Path, tmp_path: Path) -> Path:
    return shutil.copytree(shards, tmp_path / "shards")


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


def test_more_folds_than_shards_are_refused(shards: Path) -> None:
    with pytest.raises(ShardError, match="11 folds of 10 shards"):
        open_shards(shards, "train", fold=Fold(0, 11))


def test_an_unknown_split_is_refused(shards: Path) -> None:
    with pytest.raises(ShardError, match="no validation shards; its splits are: t"):
        open_shards(shards, "validation")


def test_a_missing_shard_is_named(copy: Path) -> None:
    (copy / "train-000004.tar").unlink()
    with pytest.raises(ShardError, match=r"train-000004\.tar: the shard is missing"):
        open_shards(copy, "train")


def test_a_truncated_shard_is_named(copy: Path, subtests: pytest.Subtests) -> None:
    for size in [5000, 512, 0]:
        with subtests.test(size=size):
            path = copy / "train-000004.tar"
            path.write_bytes(path.read_bytes()[:size])
            with pytest.raises(ShardError, match=r"train-000004\.tar"):
                open_shards(copy, "train")


def test_a_missing_index_is_named(copy: Path) -> None:
    (copy / "train-000004.idx").unlink()
    with pytest.raises(ShardError, match=r"train-000004\.idx: the index is missing"):
        open_shards(copy, "train")


def test_an_index_of_another_shard_is_refused(copy: Path) -> None:
    shutil.copy(copy / "train-000005.idx", copy / "train-000004.idx")
    with pytest.raises(ShardError, match=r"train-000004\.idx: not the index"):
        open_shards(copy, "train")


def test_a_manifest_of_another_tree_is_refused(copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["tree"]["question"].pop()
    manifest["vote_mean"] = manifest["vote_mean"][:31]
    del manifest["statistics"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ShardError, match="not float32 arrays of 31 answers"):
        open_shards(copy, "train")


def test_a_folder_without_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"no manifest\.json"):
        open_shards(tmp_path, "train")
