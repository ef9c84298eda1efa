"""Time from the start of the process to the end of the first step, in parts."""

import os
import time
from pathlib import Path


def process_age_s() -> float:
    """Return the seconds since this process was started."""
    started_ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started_ticks / os.sysconf("SC_CLK_TCK")


class StartTimer:
    """Measures the parts of a start one after the other; the first, the imports, ends now."""

    def __init__(self) -> None:
        self._parts, self._last = {"imports": process_age_s()}, time.perf_counter()
        self._is_over = False

    def end(self, part: str) -> None:
        """End a part of the start; do nothing if it has been ended before, as in a second run of the process."""
        if part not in self._parts and not self._is_over:
            now = time.perf_counter()
            self._parts[part], self._last = now - self._last, now

    def take(self) -> dict[str, float]:
        """Return the seconds of each part, by name; nothing when asked again."""
        parts, self._parts, self._is_over = self._parts, {}, True
        return parts


def described(parts: dict[str, float]) -> str:
    """Return the line that is printed."""
    each = ", ".join(f"{name} {seconds:.1f}" for name, seconds in parts.items())
    return f"first step done {sum(parts.values()):.1f} s after the start: {each} s"


def as_metrics(parts: dict[str, float]) -> dict[str, float]:
    """Return the parts under the names they have in metrics.jsonl."""
    return {f"start_{name.replace(' ', '_')}_s": seconds for name, seconds in parts.items()}
