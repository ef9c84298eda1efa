"""The commands that faults happen to: how each is started, how it goes on, and what its result is."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 120
SPEEDS = {"images_per_s", "data_wait", "host_wait", "seconds"}


@dataclass(frozen=True)
class Inputs:
    """What commands work on."""

    kaggle: Path
    tree: Path
    recipe: Path
    shards: Path
    run: Path


@dataclass(frozen=True)
class Command:
    """A command that writes into a folder `out`. again: what is added to go on with what `out` holds."""

    name: str
    arguments: Callable[[Inputs, Path], list[object]]
    again: Callable[[Path], list[str]] = lambda out: []

    def line(self, inputs: Inputs, out: Path) -> list[str]:
        """Its script and arguments, to start or to go on."""
        return [str(each) for each in [*self.arguments(inputs, out), *self.again(out)]]


ON_CPU = ("--device", "cpu", "--workers", 1)
PACKING = ("--workers", 2, "--shards", 6, "--resume")
PACK = Command(
    "pack",
    lambda on, out: ["shard_tool", "pack", on.kaggle, out / "shards", "--tree", on.tree, *PACKING],
)
TRAIN = Command(
    "train",
    lambda on, out: [
        *("train", on.shards, "--recipe", on.recipe, "--members", 2, "--fold", "1/3"),
        *("--save-steps", 1, "--out", out / "run", *ON_CPU),
    ],
    lambda out: ["--resume"] if (out / "run" / "run.json").exists() else [],
)
PREDICT = Command(
    "predict",
    lambda on, out: [
        *("predict", on.run, on.shards, "--views", 32, "--batch-size", 1),
        *("--out", out / "s.csv", "--details", out / "d.parquet", *ON_CPU),
    ],
)
EVALUATE = Command(
    "evaluate",
    lambda on, out: [
        *("evaluate", on.run, on.shards, "--views", 2, "--cams", 0, "--points", 0),
        *("--out", out / "report", *ON_CPU),
    ],
)
VIEWS = Command(
    "views", lambda on, out: ["views", on.shards, out / "sheet.png", "--recipe", on.recipe, "--count", 2]
)
COMMANDS = (PACK, TRAIN, PREDICT, EVALUATE)


def result_of(out: Path) -> dict[str, bytes]:
    """Every file that a command has left, with its bytes; locks and TensorBoard's events do not count.

    Of a metrics.jsonl the speeds do not count.
    """
    files = (path for path in sorted(out.rglob("*")) if path.is_file())
    return {
        str(path.relative_to(out)): _without_speeds(path) if path.name == "metrics.jsonl" else path.read_bytes()
        for path in files
        if path.name != "lock" and not path.name.startswith("events.")
    }


def _without_speeds(path: Path) -> bytes:
    lines = (json.loads(line) for line in path.read_text().splitlines())
    kept = [
        {key: value for key, value in line.items() if key not in SPEEDS and not key.startswith("start_")}
        for line in lines
    ]
    return json.dumps(kept).encode()


class Process:
    """A command under way, in a process group of its own."""

    def __init__(self, pid: int, log: Path, code: Path) -> None:
        self.pid, self._log, self._code = pid, log, code

    @property
    def said(self) -> str:
        """What it wrote to stdout and stderr so far."""
        return self._log.read_text()

    def ends_within(self, seconds: float) -> bool:
        """Wait so long at most; whether it has ended."""
        deadline = time.monotonic() + seconds
        while not self._code.exists() and time.monotonic() < deadline:
            time.sleep(0.002)
        return self._code.exists()

    def code(self, timeout_s: float = TIMEOUT_S) -> int:
        """Wait for its end; the exit code, or -n where signal n killed it."""
        assert self.ends_within(timeout_s), f"it hangs:\n{self.said}"
        return int(self._code.read_text())

    def send(self, number: signal.Signals) -> None:
        """Send a signal to it alone."""
        with suppress(ProcessLookupError):  # it has just ended
            os.kill(self.pid, number)

    def send_to_all(self, number: signal.Signals) -> None:
        """Send a signal to it and all that it has started, as a terminal does."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)


