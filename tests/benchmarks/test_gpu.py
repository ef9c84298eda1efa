import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from benchmarks import convolutions, gpu, gpu_parts, trainings
from benchmarks.goals import GOALS, verdicts
from benchmarks.gpu import Send, isolated
from benchmarks.measuring import CheckFailedError, make_shards
from benchmarks.throughput import Setup
from galaxy_zoo.cores import num_cores

FIELDS = {"part", "status", "message", "shards", "quick", "date", "command", "machine", "versions", "results"}
IMPORTED = """
import sys
from benchmarks import gpu
assert not {"torch", "nvidia.dali"} & set(sys.modules)
"""


def run(out: Path, *arguments: str) -> Result:
    return CliRunner().invoke(gpu.main, [*arguments, "--device", "cpu", "--quick", "--out", str(out)])


def read(out: Path, part: str) -> dict[str, Any]:
    return json.loads((out / f"cpu-{part}.json").read_text())


@pytest.mark.slow
def test_every_part_runs_without_a_gpu_and_says_all_that_is_needed_to_repeat_it(
    shards: Path, tmp_path: Path
) -> None:
    result = run(tmp_path, "--shards", str(shards), "--minutes", "60")
    assert result.exit_code == 0, result.output
    assert result.output.count("not measured") == len(GOALS)
    assert {path.name for path in tmp_path.iterdir()} == {f"cpu-{part}.json" for part in gpu.PARTS}
    for part in gpu.PARTS:
        saved = read(tmp_path, part)
        assert set(saved) == FIELDS
        assert (saved["status"], saved["message"]) == ("ok", "")
        assert saved["machine"]["cores"] == num_cores()
        for each in saved["results"]:
            assert each["lowest"] <= each["value"] <= each["highest"]
            assert each["name"] in result.output


@pytest.mark.slow
def test_a_part_that_fails_is_recorded_and_the_others_go_on(tmp_path: Path, shards: Path) -> None:
    result = run(tmp_path, "decode", "stamps", "--shards", str(tmp_path))
    assert result.exit_code == 1
    assert "failed: decode, stamps" in result.output
    assert "manifest.json" in read(tmp_path, "stamps")["message"]
    assert "Traceback" not in result.output


@pytest.mark.slow
def test_parts_without_time_are_not_run_and_named(
    tmp_path: Path, shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "STARTING_S", 1e9)
    result = run(tmp_path, "decode", "pixels", "--shards", str(shards))
    assert result.exit_code == 0, result.output
    assert "no time is left for: decode, pixels" in result.output
    assert not list(tmp_path.iterdir())


def test_a_check_that_is_not_met_keeps_its_results(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_parts, "GOAL_LEVELS", -1.0)
    sent: list[dict[str, Any]] = []
    gpu.run_part(sent.append, "pixels", shards, "cpu", quick=True)
    assert sent[-1]["status"] == "failed"
    assert "grey levels" in sent[-1]["message"]
    assert any("result" in each for each in sent)


@pytest.mark.slow
def test_a_training_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(CheckFailedError, match=r"exit code 1: .*nowhere.*"):
        trainings.train(Setup(tmp_path / "nowhere", "cpu", quick=True), [], tmp_path / "run", epochs=1)


def one_result(send: Send, name: str, *_: object) -> None:
    send({"result": {"name": name, "value": 1.0}, "line": f"{name} is one"})
    os.abort()


@pytest.mark.slow
def test_what_a_part_has_found_before_it_crashes_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "run_part", one_result)
    gpu.measure_part("steps", tmp_path, tmp_path, "cpu", quick=True, timeout_s=60)
    saved = read(tmp_path, "steps")
    assert (saved["status"], saved["message"]) == ("failed", "crashed: SIGABRT")
    assert saved["results"] == [{"name": "steps", "value": 1.0}]


def test_goals_are_met_missed_or_not_measured() -> None:
    assert [line.split()[0] for line in verdicts({})] == ["not"] * len(GOALS)
    found = [line.split()[0] for line in verdicts({"quick: steps": 70_000, "ng_resnet50: steps": 3_064})]
    assert sorted(found) == ["met", "missed"] + ["not"] * (len(GOALS) - 2)
    assert "  missed        ng_resnet50: steps: 3,064 images/s, at least 5,700 images/s" in list(
        verdicts({"ng_resnet50: steps": 3_064})
    )


@pytest.mark.slow
def test_the_command_itself_holds_nothing_of_cuda_or_dali() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_no_gpu_is_wrong_usage(tmp_path: Path) -> None:
    result = CliRunner().invoke(gpu.main, ["decode", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "--device cpu --quick" in result.output
    assert not list(tmp_path.iterdir())


def test_an_unknown_part_is_wrong_usage(tmp_path: Path) -> None:
    assert run(tmp_path, "everything").exit_code == 2


@pytest.mark.slow
def test_shards_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    made = make_shards(16)
    before = (made / "manifest.json").stat().st_mtime_ns
    assert make_shards(16) == made
    assert (made / "manifest.json").stat().st_mtime_ns == before


def exit_with(send: Send, code: int) -> None:
    os._exit(code)


def abort(send: Send) -> None:
    os.abort()


def sleep(send: Send, seconds: float) -> None:
    time.sleep(seconds)


BREAKING: list[tuple[Any, tuple[int, ...], float, str]] = [
    (exit_with, (3,), 60, "crashed: exit code 3"),
    (abort, (), 60, "crashed: SIGABRT"),
    (sleep, (60,), 1, "stopped after 1 s"),
]


@pytest.mark.slow
def test_a_part_that_crashes_or_hangs_does_the_command_no_harm(subtests: pytest.Subtests) -> None:
    for function, arguments, timeout_s, problem in BREAKING:
        with subtests.test(problem):
            [found] = isolated(function, *arguments, timeout_s=timeout_s)
            assert found == {"status": "failed", "message": problem}


def sleeping_child(send: Send) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    send({"status": "ok", "pid": child.pid})


@pytest.mark.slow
def test_a_part_ends_with_all_that_it_has_started() -> None:
    [found] = isolated(sleeping_child, timeout_s=60)
    pid = found["pid"]
    for _ in range(1000):
        if not Path(f"/proc/{pid}").exists() or ") Z " in Path(f"/proc/{pid}/stat").read_text():
            return
        time.sleep(0.01)
    pytest.fail(f"process {pid} is still there")


def test_other_ways_to_convolve_give_the_same_images() -> None:
    layer = torch.nn.Conv2d(3, 4, 5, padding=2).to(memory_format=torch.channels_last)
    images = torch.randn(2, 3, 12, 12).to(memory_format=torch.channels_last)
    with torch.no_grad():
        expected = layer(images)
        for name, (way, inputs) in convolutions.ways(layer, images, is_first=True).items():
            found = way(inputs)
            assert torch.allclose(found.float(), expected, atol=0.02 if "float16" in name else 1e-5), name
            assert found.is_contiguous() or "contiguous" not in name, f"{name}: computed in channels-last"
