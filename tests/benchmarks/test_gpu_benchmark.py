import json
import os
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from benchmarks import gpu
from benchmarks.gpu_isolation import Ended, run_isolated
from benchmarks.gpu_results import Outcome, measured
from benchmarks.gpu_results import Result as Measured
from benchmarks.gpu_setup import Setup, make_shards

FIELDS = {"part", "status", "message", "date", "command", "shards", "quick", "runs", "results"}
MACHINE = {"device", "driver", "cuda", "torch", "dali", "timm", "python", "cpu_cores", "commit"}
NEEDS_A_GPU = {"roi", "decoder_load", "tests"}


def run(out: Path, *arguments: str) -> Result:
    quick = ["--device", "cpu", "--quick", "--no-isolate", "--out", str(out)]
    return CliRunner().invoke(gpu.main, [*arguments, *quick])


def read(out: Path, part: str) -> dict:
    return json.loads((out / f"cpu-{part}.json").read_text())


@pytest.fixture(scope="module")
def measured_all(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    out = tmp_path_factory.mktemp("results")
    return run(out, "--shards", str(shards)), out


@pytest.mark.slow
def test_every_part_runs_without_a_gpu_or_says_that_it_needs_one(measured_all: tuple[Result, Path]) -> None:
    result, out = measured_all
    assert result.exit_code == 0, result.output
    assert {path.name for path in out.iterdir()} == {f"cpu-{part}.json" for part in gpu.PARTS}
    for part in gpu.PARTS:
        saved = read(out, part)
        expected = ("skipped", "needs a GPU") if part in NEEDS_A_GPU else ("ok", "")
        assert (saved["status"], saved["message"]) == expected
        assert bool(saved["results"]) == (part not in NEEDS_A_GPU)


@pytest.mark.slow
def test_a_file_says_all_that_is_needed_to_repeat_it(measured_all: tuple[Result, Path]) -> None:
    _, out = measured_all
    saved = read(out, "loader")
    assert set(saved) == FIELDS | MACHINE
    assert saved["device"] == "cpu"
    assert saved["cpu_cores"] == len(os.sched_getaffinity(0))
    for each in saved["results"]:
        assert set(each) == {"name", "value", "unit", "min", "max", "runs"}
        assert each["unit"] == "samples/s"
        assert 0 < each["min"] <= each["value"] <= each["max"]


@pytest.mark.slow
def test_the_results_are_printed_as_a_table_too(measured_all: tuple[Result, Path]) -> None:
    result, out = measured_all
    for part in gpu.PARTS:
        for each in read(out, part)["results"]:
            assert each["name"] in result.output
    assert "roi: skipped: needs a GPU" in result.output


def test_a_part_that_fails_is_recorded_and_the_others_go_on(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(gpu.PARTS, "roi", "no_such_module")
    result = run(tmp_path, "roi", "tests", "--shards", str(shards))
    assert result.exit_code == 1
    assert "failed: roi" in result.output
    assert read(tmp_path, "roi")["status"] == "failed"
    assert "no_such_module" in read(tmp_path, "roi")["message"]
    assert read(tmp_path, "tests")["status"] == "skipped"


def test_a_check_that_is_not_met_fails_and_keeps_its_results(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.gpu_pixels.GOAL_LEVELS", 0.0)
    result = run(tmp_path, "pixels", "--shards", str(shards))
    assert result.exit_code == 1
    saved = read(tmp_path, "pixels")
    assert saved["status"] == "failed"
    assert "grey levels" in saved["message"]
    assert saved["results"]


def test_shards_that_are_none_fail_the_part_with_the_reason(tmp_path: Path) -> None:
    result = run(tmp_path / "out", "loader", "--shards", str(tmp_path))
    assert result.exit_code == 1
    assert "ShardError" in read(tmp_path / "out", "loader")["message"]


def test_an_unknown_part_is_wrong_usage(tmp_path: Path) -> None:
    assert run(tmp_path, "everything").exit_code == 2


@pytest.mark.slow
def test_shards_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    made = make_shards(16)
    before = (made / "manifest.json").stat().st_mtime_ns
    assert make_shards(16) == made
    assert (made / "manifest.json").stat().st_mtime_ns == before


@pytest.mark.slow
def test_a_part_in_a_process_of_its_own_gives_its_outcome(shards: Path) -> None:
    assert gpu.run_part_isolated(Setup(shards, "cpu", quick=True), "roi") == Outcome("skipped", "needs a GPU")


@pytest.mark.parametrize(
    ("function", "argument", "problem"),
    [
        (os._exit, 3, "crashed: exit code 3"),
        (os.abort, None, "crashed: SIGABRT"),
        (int, "x", "ValueError: invalid literal for int() with base 10: 'x'"),
        (time.sleep, 60, "stopped after 1 s"),
    ],
)
def test_a_child_that_crashes_fails_or_hangs_does_the_caller_no_harm(
    function: object, argument: object, problem: str
) -> None:
    arguments = () if argument is None else (argument,)
    timeout_s = 1 if function is time.sleep else 60
    assert run_isolated(function, *arguments, timeout_s=timeout_s) == Ended(None, problem)


def test_a_child_gives_the_value_of_its_function() -> None:
    assert run_isolated(divmod, 7, 2, timeout_s=60) == Ended((3, 1))


def test_the_median_counts() -> None:
    assert measured("x", "s", [5.0, 1.0, 2.0]) == Measured("x", 2.0, "s", 1.0, 5.0, 3)
