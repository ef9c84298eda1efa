"""A command in a process of its own: how long it takes, on how much processor time, in how much memory."""

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import click
import psutil

POLL_S = 0.05


@dataclass(frozen=True)
class Timing:
    """What one command and its workers took, read every 50 ms. peak_*: 1e6 bytes resident in them at once, at most.

    `peak_resident_mb` counts a page as often as processes share it, `peak_proportional_mb` once (PSS), and
    `peak_without_files_mb` leaves pages of files out (libraries, mapped shards), which the system may drop.
    """

    command: str
    images: int
    seconds: float
    cpu_s: float
    images_per_s: float
    peak_resident_mb: float
    peak_without_files_mb: float
    peak_proportional_mb: float


def timed(command: list[str], images: int) -> Timing:
    """Run a command to its end; raises CalledProcessError where it fails."""
    click.echo(" ".join(command), err=True)
    started, peak = time.perf_counter(), (0, 0, 0)
    cpu_s: dict[int, float] = {}
    with subprocess.Popen(command) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            now = memory_bytes(watched, cpu_s)
            peak = (max(peak[0], now[0]), max(peak[1], now[1]), max(peak[2], now[2]))
            time.sleep(POLL_S)
    seconds = time.perf_counter() - started
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    shown = " ".join(Path(part).name if "/" in part else part for part in command)
    rate = round(images / seconds, 1)
    memory = (round(peak[0] / 1e6, 1), round(peak[1] / 1e6, 1), round(peak[2] / 1e6, 1))
    return Timing(shown, images, round(seconds, 2), round(sum(cpu_s.values()), 2), rate, *memory)


def memory_bytes(process: psutil.Process, cpu_s: dict[int, float]) -> tuple[int, int, int]:
    """The resident memory of a process and its descendants: all of it, without pages of files, and proportional.

    Also notes in `cpu_s`, by process, the processor time each has used so far.
    """
    resident = without_files = proportional = 0
    try:
        for each in [process, *process.children(recursive=True)]:
            memory, times = each.memory_full_info(), each.cpu_times()
            cpu_s[each.pid] = times.user + times.system
            resident += memory.rss
            without_files += memory.rss - memory.shared
            proportional += memory.pss
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        pass  # it has just ended
    return resident, without_files, proportional
