"""What a part gives, and the JSON file and the table made of it."""

import json
import os
import re
import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch
from nvidia import dali

from benchmarks.gpu_setup import Setup
from galaxy_zoo.files import write_text
from training.run import current_versions


@dataclass(frozen=True)
class Result:
    """One number (the median, where there were several runs) or one finding in words."""

    name: str
    value: float | str
    unit: str = ""
    lowest: float | None = None
    highest: float | None = None
    runs: int = 1


@dataclass(frozen=True)
class Outcome:
    """How a part ended. message: why it failed or was skipped."""

    status: Literal["ok", "failed", "skipped"]
    message: str = ""
    results: tuple[Result, ...] = ()


class SkippedError(Exception):
    """A part cannot be run on this device; the text says what it needs."""


class CheckFailedError(Exception):
    """A part ran and its results are not as they must be."""

    def __init__(self, message: str, results: Sequence[Result] = ()) -> None:
        super().__init__(message)
        self.results = tuple(results)


def measured(name: str, unit: str, values: Sequence[float]) -> Result:
    """The median of several runs, with the lowest and the highest."""
    return Result(name, statistics.median(values), unit, min(values), max(values), len(values))


def describe_machine(device: str, commit: str | None) -> dict[str, Any]:
    """Everything about the machine and the software that a result depends on."""
    versions = current_versions()
    gpu = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    return {
        "device": gpu,
        "driver": ask_nvidia_smi("driver_version") if device == "cuda" else "none",
        "cuda": torch.version.cuda or "none",
        "torch": torch.__version__,
        "dali": dali.__version__,
        "timm": versions["timm"],
        "python": versions["python"],
        "cpu_cores": len(os.sched_getaffinity(0)),
        "commit": commit or versions["commit"],
    }


def ask_nvidia_smi(field: str) -> str:
    """One field of `nvidia-smi --query-gpu`, of the first GPU; "unknown" where it cannot say."""
    command = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return answer.strip().partition("\n")[0] or "unknown"


def write_json(folder: Path, part: str, outcome: Outcome, *, machine: dict[str, Any], setup: Setup) -> Path:
    """Write what a part gave to `folder`; returns the path, named by device and part."""
    slug = re.sub(r"[^a-z0-9]+", "-", machine["device"].lower()).strip("-")
    data = {
        "part": part,
        "status": outcome.status,
        "message": outcome.message,
        **machine,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", *sys.argv]),
        "shards": str(setup.shards),
        "quick": setup.quick,
        "runs": setup.runs,
        "results": [
            {"name": r.name, "value": r.value, "unit": r.unit, "min": r.lowest, "max": r.highest, "runs": r.runs}
            for r in outcome.results
        ],
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{slug}-{part}.json"
    write_text(path, json.dumps(data, indent=1) + "\n")
    return path


def table(part: str, outcome: Outcome, path: Path) -> str:
    """The results as text, one a line."""
    head = f"{part}: {outcome.status}" + (f": {outcome.message}" if outcome.message else "") + f" ({path})"
    width = max((len(result.name) for result in outcome.results), default=0)
    return "\n".join([head, *(f"  {result.name:<{width}}  {_value(result)}" for result in outcome.results)])


def _value(result: Result) -> str:
    if isinstance(result.value, str):
        return result.value
    text = f"{_number(result.value)} {result.unit}"
    if result.runs == 1 or result.lowest is None or result.highest is None:
        return text
    return f"{text} ({_number(result.lowest)} to {_number(result.highest)}, {result.runs} runs)"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
