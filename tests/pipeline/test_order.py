import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.order import balanced_order, class_shares, epoch_order, num_steps, rank_share

sizes = st.tuples(st.integers(1, 200), st.integers(5, 30), st.integers(1, 5))  # samples, batch, ranks


def shares(samples: int, batch: int, ranks: int) -> list[list[range]]:
    """For each step, each rank's positions."""
    steps = range(num_steps(samples, batch))
    return [[rank_share(samples, s, batch, rank=r, world_size=ranks) for r in range(ranks)] for s in steps]


@given(sizes)
def test_each_position_is_taken_once_over_all_ranks_and_in_order(size: tuple[int, int, int]) -> None:
    taken = [position for step in shares(*size) for share in step for position in share]
    assert taken == list(range(size[0]))


@given(sizes)
def test_ranks_differ_by_one_sample_at_most(size: tuple[int, int, int]) -> None:
    for step in shares(*size):
        counts = [len(share) for share in step]
        assert max(counts) - min(counts) <= 1


@given(sizes)
def test_only_the_last_step_is_short(size: tuple[int, int, int]) -> None:
    _, batch, _ = size
    for step in shares(*size)[:-1]:
        assert sum(map(len, step)) == batch
        assert all(step)


@given(st.integers(0, 500), st.integers(0, 2**32), st.integers(0, 1000))
def test_an_order_is_a_permutation(samples: int, seed: int, epoch: int) -> None:
    assert sorted(epoch_order(samples, seed=seed, epoch=epoch)) == list(range(samples))


def test_orders_repeat_for_a_seed_and_epoch_and_differ_otherwise() -> None:
    order = epoch_order(1000, seed=1, epoch=2)
    assert np.array_equal(order, epoch_order(1000, seed=1, epoch=2))
    assert not np.array_equal(order, epoch_order(1000, seed=2, epoch=2))
    assert not np.array_equal(order, epoch_order(1000, seed=1, epoch=3))


def test_the_order_is_a_global_shuffle() -> None:
    order = epoch_order(61578, seed=0, epoch=0)
    assert abs(np.corrcoef(order, np.arange(len(order)))[0, 1]) < 0.02
    shard_of = order // 6158  # ten shards
    for start in range(0, 61578 - 256, 256 * 30):
        assert len(set(shard_of[start : start + 256])) >= 9


some_classes = st.lists(st.integers(-1, 4), min_size=1, max_size=60).map(np.array)


@given(some_classes, st.floats(0, 1), st.integers(0, 2**32))
def test_a_balanced_epoch_is_as_long_and_holds_each_sample_as_often_as_its_share(
    classes: np.ndarray, strength: float, seed: int
) -> None:
    shares = class_shares(classes, strength)
    order = balanced_order(shares, seed=seed, epoch=3)
    times = np.bincount(order, minlength=len(classes))
    assert len(order) == len(classes) == len(times)
    assert (np.floor(shares - 1e-9) <= times).all()
    assert (times <= np.ceil(shares + 1e-9)).all()
    assert np.array_equal(order, balanced_order(shares, seed=seed, epoch=3))


@given(some_classes)
def test_at_full_strength_all_classes_come_equally_often_and_at_none_all_samples(classes: np.ndarray) -> None:
    shares = class_shares(classes, 1.0)
    sums = [shares[classes == each].sum() for each in set(classes.tolist()) - {-1}]
    assert np.allclose(sums, sums[:1] * len(sums))
    assert (shares[classes == -1] == 1).all()
    assert np.allclose(class_shares(classes, 0.0), 1)


def test_balanced_epochs_keep_their_shares_on_average_and_differ() -> None:
    classes = np.repeat([0, 1, 2], [100, 20, 3])
    shares = class_shares(classes, 0.7)
    orders = [balanced_order(shares, seed=1, epoch=epoch) for epoch in range(300)]
    times = np.mean([np.bincount(order, minlength=123) for order in orders], axis=0)
    assert np.abs(times - shares).max() < 0.15
    assert not np.array_equal(np.sort(orders[0]), np.sort(orders[1]))
    assert abs(np.corrcoef(np.concatenate(orders), np.tile(np.arange(123), 300))[0, 1]) < 0.02
