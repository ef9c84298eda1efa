"""Tasks are drawn when their turn comes, whoever works on them."""

import operator
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shard_tool.shards.parallel import TASKS_AHEAD, run_tasks


def test_tasks_are_drawn_as_workers_are_free_for_them(subtests: pytest.Subtests) -> None:
    drawn = 0

    def tasks() -> Iterator[int]:
        nonlocal drawn
        drawn = 0
        while drawn < 40:
            drawn += 1
            yield drawn

    for workers in (1, 2):
        with subtests.test(workers=workers):
            ahead, results = 0, 0
            for result in run_tasks(operator.is_, tasks(), workers=workers, total=40, description="test"):
                assert result is False  # a task is not its tick
                results += 1
                ahead = max(ahead, drawn - results)
            assert results == 40
            assert ahead <= TASKS_AHEAD * workers


def test_no_task_is_no_result() -> None:
    assert list(run_tasks(operator.is_, iter(()), workers=2, total=0, description="test")) == []


FULL = "mount -t tmpfs -o size=64k tmpfs /dev/shm && head -c 64k /dev/zero > /dev/shm/full && exec "


@pytest.mark.slow
def test_a_full_dev_shm_is_named(tmp_path: Path) -> None:
    """Locks of processes lie in it; `unshare` gives the command a /dev/shm of its own."""
    if subprocess.run(["unshare", "-m", "sh", "-c", FULL + "true"], check=False, capture_output=True).returncode:
        pytest.skip("mounting needs root")
    command = [
        sys.executable,
        "-m",
        "shard_tool",
        "synth",
        str(tmp_path / "out"),
        "--count",
        "600",
        "--workers",
        "2",
    ]
    script = FULL + shlex.join(command)
    result = subprocess.run(["unshare", "-m", "sh", "-c", script], check=False, capture_output=True, text=True)
    assert result.returncode == 1
    assert (
        "/dev/shm: No space left on device; processes keep the locks they share there: make room" in result.stderr
    )
    assert "Traceback" not in result.stderr
