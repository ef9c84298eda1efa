"""The log of a member: metrics.jsonl and TensorBoard events, a line and a step for each epoch."""

import json
import threading
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure
from torch.utils.tensorboard import SummaryWriter

from galaxy_zoo.files import write_text

METRICS_NAME = "metrics.jsonl"


def epochs_logged(folder: Path) -> int:
    """Return the number of epochs in the log of a member's folder."""
    path = folder / METRICS_NAME
    return len(path.read_text().splitlines()) if path.exists() else 0


class Logbook:
    """Appends to the logs in a member's folder.

    Args:
        epochs_done: epochs that are finished; lines beyond them are removed, since those epochs are trained again.
    """

    def __init__(self, folder: Path, *, epochs_done: int) -> None:
        self._path = folder / METRICS_NAME
        kept = self._path.read_text().splitlines(keepends=True)[:epochs_done] if self._path.exists() else []
        write_text(self._path, "".join(kept))
        self._events = SummaryWriter(folder, purge_step=epochs_done)
        self._excepthook, threading.excepthook = threading.excepthook, self._pass_over

    def add(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Write the metrics of an epoch."""
        with self._path.open("a") as file:
            file.write(json.dumps({"epoch": epoch, **metrics}) + "\n")
        for name, value in metrics.items():
            self._events.add_scalar(name, value, epoch)
        self._events.flush()

    def show(self, name: str, figure: Figure, epoch: int) -> None:
        """Add a figure to TensorBoard."""
        self._events.add_figure(name, figure, epoch)

    def lines(self) -> list[dict[str, float]]:
        """Return the metrics of all epochs so far."""
        return [json.loads(line) for line in self._path.read_text().splitlines()]

    def close(self) -> None:
        """Close the files."""
        try:
            self._events.close()
        finally:
            threading.excepthook = self._excepthook

    def _pass_over(self, error: threading.ExceptHookArgs) -> None:
        """Print no OSError of TensorBoard's thread: the next call raises it anyway."""
        if not isinstance(error.exc_value, OSError):
            self._excepthook(error)
