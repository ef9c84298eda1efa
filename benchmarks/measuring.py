"""What the benchmarks share: results of several runs, the machine they come from, and the JSON file of both.

Imports neither torch nor DALI, so a command that only starts other processes has none of their threads.
"""

import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from galaxy_zoo.cores import num_cores
from galaxy_zoo.errors import ShardError
from galaxy_zoo.files import write_text
from galaxy_zoo.manifest import MANIFEST_NAME

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"


class CheckFailedError(Exception):
    """What was to be measured has run, but its results are wrong."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """One result: the median of several runs, with the lowest and the highest."""

    name: str
    value: float
    unit: str
    lowest: float
    highest: float
    runs: int

    def __str__(self) -> str:
        text = f"{_number(self.value)} {self.unit}"
        return text if self.runs == 1 else f"{text} ({_number(self.lowest)} to {_number(self.highest)})"


def measured(name: str, unit: str, values: Sequence[float]) -> Result:
    """Return the result of some runs; raise StatisticsError if there are none."""
    return Result(
        name=name,
        value=statistics.median(values),
        unit=unit,
        lowest=min(values),
        highest=max(values),
        runs=len(values),
    )


def table(results: Sequence[Result]) -> str:
    """Return the results as text, one on each line."""
    width = max((len(result.name) for result in results), default=0)
    return "\n".join(f"  {result.name:<{width}}  {result}" for result in results)


def describe_machine(device: str = "cpu") -> dict[str, Any]:
    """Return the facts about the machine that results depend on. device: "cpu" or "cuda"."""
    found: dict[str, Any] = {"cpu": _cpu_name(), "cores": num_cores()}
    found["load"] = round(os.getloadavg()[2], 1)
    if device == "cuda":
        import torch  # noqa: PLC0415 - see above

        found |= {"gpu": torch.cuda.get_device_name(), "driver": ask_nvidia_smi("driver_version")}
        found["cuda"] = str(torch.version.cuda)
    return found


def ask_nvidia_smi(field: str) -> str:
    """Return one field of `nvidia-smi --query-gpu` of the first GPU that is visible; "unknown" if that fails."""
    gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0]
    command = ["nvidia-smi", f"--id={gpu}", f"--query-gpu={field}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return answer.strip().partition("\n")[0] or "unknown"


def last_line(text: str) -> str:
    """Return the last line of text, without the space around it."""
    return text.strip().rpartition("\n")[2].strip()


def command_line() -> str:
    """Return the command that repeats this process."""
    spec = sys.modules["__main__"].__spec__
    program = [sys.argv[0]] if spec is None else ["-m", spec.name]
    return shlex.join(["python", *program, *sys.argv[1:]])


def provenance(device: str = "cpu") -> dict[str, Any]:
    """Return the date, command, machine and versions of a result. device: as `describe_machine`."""
    from training.run import current_versions  # noqa: PLC0415 - imports torch

    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command_line(),
        "machine": describe_machine(device),
        "versions": dict(current_versions()),
    }


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write a file of results, and create its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(data, indent=1) + "\n")


def make_shards(count: int) -> Path:
    """Pack `count` synthetic galaxies in the temporary folder, unless it has them; return the folder of shards.

    Raises:
        ShardError: `shard_tool` cannot make them.
    """
    folder = Path(tempfile.gettempdir()) / f"galaxy-zoo-benchmark-{os.getuid()}" / str(count)
    shards = folder / "shards"
    if not (shards / MANIFEST_NAME).exists():
        folder.mkdir(parents=True, exist_ok=True)
        _shard_tool("synth", str(folder / "galaxies"), "--count", str(count), "--seed", "1", "--overwrite")
        _shard_tool("pack", str(folder / "galaxies"), str(shards), "--overwrite")
    return shards


def _shard_tool(*command: str) -> None:
    program = [sys.executable, "-m", "shard_tool", *command]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ShardError(f"shard_tool {' '.join(command)}: {done.stderr.strip()}")


def _cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    named = (line.partition(": ")[2] for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
