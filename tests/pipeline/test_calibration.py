import json
from pathlib import Path

import pytest
import torch

from galaxy_zoo.view import View
from pipeline import calibration
from pipeline.augment import RandomViews
from pipeline.calibration import Tuning, cache_path, fastest, tune
from pipeline.shards import Samples, open_split

VIEWS = RandomViews(View(crop_px=64, size_px=32), (0,))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(calibration, "MEASURE_S", 0.01)
    return cache_path()


@pytest.fixture(scope="module")
def samples(shards: Path) -> Samples:
    return open_split(shards, "test")[0]


def ask(samples: Samples, views: RandomViews = VIEWS, **options) -> Tuning:
    return tune(samples, views, batch_size=8, device=torch.device("cpu"), **options)


def test_what_was_measured_is_used_from_then_on_for_the_same_stamps_only(samples: Samples, cache: Path) -> None:
    assert ask(samples) == Tuning()
    found = ask(samples, calibrate=True)
    assert found.num_threads is not None
    assert found.hw_decoder_load is None  # there is no such engine on a CPU
    assert ask(samples) == found
    assert ask(samples, RandomViews(View(crop_px=48, size_px=32), (0,))) == Tuning()
    assert len(json.loads(cache.read_text())) == 1


def test_the_users_number_of_threads_is_kept(samples: Samples) -> None:
    assert ask(samples, threads=3, calibrate=True).num_threads == 3
    assert ask(samples, threads=1).num_threads == 1


@pytest.mark.parametrize(
    "text", ["{", "[]", "\xff", '{"x": 1}', '{"x": {"num_threads": 0, "hw_decoder_load": null}}']
)
def test_a_damaged_file_is_ignored_with_a_warning_and_made_anew(
    samples: Samples, cache: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    cache.parent.mkdir()
    cache.write_text(text, encoding="latin-1")
    assert ask(samples) == Tuning()
    assert f"warning: {cache}: ignored" in capsys.readouterr().err
    found = ask(samples, calibrate=True)
    capsys.readouterr()
    assert ask(samples) == found
    assert capsys.readouterr().err == ""


def test_a_cache_that_cannot_be_written_is_a_warning(
    samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert ask(samples, calibrate=True).num_threads
    assert "used for this run only" in capsys.readouterr().err


def test_threads_are_chosen_first_then_the_share_of_the_engine_and_noise_does_not_count() -> None:
    asked = []

    def measure(tuning: Tuning) -> float:
        asked.append(tuning)
        load = tuning.hw_decoder_load
        return {16: 100.0, 8: 102.0, 4: 50.0}[tuning.num_threads or 0] * (1.0 if load is None else 0.5 + load)

    assert fastest(measure, threads=[16, 8, 4], on_gpu=True) == Tuning(16, 1.0)
    assert {tuning.num_threads for tuning in asked[3:]} == {16}
    assert fastest(measure, threads=[16, 8, 4], on_gpu=False) == Tuning(16)
