"""Who predicts what, how members are blended, and what is written of it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ensemble.networks import Cnn, Timm
from galaxy_zoo.errors import OutputError, RunError
from galaxy_zoo.manifest import Shard
from prediction import parquet
from prediction.blending import blend_members
from prediction.embedding import Embedder
from prediction.parquet import open_table
from prediction.parts import Spool
from prediction.passes import Block, by_unseen
from training.ranks import Ranks


def shards(count: int) -> list[Shard]:
    return [Shard(f"train-{number}.tar", 10, 0, "", "") for number in range(count)]


@given(st.lists(st.sets(st.integers(0, 7)), min_size=1, max_size=5))
def test_each_shard_is_predicted_once_by_exactly_the_members_that_have_not_seen_it(unseen: list[set[int]]) -> None:
    names = [frozenset(f"train-{number}.tar" for number in each) for each in unseen]
    found = {shard.name: group.members for group in by_unseen(shards(8), names) for shard in group.shards}
    expected = {
        shard.name: tuple(member for member, each in enumerate(names) if shard.name in each) for shard in shards(8)
    }
    assert found == {name: members for name, members in expected.items() if members}
    groups = by_unseen(shards(8), names)
    assert sum(group.num_galaxies for group in groups) == 10 * len(found)
    assert len({group.members for group in groups}) == len(groups)


@given(st.lists(st.integers(), max_size=30), st.integers(1, 9))
def test_ranks_share_all_values_evenly_in_their_order(values: list[int], world_size: int) -> None:
    shares = [Ranks(rank, world_size).share(values) for rank in range(world_size)]
    assert [each for share in shares for each in share] == values
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def block(members: tuple[int, ...], galaxies: int = 7, seed: int = 0) -> Block:
    rng = np.random.default_rng(seed)
    shape = (len(members), galaxies, 4)
    mean, variance = rng.random(shape).astype(np.float32), rng.random(shape).astype(np.float32)
    return Block(np.array([f"{seed}-{each}" for each in range(galaxies)]), members, mean, variance, ())


def test_spreads_of_views_and_of_members_add_up_to_the_spread_of_all_predictions() -> None:
    """For equal weights: the variance over members x views is that between plus the mean one within."""
    views = np.random.default_rng(0).random((3, 8, 7, 4)).astype(np.float32)
    some = Block(np.arange(7).astype(str), (0, 1, 2), views.mean(axis=1), views.var(axis=1), ())
    blended = blend_members(some, np.ones(3))
    np.testing.assert_allclose(blended.votes, views.mean(axis=(0, 1)), rtol=1e-5)
    total = blended.view_spread**2 + blended.member_spread**2
    np.testing.assert_allclose(total, views.var(axis=(0, 1)), rtol=1e-4)


def test_weights_are_those_of_the_members_of_the_block_alone() -> None:
    some = block((1, 3))
    blended = blend_members(some, np.array([9.0, 0.1, 9.0, 0.3]))
    np.testing.assert_allclose(blended.votes, 0.25 * some.mean[0] + 0.75 * some.mean[1], rtol=1e-5)


def test_rows_are_written_in_groups_and_never_more_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP", 10)
    vectors = np.arange(25 * 7 * 3, dtype=np.float32).reshape(25, 7, 3)
    with open_table(tmp_path / "t.parquet", {"what": "a test"}) as table:
        for number, each in enumerate(vectors):
            table.add({"id": np.array([f"{number}-{row}" for row in range(7)]), "vector": each})
    written = pq.ParquetFile(tmp_path / "t.parquet")
    assert [written.metadata.row_group(at).num_rows for at in range(written.num_row_groups)] == [14] * 12 + [7]
    assert written.schema_arrow.metadata[b"what"] == b"a test"
    rows = pd.read_parquet(tmp_path / "t.parquet")
    np.testing.assert_array_equal(np.stack(rows["vector"]), vectors.reshape(-1, 3))
    assert rows["id"].tolist() == [f"{number}-{row}" for number in range(25) for row in range(7)]


def test_a_table_that_is_not_finished_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError), open_table(tmp_path / "t.parquet") as table:
        table.add({"id": np.array(["1"])})
        raise KeyError
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("network", "features"),
    [
        (Cnn(channels=(4,), kernels=(3,), hidden=(6,)), 6),
        (Cnn(channels=(4,), kernels=(3,), features="mean"), 4),
        (Timm(model="resnet18", pretrained=False), 512),
        (Timm(model="mobilenetv3_small_050", pretrained=False), 1024),
    ],
)
def test_an_embedding_is_what_the_last_layer_gets(network: Cnn | Timm, features: int) -> None:
    torch.manual_seed(0)
    module = network.build(size_px=32, outputs=5, pretrained=False).eval()
    embedder = Embedder(module)
    with torch.no_grad():
        logits = module(torch.rand(3, 3, 32, 32))
    embedding = embedder.take()
    assert embedding.shape == (3, features)
    last = [layer for layer in module.modules() if isinstance(layer, torch.nn.Linear)][-1]
    torch.testing.assert_close(torch.nn.functional.linear(embedding, last.weight, last.bias), logits)


def test_a_network_without_a_linear_layer_has_no_embedding() -> None:
    with pytest.raises(RunError, match="no linear layer"):
        Embedder(torch.nn.Conv2d(3, 5, 1))


def test_a_spool_goes_on_by_the_same_key_only_and_goes_when_it_holds_no_parts(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "out.csv")
    with spool.locked():
        assert spool.begin({"views": 1, "seed": [2]}) == 0
        spool.write("a", {"ids": ["7"], "votes": torch.ones(2)})
        assert spool.is_whole("a")
        assert not spool.is_whole("b")
    with spool.locked():
        with pytest.raises(OutputError, match=r"1 finished parts .* \(of another seed\)"):
            spool.begin({"views": 1, "seed": [3]})
        assert spool.begin({"views": 1, "seed": [2]}) == 1
        assert spool.read("a")["ids"] == ["7"]
        spool.end()
    assert not spool.folder.exists()
