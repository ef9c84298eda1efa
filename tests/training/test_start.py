import time
from itertools import count

import pytest

from training import start
from training.start import StartTimer, as_metrics, described, process_age_s


def test_the_age_of_a_process_grows_with_the_clock() -> None:
    began, age = time.monotonic(), process_age_s()
    assert age > 0
    while time.monotonic() - began < 0.05:
        pass
    assert process_age_s() >= age + 0.05


def test_the_parts_follow_one_another_and_are_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    times = count(100.0, 2.0)
    monkeypatch.setattr(start.time, "perf_counter", lambda: next(times))
    monkeypatch.setattr(start, "process_age_s", lambda: 3.0)
    timer = StartTimer()
    for part in ("shards", "first step", "first step"):  # the second time it is another run's
        timer.end(part)
    parts = timer.take()
    assert parts == {"imports": 3.0, "shards": 2.0, "first step": 2.0}
    assert described(parts) == "first step done 7.0 s after the start: imports 3.0, shards 2.0, first step 2.0 s"
    assert as_metrics(parts)["start_first_step_s"] == 2.0
    timer.end("shards")
    assert timer.take() == {}
