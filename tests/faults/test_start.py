"""Ctrl-C in the seconds before a command begins, while its packages are imported."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faults.harness import ROOT


@pytest.mark.parametrize("script", ["train.py", "predict.py", "evaluate.py", "views.py"])
def test_ctrl_c_while_a_script_starts_shows_no_traceback(script: str) -> None:
    command = [sys.executable, ROOT / script, "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while "libtorch" not in (maps := _maps(process.pid)) and time.monotonic() < deadline:
            time.sleep(0.005)
        assert "libtorch" in maps
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate(timeout=60)
    assert process.returncode in (-signal.SIGINT, 130)
    assert (said, errors) == ("", "")


def _maps(pid: int) -> str:
    """The libraries that a process has loaded: it is importing when torch is among them."""
    return Path(f"/proc/{pid}/maps").read_text()
