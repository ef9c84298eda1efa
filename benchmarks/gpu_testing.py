"""The tests that need a GPU."""

import subprocess
import sys

from benchmarks.gpu_results import CheckFailedError, Result, SkippedError
from benchmarks.gpu_setup import ROOT, Setup

TIMEOUT_S = 420


def tests(setup: Setup) -> list[Result]:
    """Run tests/gpu; the result is pytest's closing line."""
    if not setup.on_gpu:
        raise SkippedError("needs a GPU")
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-W", "default", "tests/gpu"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    sys.stderr.write(done.stdout + done.stderr)
    said = [line for line in (done.stdout or done.stderr).splitlines() if line.strip()]
    closing = Result("pytest", said[-1].strip("= ") if said else "nothing")
    if done.returncode:
        raise CheckFailedError(str(closing.value), [closing])
    return [closing]
