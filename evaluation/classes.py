"""Votes as classes: the first question's confusions, precision, recall and F1; every question's accuracy."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    precision_recall_fscore_support,
)

from evaluation.evidence import Evidence
from evaluation.section import Block, Figure, Figures, Section, Table
from evaluation.theme import INK, MUTED, SERIES, SHADE, add_legend, new_axes, to_svg, without_frame
from galaxy_zoo.tree import DecisionTree
from galaxy_zoo.votes import Floats, parent_votes

ASKED_OF_MOST = 0.5
"""A question counts for a galaxy if its parent has at least this share of the votes."""

Classes = NDArray[np.int64]


def section(evidence: Evidence) -> Section:
    """Build the section about the answer with the most votes, predicted and true."""
    first = evidence.tree.questions[0]
    true, predicted = first_question(evidence.validation.votes, evidence.main[1], evidence.tree)
    accuracies = accuracy_table(evidence)
    blocks: list[Block] = [
        Figures((_draw_confusion(true, predicted, first.answers), _draw_accuracies(accuracies))),
        Table(
            name="classes",
            title=f"{first.name.capitalize()}: precision, recall, F1",
            frame=class_table(true, predicted, first.answers),
            note=f"Accuracy over all classes: {accuracy_score(true, predicted):.1%}." if len(true) else "",
            form=".3f",
        ),
        Table(
            name="confusion",
            title=f"{first.name.capitalize()}: galaxies by true and predicted class",
            frame=confusion_table(true, predicted, first.answers),
            folded=True,
        ),
        Table(name="accuracy", title="Accuracy", frame=accuracies, folded=True, form=".3f"),
    ]
    lead = (
        "A galaxy's class is the answer with the most votes. A question's accuracy counts the galaxies that at least "
        f"{ASKED_OF_MOST:.0%} of the volunteers were asked it of. Training and validation are both of the plain view."
    )
    return Section(key="classes", title="Classes", lead=lead, blocks=tuple(blocks))


def first_question(votes: Floats, predicted: Floats, tree: DecisionTree) -> tuple[Classes, Classes]:
    """Return true and predicted classes of the first question, for the galaxies that have votes for it."""
    columns = tree.slices[0]
    present = ~np.isnan(votes[:, columns]).any(axis=1)
    return votes[present, columns].argmax(axis=1), predicted[present, columns].argmax(axis=1)


def class_table(true: Classes, predicted: Classes, answers: tuple[str, ...]) -> pd.DataFrame:
    """Return precision, recall (the accuracy of the class), F1 and number of galaxies, for each class and over all."""
    labels = list(range(len(answers)))
    each = precision_recall_fscore_support(true, predicted, labels=labels, zero_division=np.nan)
    names = ("precision", "recall", "F1", "galaxies")
    table = pd.DataFrame({"class": answers, **dict(zip(names, each, strict=True))})
    mean = {"class": "mean of classes", **table[["precision", "recall", "F1"]].mean(), "galaxies": len(true)}
    table.loc[len(table)] = mean
    return table.astype({"galaxies": int})


def confusion_table(true: Classes, predicted: Classes, answers: tuple[str, ...]) -> pd.DataFrame:
    """Return numbers of galaxies, with a row for each true class and a column for each predicted class."""
    counts = confusion_matrix(true, predicted, labels=list(range(len(answers))))
    return pd.DataFrame(counts, columns=list(answers)).assign(true=answers)[["true", *answers]]


def accuracy_table(evidence: Evidence) -> pd.DataFrame:
    """Return how often the main answer is predicted, by question, or by class if there is one question."""
    sets = {"validation": (evidence.validation.votes, evidence.plain)}
    if evidence.training is not None and evidence.training_plain is not None:
        sets = {"training": (evidence.training.votes, evidence.training_plain), **sets}
    if len(evidence.tree.questions) == 1:
        return _class_accuracies(evidence.tree, sets)
    rows = []
    for number, question in enumerate(evidence.tree.questions):
        row: dict[str, object] = {"of": question.name}
        for name, (votes, predicted) in sets.items():
            row |= _accuracies(votes, predicted, evidence.tree, number, name)
        rows.append(row)
    return pd.DataFrame(rows)


def _class_accuracies(tree: DecisionTree, sets: Mapping[str, tuple[Floats, Floats]]) -> pd.DataFrame:
    table = pd.DataFrame({"of": tree.questions[0].answers})
    for name, (votes, predicted) in sets.items():
        classes = class_table(*first_question(votes, predicted, tree), tree.questions[0].answers).iloc[:-1]
        table[name], table[f"{name} galaxies"] = classes["recall"], classes["galaxies"]
    return table


def _accuracies(
    votes: Floats, predicted: Floats, tree: DecisionTree, question: int, name: str
) -> dict[str, object]:
    columns = tree.slices[question]
    asked = parent_votes(votes, tree)[:, question] >= ASKED_OF_MOST  # false for NaN
    asked &= ~np.isnan(votes[:, columns]).any(axis=1)
    true, guess = votes[asked, columns].argmax(axis=1), predicted[asked, columns].argmax(axis=1)
    return {name: accuracy_score(true, guess) if len(true) else np.nan, f"{name} galaxies": len(true)}


def _percent(share: float) -> str:
    return "–" if np.isnan(share) else f"{share:.0%}"


def _draw_confusion(true: Classes, predicted: Classes, answers: tuple[str, ...]) -> Figure:
    side = 2.2 + 0.36 * len(answers)
    figure, axes = new_axes(max(3.9, side + 1.0), side)
    counts = confusion_matrix(true, predicted, labels=list(range(len(answers))))
    with np.errstate(invalid="ignore"):  # a class without galaxies has no shares
        shares = counts / counts.sum(axis=1, keepdims=True)
    axes.imshow(shares, cmap=SHADE, vmin=0, vmax=1)
    for row, column in np.ndindex(shares.shape):
        axes.text(column, row, _percent(shares[row, column]), ha="center", va="center", fontsize=8)
    axes.tick_params(length=0)
    axes.set_yticks(range(len(answers)), answers)
    axes.set_xticks(
        range(len(answers)),
        answers,
        rotation=35 if len(answers) > 3 else 0,
        ha="right" if len(answers) > 3 else "center",
    )
    axes.set(xlabel="predicted", ylabel="true")
    axes.grid(visible=False)
    kept = ", ".join(f"{a} {_percent(s)}" for a, s in zip(answers, shares.diagonal(), strict=True))
    return Figure(
        to_svg(figure, "confusion"),
        f"Confusion matrix; share recognised: {kept}.",
        "Of each true class, the share predicted as each class; – where it has no galaxies.",
    )


def _draw_accuracies(table: pd.DataFrame) -> Figure:
    figure, axes = new_axes(height_in=1.1 + 0.3 * len(table))
    rows = np.arange(len(table))[::-1]
    names = [name for name in ("training", "validation") if name in table]
    height = 0.76 / len(names)
    for number, name in enumerate(names):
        at = rows + (0.38 - height / 2 - number * height)
        axes.barh(
            at,
            table[name],
            height=height * 0.9,
            color=SERIES[0] if name == "validation" else MUTED,
            label=name,
            alpha=1.0 if name == "validation" else 0.5,
        )
        for where, value in zip(at, table[name], strict=True):
            axes.annotate(
                _percent(value),
                (np.nan_to_num(value), where),
                (3, 0),
                textcoords="offset points",
                va="center",
                fontsize=6.5,
                color=INK if name == "validation" else MUTED,
            )
    axes.set_yticks(rows, table["of"])
    axes.set_xlim(0, 1.1)
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.set_xlabel("galaxies whose main answer is predicted")
    without_frame(axes, grid="x")
    add_legend(figure, axes)
    listed = ", ".join(f"{q} {_percent(v)}" for q, v in zip(table["of"], table["validation"], strict=True))
    return Figure(to_svg(figure, "accuracy"), f"Validation accuracy: {listed}.", "Accuracy of each, on both sets.")
