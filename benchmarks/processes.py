"""Run a command in its own process, and measure its time, processor time and memory."""

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import click
import psutil

POLL_S = 0.05


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Use of time and memory by a command and its workers, read every 50 ms. Peaks are of all together, in 1e6 bytes.

    `peak_resident_mb` counts a page once for each process that shares it, `peak_proportional_mb` once in all (PSS);
    `peak_without_files_mb` leaves out the pages of files (libraries, mapped shards), which the system may drop.
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
    """Run a command to its end; raise CalledProcessError if it fails.

    Args:
        images: number of images it handles.
    """
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
    resident, without_files, proportional = (round(each / 1e6, 1) for each in peak)
    return Timing(
        command=shown,
        images=images,
        seconds=round(seconds, 2),
        cpu_s=round(sum(cpu_s.values()), 2),
        images_per_s=round(images / seconds, 1),
        peak_resident_mb=resident,
        peak_without_files_mb=without_files,
        peak_proportional_mb=proportional,
    )


def memory_bytes(process: psutil.Process, cpu_s: dict[int, float]) -> tuple[int, int, int]:
    """Return the resident bytes of a process and its descendants: all, without pages of files, and proportional.

    Also write into `cpu_s` the processor time each has used so far, by process id.
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
        pass  # the process has just ended
    return resident, without_files, proportional
