"""The log of a member: metrics.jsonl, one line an epoch, and the same as TensorBoard events."""

import json
import threading
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure
from torch.utils.tensorboard import SummaryWriter

from galaxy_zoo.errors import RunError
from galaxy_zoo.files import atomic_write, is_special
from galaxy_zoo.strict import parse_json

METRICS_NAME = "metrics.jsonl"
BASELINE = "baseline_rmse"
"""Name of the score of the mean votes among the metrics."""


def epochs_logged(folder: Path) -> int:
    """Return the number of epochs in the log of a member's folder."""
    return len(_lines(folder))


def read_log(folder: Path, *, first: int | None = None) -> list[dict[str, float]]:
    """Read the metrics in a member's folder, one mapping for each epoch or for each of the `first` epochs.

    Raises:
        RunError: a line is damaged.
    """
    epochs = []
    for number, line in enumerate(_lines(folder)[:first], start=1):
        try:
            metrics = parse_json(line)
            if not isinstance(metrics, dict) or not all(
                isinstance(each, int | float) for each in metrics.values()
            ):
                raise ValueError("not a mapping to numbers")
            if "epoch" not in metrics:
                raise ValueError("without an epoch")
        except ValueError as error:
            raise RunError(
                f"{folder / METRICS_NAME}: line {number} is damaged ({error}); restore the file, or remove it to go "
                "on without these epochs in the log"
            ) from error
        epochs.append(metrics)
    return epochs


def _lines(folder: Path) -> list[bytes]:
    path = folder / METRICS_NAME
    if is_special(path):
        raise RunError(f"{path}: a pipe or a device, not a file; remove it")
    return path.read_bytes().splitlines(keepends=True) if path.exists() else []


class Logbook:
    """Appends to the logs in a member's folder.

    Args:
        epochs_done: number of finished epochs; later lines are removed, since their epochs are trained again.

    Raises:
        RunError: the log of the finished epochs is damaged.
    """

    def __init__(self, folder: Path, *, epochs_done: int) -> None:
        self._folder, self._path = folder, folder / METRICS_NAME
        read_log(folder, first=epochs_done)  # find damage now, not after the last epoch
        with atomic_write(self._path) as file:  # replaces the file even if it is a link
            file.writelines(_lines(folder)[:epochs_done])
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
        return read_log(self._folder)

    def close(self) -> None:
        """Close the files."""
        try:
            self._events.close()
        finally:
            threading.excepthook = self._excepthook

    def _pass_over(self, error: threading.ExceptHookArgs) -> None:
        """Suppress the traceback of an OSError in TensorBoard's thread; the next call raises it anyway."""
        if not isinstance(error.exc_value, OSError):
            self._excepthook(error)
