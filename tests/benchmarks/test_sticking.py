from pathlib import Path

import pytest
from making import NUM_TRAIN

from benchmarks.sticking import opened, ordered


def test_a_rank_that_sticks_to_its_shards_holds_a_part_of_the_tables(shards: Path) -> None:
    whole, own = opened(shards, 2, False), opened(shards, 2, True)
    assert whole[0] == NUM_TRAIN > own[0] > 0
    assert own[2] / whole[2] == pytest.approx(own[0] / whole[0], rel=0.01)
    assert min(*whole, *own) > 0


def test_an_order_is_made_of_any_number_of_samples() -> None:
    for sticks in (False, True):
        assert min(ordered(1003, 4, sticks)[1:]) > 0
