import threading
from collections.abc import Iterator
from itertools import count, islice

import numpy as np
import pytest

from pipeline.plan import PLANS_AHEAD, BatchPlan, ahead


def plans(*, end: int | None = None, error: Exception | None = None) -> Iterator[BatchPlan]:
    for number in islice(count(), end):
        yield BatchPlan(np.array([number]), [], np.array([0]))
    if error is not None:
        raise error


def test_plans_made_ahead_come_in_their_order_to_the_end() -> None:
    assert [int(plan.samples[0]) for plan in ahead(plans(end=9))] == list(range(9))
    assert list(ahead(plans(end=0))) == []


def test_no_more_plans_are_made_ahead_than_said() -> None:
    made = []
    drawn = ahead(made.append(plan) or plan for plan in plans())
    for number in range(1, 5):
        next(drawn)
        assert number <= len(made) <= number + PLANS_AHEAD
    drawn.close()


def test_an_error_is_raised_after_the_plans_before_it() -> None:
    drawn = ahead(plans(end=3, error=ValueError("no such view")))
    assert len(list(islice(drawn, 3))) == 3
    with pytest.raises(ValueError, match="no such view"):
        next(drawn)


def test_closing_half_way_ends_the_thread() -> None:
    before = threading.active_count()
    drawn = ahead(plans())
    next(drawn)
    assert threading.active_count() == before + 1
    drawn.close()
    assert threading.active_count() == before
