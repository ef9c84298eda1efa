"""Progress on stderr: a bar, or plain lines where that is a file or a pipe."""

import io
import sys
from typing import Any

from tqdm import tqdm

RATE = "{rate_noinv_fmt}{postfix}"
"""Per second also where less than one is done in a second."""


class _Lines(tqdm):  # type: ignore[type-arg]  # it is generic in its stubs only
    """Progress as plain lines on stderr; what a bar needs besides, as returns and cursor moves, goes into `file`."""

    _shown_n: float = -1

    def display(self, msg: str | None = None, pos: int | None = None) -> None:  # noqa: ARG002
        """Write a line, unless nothing was done since the last one."""
        if self.n != self._shown_n and (self.desc or self.n != self.initial):
            self._shown_n = self.n
            print(*str(self).split(), file=sys.stderr, flush=True)


def progress(*, total: int | None, unit: str, desc: str = "", done: int = 0, shown: bool = True) -> "tqdm[Any]":
    """Return a progress bar on stderr; where that is a file or a pipe, it writes a line every ten seconds instead.

    total: None where it is not known.
    unit: what is counted, in the plural; "B" for bytes.
    shown: whether to show it; one of several processes that do the same is enough.
    """
    what: dict[str, Any] = {
        "total": total,
        "initial": done,
        "unit": unit if unit == "B" else f" {unit}",
        "unit_scale": unit == "B",
        "desc": f"{desc}: " if desc else "",
        "disable": not shown,
        "smoothing": 0.05,
    }
    if sys.stderr.isatty():
        bar = f"{{l_bar}}{{bar}}| {{n_fmt}}/{{total_fmt}} [{{elapsed}}<{{remaining}}, {RATE}]"
        return tqdm(**what, dynamic_ncols=True, bar_format=None if total is None else bar)
    line = f"{{desc}}{{percentage:.0f}} %, {{n_fmt}} of {{total_fmt}}, {{elapsed}} elapsed, {{remaining}} left, {RATE}"
    if total is None:
        line = f"{{desc}}{{n_fmt}}, {{elapsed}} elapsed, {RATE}"
    return _Lines(**what, file=io.StringIO(), mininterval=10.0, bar_format=line)
