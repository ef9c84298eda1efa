"""Members side by side on a GPU, each on a CUDA stream of its own.

The kernels of a small network leave most of a GPU idle. Launched on one stream, those of several members still wait for
each other; on a stream for each member they run at the same time.
"""

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

MOST_STREAMS = 8
"""Streams used at once. More members share them: those on one stream take turns, so they may share scratch memory."""


def side_by_side(jobs: Sequence[Callable[[], Tensor]], device: torch.device) -> list[Tensor]:
    """Do jobs that do not depend on each other, and return their results in order.

    On a GPU job i runs on stream i modulo `MOST_STREAMS`, after all that the current stream was given before; what the
    current stream is given from then on waits for all of them. On a CPU, or if there is only one, they run in turn.
    """
    if device.type != "cuda" or len(jobs) == 1:
        return [job() for job in jobs]
    here = torch.cuda.current_stream(device)
    streams, results = _streams(device), []
    for number, job in enumerate(jobs):
        stream = streams[number % len(streams)]
        stream.wait_stream(here)
        with torch.cuda.stream(stream):
            results.append(job())
    for stream in streams:
        here.wait_stream(stream)
    return results


@cache
def _streams(device: torch.device) -> list[torch.cuda.Stream]:
    return [torch.cuda.Stream(device) for _ in range(MOST_STREAMS)]  # type: ignore[no-untyped-call]
