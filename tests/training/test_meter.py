from itertools import count

import numpy as np
import pytest
import torch

from training import meter
from training.meter import FORECAST_AFTER_S, Forecast, Meter


def test_the_forecast_comes_once_and_leaves_the_first_step_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step takes 4 s, the first one and what came before it any time."""
    times = count(start=1000.0, step=4.0)
    monkeypatch.setattr(meter.time, "perf_counter", lambda: next(times))
    forecast = Forecast(total=1000, done=500)
    said = [forecast.after_step() for _ in range(500)]
    at = int(-(-FORECAST_AFTER_S // 4))
    left = 500 - at - 1
    assert said[at] == f"about {4 * left / 60:.0f} min for the remaining {left} steps"
    assert not any(said[:at] + said[at + 1 :])


def test_a_training_shorter_than_that_is_not_foretold() -> None:
    forecast = Forecast(total=3, done=0)
    assert [forecast.after_step() for _ in range(3)] == [""] * 3


def test_members_that_have_stopped_count_for_no_speed() -> None:
    speeds = []
    for num_training in (4, 1):
        counted = Meter(range(4), torch.device("cpu"))
        counted.begin_epoch("", num_training=num_training)
        counted.add(np.array(["1", "2"]), [torch.tensor(0.5)] * 4)
        speed = counted.speed()
        speeds.append(speed["images_per_s"] * speed["seconds"])
    assert speeds == pytest.approx([8, 2], rel=0.1)
