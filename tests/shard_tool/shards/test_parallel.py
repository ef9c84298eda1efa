"""Tasks are drawn when their turn comes, whoever works on them."""

import operator
from collections.abc import Iterator

import pytest

from shard_tool.shards.parallel import TASKS_AHEAD, run_tasks


@pytest.mark.parametrize("workers", [1, 2])
def test_tasks_are_drawn_as_workers_are_free_for_them(workers: int) -> None:
    drawn = 0

    def tasks() -> Iterator[int]:
        nonlocal drawn
        while drawn < 40:
            drawn += 1
            yield drawn

    ahead, results = 0, 0
    for result in run_tasks(operator.is_, tasks(), workers=workers, total=40, description="test"):
        assert result is False  # a task is not its tick
        results += 1
        ahead = max(ahead, drawn - results)
    assert results == 40
    assert ahead <= TASKS_AHEAD * workers


def test_no_task_is_no_result() -> None:
    assert list(run_tasks(operator.is_, iter(()), workers=2, total=0, description="test")) == []
