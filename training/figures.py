"""Figures of a run: curves of its members, and their predictions for a few galaxies."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ensemble.model import Predictor
from galaxy_zoo.files import atomic_write
from galaxy_zoo.tree import DecisionTree
from galaxy_zoo.votes import Floats
from pipeline.loader import Batch
from pipeline.warp import rgb_pixels
from training.held_out import HeldOut
from training.logbook import BASELINE
from training.loop import TrackedMember
from training.run import Run
from training.style import INK, MUTED, PAPER, RULE, SERIES, style

CURVES = {
    "Training loss": ("loss",),
    "RMSE on the fold": ("rmse", BASELINE),
    "Learning rate": ("learning_rate",),
}
SHOWN_ANSWERS = 4
SHOWN_GALAXIES = 6


def draw(tracked: Sequence[TrackedMember], held_out: HeldOut | None, run: Run) -> None:
    """Draw the curves of each member; add its predictions for a few galaxies of the fold to TensorBoard."""
    batch = None
    if held_out is not None and held_out.loader is not None:
        batch = next(batch for batch in held_out.loader.epoch(0) if len(batch.ids))
    for each in tracked:
        if each.logbook is None:
            continue
        draw_curves(each.logbook.lines(), each.folder / "curves.png")
        if batch is not None:
            figure = _draw_batch(each.member.predictor, batch, run)
            each.logbook.show("galaxies", figure, run.recipe.training.epochs)


def _draw_batch(predictor: Predictor, batch: Batch, run: Run) -> Figure:
    """Draw the first galaxies of a batch of plain views with their votes."""
    images, votes = batch.views[0][:SHOWN_GALAXIES], batch.votes[:SHOWN_GALAXIES]
    first_turn = images if images.ndim == 4 else images[:, 0]
    pixels, predicted = rgb_pixels(first_turn, run.recipe.view), predictor.predict(images).cpu().numpy()
    return draw_galaxies(pixels, predicted, votes.cpu().numpy(), run.data.tree)


def draw_curves(lines: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw loss, RMSE and learning rate over the epochs as a PNG.

    Args:
        lines: metrics of each epoch, from metrics.jsonl.
    """
    epochs = [line["epoch"] + 1 for line in lines]
    with mpl.rc_context(style(ink=INK, muted=MUTED, rule=RULE)):
        figure = Figure(figsize=(11, 3.2), facecolor=PAPER)
        for axes, (title, names) in zip(figure.subplots(1, len(CURVES)), CURVES.items(), strict=True):
            for name in names:
                look: dict[str, Any] = {"color": SERIES, "marker": "."}
                if name == BASELINE:
                    look = {"color": MUTED, "linestyle": ":", "label": "mean votes"}
                axes.plot(epochs, [line.get(name, math.nan) for line in lines], **look)
            if BASELINE in names:
                axes.legend()
            axes.set(title=title, xlabel="epoch")
            axes.set_ylim(bottom=0)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        with atomic_write(path) as file:
            figure.savefig(file, format="png", dpi=110)


def draw_galaxies(images: NDArray[np.uint8], predicted: Floats, votes: Floats, tree: DecisionTree) -> Figure:
    """Draw galaxies with the answers that got the most votes, predicted and true.

    Args:
        images: uint8, shape (galaxies, size, size, 3).
        predicted, votes: shape (galaxies, answers).
    """
    names = [answer for question in tree.questions for answer in question.answers]
    figure = Figure(figsize=(2.6 * len(images), 3.6), layout="constrained")
    all_axes = figure.subplots(1, len(images), squeeze=False)[0]
    for axes, image, got, true in zip(all_axes, images, predicted, votes, strict=True):
        axes.imshow(image)
        axes.axis("off")
        top = np.argsort(-np.nan_to_num(true))[:SHOWN_ANSWERS]
        axes.set_title(
            "\n".join(f"{names[i]}: {got[i]:.2f} ({true[i]:.2f})" for i in top), fontsize=8, parse_math=False
        )
    return figure
