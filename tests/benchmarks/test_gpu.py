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

from benchmarks import gpu, gpu_parts
from benchmarks.gpu import run_isolated
from benchmarks.measuring import make_shards
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
    result = run(tmp_path, "--shards", str(shards))
    assert result.exit_code == 0, result.output
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
    result = run(tmp_path, "decode", "stages", "--shards", str(tmp_path))
    assert result.exit_code == 1
    assert "failed: decode, stages" in result.output
    assert "manifest.json" in read(tmp_path, "stages")["message"]
    assert "Traceback" not in result.output


def test_a_check_that_is_not_met_keeps_its_results(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_parts, "GOAL_LEVELS", -1.0)
    found = gpu.run_part("pixels", shards, "cpu", quick=True)
    assert found["status"] == "failed"
    assert "grey levels" in found["message"]
    assert found["results"]


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "arguments", "timeout_s", "problem"),
    [
        (os._exit, (3,), 60, "crashed: exit code 3"),
        (os.abort, (), 60, "crashed: SIGABRT"),
        (time.sleep, (60,), 1, "stopped after 1 s"),
    ],
)
def test_a_part_that_crashes_or_hangs_does_the_command_no_harm(
    function: Any, arguments: tuple[int, ...], timeout_s: float, problem: str
) -> None:
    found = run_isolated(function, *arguments, timeout_s=timeout_s)
    assert found == {"status": "failed", "message": problem}


def sleeping_child() -> dict[str, Any]:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    return {"pid": child.pid}


@pytest.mark.slow
def test_a_part_ends_with_all_that_it_has_started() -> None:
    pid = run_isolated(sleeping_child, timeout_s=60)["pid"]
    for _ in range(1000):
        if not Path(f"/proc/{pid}").exists() or ") Z " in Path(f"/proc/{pid}/stat").read_text():
            return
        time.sleep(0.01)
    pytest.fail(f"process {pid} is still there")
