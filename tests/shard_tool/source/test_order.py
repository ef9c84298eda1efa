"""The order is a permutation told by ids and seed alone; the shards partition it."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from shard_tool.source.order import default_shards, shard_slices, shuffle_key, spread


@given(st.integers(1, 5000), st.integers(1, 200))
def test_shards_partition_the_samples_evenly(samples: int, shards: int) -> None:
    slices = shard_slices(samples, shards)
    assert [i for part in slices for i in range(samples)[part]] == list(range(samples))
    lengths = [part.stop - part.start for part in slices]
    assert len(slices) == min(samples, shards)
    assert max(lengths) - min(lengths) <= 1
    assert min(lengths) >= 1


@given(st.integers(0, 10**12))
def test_the_default_is_a_multiple_of_ten_near_64_mb(image_bytes: int) -> None:
    shards = default_shards(image_bytes, 1000)
    assert shards % 10 == 0
    assert shards == 10 or abs(image_bytes / 64e6 - shards) <= 5


@given(st.integers(1, 10**10))
def test_by_default_a_shard_has_at_most_20_000_samples(samples: int) -> None:
    shards = default_shards(0, samples)
    assert shards % 10 == 0
    assert samples / shards <= 20_000
    assert shards == 10 or samples / (shards - 10) > 20_000


def test_the_key_depends_on_id_and_seed_and_never_changes() -> None:
    assert shuffle_key("100008", 0).hex() == "6025c601831786a24582ab5e7a497583"
    assert len({shuffle_key(each, seed) for each in ("1", "2", "01") for seed in (0, 1, 2**63 - 1)}) == 9


@given(st.integers(0, 1000), st.integers(1, 100))
def test_spread_takes_from_everywhere(samples: int, most: int) -> None:
    indices = spread(samples, most)
    assert len(indices) == min(samples, most)
    assert all(0 <= i < samples for i in indices)
    gaps = [b - a for a, b in pairwise(indices)]
    assert not gaps or max(gaps) - min(gaps) <= 1