class Starter:
    """Starts commands quickly; see starter.py. folder: for logs."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._numbers = folder, count()
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("starter.py")],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._answer() == "ready"

    @contextmanager
    def started(
        self, line: list[str], cwd: Path, *, environment: Mapping[str, str] | None = None, **trouble: Any
    ) -> Iterator[Process]:
        """A command under way; killed at the end of the block. trouble: one of starter.py, and its value."""
        name = self._folder / str(next(self._numbers))
        log, code = name.with_suffix(".log"), name.with_suffix(".code")
        log.touch()
        places = {"cwd": str(cwd), "log": str(log), "exit": str(code)}
        request = {**places, "arguments": line, "environment": dict(environment or {}), "trouble": trouble}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        process = Process(int(self._answer()), log, code)
        try:
            yield process
        finally:
            process.send_to_all(signal.SIGKILL)
            process.code()

    def run(self, line: list[str], cwd: Path, **trouble: Any) -> tuple[int, str]:
        """Run a command to its end; its exit code and what it said."""
        with self.started(line, cwd, **trouble) as process:
            return process.code(), process.said

    def close(self) -> None:
        """End it at once: it has nothing to lose, and taking all of its packages down takes seconds."""
        self._process.kill()
        self._process.communicate()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        answer = ""
        while not answer:
            line = self._process.stdout.readline()
            assert line, "the starter has ended"
            answer = line.strip()
        return answer


@dataclass(frozen=True)
class Whole:
    """What a command makes when nothing happens to it, and how long that takes."""

    result: dict[str, bytes]
    seconds: float


class Bench:
    """Commands, what they work on, and what they make undisturbed."""

    def __init__(self, starter: Starter, inputs: Inputs, folder: Path) -> None:
        self.starter, self.inputs, self._folder = starter, inputs, folder
        self._wholes: dict[str, Whole] = {}

    def undisturbed(self, command: Command) -> Whole:
        """Made once."""
        if command.name not in self._wholes:
            out = self._folder / command.name
            out.mkdir()
            began = time.monotonic()
            code, said = self.run(command, out)
            assert code == 0, said
            self._wholes[command.name] = Whole(result_of(out), time.monotonic() - began)
        return self._wholes[command.name]

    def started(self, command: Command, out: Path, **trouble: Any) -> Any:
        """The command under way."""
        return self.starter.started(command.line(self.inputs, out), self._folder, **trouble)

    def run(self, command: Command, out: Path, **trouble: Any) -> tuple[int, str]:
        """Run the command to its end, or go on with what it left."""
        return self.starter.run(command.line(self.inputs, out), self._folder, **trouble)

    def finish(self, command: Command, out: Path) -> None:
        """Go on, and check that the result is that of a command to which nothing happened."""
        code, said = self.run(command, out)
        assert code == 0, said
        assert "Traceback" not in said
        self.check(command, out)

    def check(self, command: Command, out: Path) -> None:
        """Check that the result is that of a command to which nothing happened."""
        found, whole = result_of(out), self.undisturbed(command).result
        different = [name for name in {**found, **whole} if found.get(name) != whole.get(name)]
        assert different == []


@contextmanager
def disk(folder: Path, *, kib: int = 0, image: Path | None = None) -> Iterator[Path]:
    """A disk of its own at `folder`: in memory with so many KiB, or of ext4 in the file `image`."""
    folder.mkdir()
    what = ["-t", "tmpfs", "-o", f"size={kib}k", "tmpfs"] if image is None else ["-o", "loop", str(image)]
    if os.geteuid() != 0 or subprocess.run(["mount", *what, folder], capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root and the right to mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)  # a killed process may still be ending


def remount(folder: Path, options: str) -> None:
    """Change a mounted disk: "size=64m", "ro", "rw"."""
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)
