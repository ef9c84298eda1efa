"""Measure the memory that is free for stamps."""

from collections.abc import Iterator
from pathlib import Path

import torch


def free_bytes(device: torch.device, *, root: Path = Path("/")) -> int:
    """Return the bytes free on a device; on the CPU, what the machine or any control group leaves, whichever is least.

    root: folder that holds /proc and /sys.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    fields = dict(line.split(":") for line in (root / "proc/meminfo").read_text().splitlines())
    available = int(fields["MemAvailable"].removesuffix("kB")) * 1024
    return min([available, *_left_by_control_groups(root)])


def _left_by_control_groups(root: Path) -> Iterator[int]:
    """Yield the bytes left by each control group of this process, or above it, that limits memory.

    Source: Linux, Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
    """
    groups = root / "sys/fs/cgroup"
    for line in (root / "proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", maxsplit=2)
        group = Path(path.lstrip("/"))
        # a container sees its own group as the root, so folders may be missing
        for each in (group, *group.parents):
            if not controllers:
                yield from _left(groups / each, "memory.max", "memory.current", "inactive_file")
            elif controllers == "memory":
                names = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
                yield from _left(groups / "memory" / each, *names)


def _left(group: Path, limit: str, usage: str, cache: str) -> Iterator[int]:
    """Yield the bytes left in one group, counting its page cache as free; nothing if it has no limit."""
    try:
        allowed, used = (group / limit).read_text().strip(), int((group / usage).read_text())
        statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except FileNotFoundError:
        return
    if allowed != "max":
        yield max(0, int(allowed) - used + int(statistics.get(cache, 0)))
