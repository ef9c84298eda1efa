"""Figures of a training: its curves, and what a member says of a few galaxies."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from galaxy_zoo.files import atomic_write
from galaxy_zoo.tree import DecisionTree
from galaxy_zoo.votes import Floats

SHOWN_ANSWERS = 4


def draw_curves(lines: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw loss, RMSE and learning rate over the epochs as a PNG.

    Args:
        lines: of metrics.jsonl, one an epoch.
    """
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    epochs = [line["epoch"] + 1 for line in lines]
    for axes, names in zip(
        figure.subplots(1, 3), (("loss",), ("rmse", "baseline_rmse"), ("learning_rate",)), strict=True
    ):
        for name in names:
            axes.plot(epochs, [line.get(name, math.nan) for line in lines], marker=".", label=LABELS[name])
        axes.set_xlabel("epoch")
        axes.legend()
        axes.grid(alpha=0.3)
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=110)


LABELS = {
    "loss": "training loss",
    "rmse": "RMSE on the fold",
    "baseline_rmse": "of mean votes",
    "learning_rate": "learning rate",
}


def galaxies(images: Floats, predicted: Floats, votes: Floats, tree: DecisionTree) -> Figure:
    """Galaxies with the answers that got most votes, predicted and true.

    Args:
        images: shape (galaxies, size, size, 3), in [0, 1].
        predicted, votes: shape (galaxies, answers).
    """
    names = [answer for question in tree.questions for answer in question.answers]
    figure = Figure(figsize=(2.6 * len(images), 3.6), layout="constrained")
    all_axes = figure.subplots(1, len(images), squeeze=False)[0]
    for axes, image, got, true in zip(all_axes, images, predicted, votes, strict=True):
        axes.imshow(np.clip(image, 0, 1))
        axes.axis("off")
        top = np.argsort(-np.nan_to_num(true))[:SHOWN_ANSWERS]
        axes.set_title("\n".join(f"{names[i]}: {got[i]:.2f} ({true[i]:.2f})" for i in top), fontsize=8)
    return figure
