"""Run a command in its own process, and measure its time, processor time and memory."""

import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import click
import psutil

POLL_S = 0.05


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Use of time and memory by a command and its workers, read every 50 ms.

    peak_proportional_mb: memory of all together, in 1e6 bytes; a page that several share counts once (PSS).
    """

    command: str
    images: int
    seconds: float
    cpu_s: float
    images_per_s: float
    peak_proportional_mb: float


def timed(command: list[str], images: int) -> Timing:
    """Run a command to its end; raise CalledProcessError if it fails.

    Args:
        images: number of images it handles.
    """
    click.echo(" ".join(command), err=True)
    started, peak = time.perf_counter(), 0
    cpu_s: dict[int, float] = {}
    with subprocess.Popen(command) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            peak = max(peak, memory_bytes(watched, cpu_s))
            time.sleep(POLL_S)
    seconds = time.perf_counter() - started
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    shown = " ".join(Path(part).name if "/" in part else part for part in command)
    return Timing(
        command=shown,
        images=images,
        seconds=round(seconds, 2),
        cpu_s=round(sum(cpu_s.values()), 2),
        images_per_s=round(images / seconds, 1),
        peak_proportional_mb=round(peak / 1e6, 1),
    )


def memory_bytes(process: psutil.Process, cpu_s: dict[int, float]) -> int:
    """Return the proportional memory (PSS) of a process and its descendants, in bytes.

    Also write into `cpu_s` the processor time each has used so far, by process id.
    """
    memory = 0
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):  # the process has just ended
        for each in [process, *process.children(recursive=True)]:
            times = each.cpu_times()
            cpu_s[each.pid] = times.user + times.system
            memory += each.memory_full_info().pss
    return memory
