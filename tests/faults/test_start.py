"""The seconds before a command begins, while its packages are imported, and those in which it ends."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness import ROOT

LINES = ["train.py shards", "predict.py run tests", "evaluate.py run shards", "views.py shards sheet.png"]


@pytest.mark.slow
def test_ctrl_c_while_a_script_starts_shows_no_traceback(subtests: pytest.Subtests) -> None:
    for line in LINES:
        with subtests.test(line):
            script, *arguments = line.split()
            command = [sys.executable, ROOT / script, *arguments]
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
                deadline = time.monotonic() + 60
                while "libtorch" not in (maps := _maps(process.pid)) and time.monotonic() < deadline:
                    time.sleep(0.005)
                assert "libtorch" in maps
                process.send_signal(signal.SIGINT)
                said, errors = process.communicate(timeout=60)
            assert process.returncode in (-signal.SIGINT, 130)
            assert (said, errors.removesuffix("interrupted\n")) == ("", "")


@pytest.mark.slow
def test_a_command_that_has_ended_well_says_no_more() -> None:
    """Libraries that are not taken down as they expect complain on stderr, as Triton's of types that were leaked."""
    command = [sys.executable, ROOT / "train.py", "--list"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "small_data" in ended.stdout
    assert ended.stderr == ""


def _maps(pid: int) -> str:
    """The libraries that a process has loaded: it is importing when torch is among them."""
    return Path(f"/proc/{pid}/maps").read_text()
