"""How members are blended, and what is written of it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from prediction import outputs
from prediction.outputs import blend_members, open_table
from prediction.passes import Block


def block(members: tuple[int, ...], galaxies: int = 7, seed: int = 0) -> Block:
    rng = np.random.default_rng(seed)
    shape = (len(members), galaxies, 4)
    mean, variance = rng.random(shape).astype(np.float32), rng.random(shape).astype(np.float32)
    ids = np.array([f"{seed}-{each}" for each in range(galaxies)])
    return Block(ids=ids, members=members, mean=mean, view_variance=variance)


def test_spreads_of_views_and_of_members_add_up_to_the_spread_of_all_predictions() -> None:
    """For equal weights: the variance over members x views is that between plus the mean one within."""
    views = np.random.default_rng(0).random((3, 8, 7, 4)).astype(np.float32)
    some = Block(
        ids=np.arange(7).astype(str), members=(0, 1, 2), mean=views.mean(axis=1), view_variance=views.var(axis=1)
    )
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
    monkeypatch.setattr(outputs, "ROW_GROUP", 10)
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
