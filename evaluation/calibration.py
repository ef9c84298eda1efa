"""Calibration: predicted against true votes, residuals, and errors by how certain votes are."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.ticker import NullLocator
from scipy.stats import binned_statistic

from evaluation.evidence import Evidence
from evaluation.section import Figure, Figures, Section, Table
from evaluation.theme import INK, MUTED, SERIES, SHADE, add_legend, new_axes, new_panel, to_svg, without_frame
from galaxy_zoo.votes import Floats, parent_votes

BINS = 10
FEWEST = 5
"""Fewest galaxies in a bin; smaller bins say nothing and are left out."""
ASKED_OF_MOST = 0.5


def section(evidence: Evidence) -> Section:
    """Build the section of reliability, scatter, residuals, and the error by agreement of volunteers and members."""
    reliability, certainty = reliability_table(evidence), certainty_table(evidence)
    answers = Figures(tuple(_draw_answers(evidence, reliability)), "Predicted against true votes", small=True)
    residuals = Figures(
        tuple(_draw_residuals(evidence)),
        "Residuals: predicted minus true votes, mean ± standard deviation",
        small=True,
    )
    drawn = (*_draw_certainty(evidence, certainty), _draw_spread(evidence))
    certain = Figures(drawn, "Where votes are certain")
    lead = (
        "Of the galaxies predicted to get a share of the votes, the line shows the mean share that they did get: on "
        "the diagonal, votes can be taken at their word. Shades count galaxies on a logarithmic scale."
    )
    tables = (
        Table(name="calibration", title="Reliability of every answer", frame=reliability, folded=True, form=".3f"),
        Table(
            name="certainty", title="RMSE by agreement of the volunteers", frame=certainty, folded=True, form=".3f"
        ),
    )
    return Section(
        key="calibration", title="Calibration", lead=lead, blocks=(answers, residuals, certain, *tables)
    )


def reliability_table(evidence: Evidence) -> pd.DataFrame:
    """Return mean predicted and true votes of each answer, in ten bins of the predicted votes."""
    _, predicted = evidence.main
    rows = []
    for at, (column, answer) in enumerate(zip(evidence.tree.columns, _answers(evidence), strict=True)):
        true = evidence.validation.votes[:, at]
        present = ~np.isnan(true)
        got, wanted = predicted[present, at], true[present]
        means, _, _ = binned_statistic(got, [got, wanted], "mean", BINS, (0, 1))
        counts, _, _ = binned_statistic(got, got, "count", BINS, (0, 1))
        rows += [
            {
                "column": column,
                "answer": answer,
                "from": b / BINS,
                "galaxies": int(counts[b]),
                "mean predicted": means[0, b],
                "mean true": means[1, b],
            }
            for b in range(BINS)
            if counts[b]
        ]
    return pd.DataFrame(rows)


def certainty_table(evidence: Evidence) -> pd.DataFrame:
    """Return the RMSE of each question by how much volunteers agreed: by the share of its most popular answer.

    Only galaxies count for which at least half of the volunteers were asked the question.
    """
    true, (_, predicted) = evidence.validation.votes, evidence.main
    asked = parent_votes(true, evidence.tree)
    rows = []
    for number, (question, columns) in enumerate(zip(evidence.tree.questions, evidence.tree.slices, strict=True)):
        some = asked[:, number] >= ASKED_OF_MOST  # false for NaN
        some &= ~np.isnan(true[:, columns]).any(axis=1)
        agreement = true[some, columns].max(axis=1) / true[some, columns].sum(axis=1).clip(1e-9)
        errors = ((predicted[some, columns] - true[some, columns]) ** 2).mean(axis=1)
        bins = np.clip((agreement * BINS).astype(int), 0, BINS - 1)
        grouped = pd.Series(errors).groupby(bins)
        rows += [
            {
                "question": question.name,
                "agreement from": b / BINS,
                "galaxies": len(each),
                "rmse": each.mean() ** 0.5,
            }
            for b, each in grouped
        ]
    return pd.DataFrame(rows, columns=["question", "agreement from", "galaxies", "rmse"])


def _answers(evidence: Evidence) -> list[str]:
    return [f"{q.name}: {answer}" for q in evidence.tree.questions for answer in q.answers]


def _draw_answers(evidence: Evidence, reliability: pd.DataFrame) -> list[Figure]:
    _, predicted = evidence.main
    figures = []
    for at, (column, answer) in enumerate(zip(evidence.tree.columns, _answers(evidence), strict=True)):
        true = evidence.validation.votes[:, at]
        present = ~np.isnan(true)
        figure, axes = new_panel(2.2)
        if present.any():
            axes.hist2d(
                predicted[present, at],
                true[present],
                bins=40,
                range=((0, 1), (0, 1)),
                cmap=SHADE,
                norm=LogNorm(),
                rasterized=True,
            )
        axes.plot((0, 1), (0, 1), color=MUTED, linewidth=0.8, linestyle=":")
        found = reliability[(reliability["column"] == column) & (reliability["galaxies"] >= FEWEST)]
        axes.plot(found["mean predicted"], found["mean true"], "o-", color=SERIES[1], markersize=3)
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        axes.set_xlabel("predicted", labelpad=1)
        axes.set_ylabel("true", labelpad=1)
        _title(axes, *answer.split(": ", 1))
        bias = float(np.mean(predicted[present, at] - true[present])) if present.any() else np.nan
        alt = f"{answer}: predicted against true votes, mean difference {bias:+.3f}."
        figures.append(Figure(to_svg(figure, f"answer-{at}"), alt))
    return figures


def _draw_residuals(evidence: Evidence) -> list[Figure]:
    _, predicted = evidence.main
    figures = []
    for number, (question, columns) in enumerate(zip(evidence.tree.questions, evidence.tree.slices, strict=True)):
        residuals = (predicted[:, columns] - evidence.validation.votes[:, columns]).ravel()
        residuals = residuals[~np.isnan(residuals)]
        figure, axes = new_panel(1.75)
        axes.hist(
            residuals, bins=np.linspace(-1, 1, 41).tolist(), color=SERIES[0], alpha=0.75, log=len(residuals) > 0
        )
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter("{x:,g}")
        axes.set_xlim(-1, 1)
        axes.axvline(0, color=MUTED, linewidth=0.8, linestyle=":")
        mean, deviation = (float(residuals.mean()), float(residuals.std())) if len(residuals) else (np.nan, np.nan)
        _title(axes, question.name, f"{mean:+.3f} ± {deviation:.3f}")
        alt = f"{question.name}: residuals with mean {mean:+.3f} and standard deviation {deviation:.3f}."
        figures.append(Figure(to_svg(figure, f"residuals-{number}"), alt))
    return figures


def _draw_certainty(evidence: Evidence, table: pd.DataFrame) -> Iterator[Figure]:
    """Yield the figure of RMSE by agreement; none if every bin has too few galaxies."""
    names = [question.name for question in evidence.tree.questions]
    kept = table[table["galaxies"] >= FEWEST]
    if kept.empty:
        return
    grid = kept.pivot_table(index="question", columns="agreement from", values="rmse").reindex(names)
    figure, axes = new_axes(height_in=1.0 + 0.27 * len(names))
    axes.imshow(grid.to_numpy(), cmap=SHADE, aspect="auto", vmin=0, rasterized=True)
    for row, column in np.argwhere(~np.isnan(grid.to_numpy())):
        axes.text(column, row, f"{grid.iloc[row, column]:.2f}".lstrip("0"), ha="center", va="center", fontsize=8)
    axes.set_yticks(range(len(names)), names)
    axes.set_xticks(range(grid.shape[1]), [f"{left:.1f}" for left in grid.columns])
    axes.tick_params(length=0)
    axes.set_xlabel("share of the most popular answer, from")
    without_frame(axes)
    caption = "RMSE of each question where volunteers agreed (right) and where they did not (left)."
    yield Figure(to_svg(figure, "certainty"), caption, caption)


def _draw_spread(evidence: Evidence) -> Figure:
    """Draw the RMSE of galaxies against two measures that are known without the true votes."""
    true, (_, predicted) = evidence.validation.votes, evidence.main
    labelled = ~np.isnan(true).all(axis=1)
    errors = np.nanmean((predicted - true)[labelled] ** 2, axis=1)
    measures = {"predicted votes are split": split_votes(predicted)[labelled]}
    if evidence.spread.any():
        measures["members and views disagree"] = np.sqrt((evidence.spread**2).mean(axis=1))[labelled]
    figure, axes = new_axes()
    groups = min(BINS, len(errors))
    for number, (name, measure) in enumerate(measures.items()):
        group = pd.qcut(pd.Series(measure).rank(method="first"), groups, labels=False)
        rmses = np.sqrt(pd.Series(errors).groupby(group).mean())
        axes.plot(np.arange(1, groups + 1), rmses, "o-", markersize=4, label=name, color=SERIES[number])
    axes.set_xticks(range(1, groups + 1))
    axes.set_ylim(bottom=0)
    axes.set(xlabel=f"{groups} equal groups, from surest to least sure", ylabel="RMSE")
    add_legend(figure, axes)
    caption = "Does the ensemble know where it errs? RMSE by how unsure it is."
    return Figure(to_svg(figure, "spread"), caption, caption)


def split_votes(predicted: Floats) -> Floats:
    """Return how split votes are, shape (galaxies,): the root of the mean of p (1 - p); 0 if all votes are 0 or 1."""
    spread: Floats = np.sqrt((predicted * (1 - predicted)).clip(0).mean(axis=1))
    return spread


def _title(axes: Axes, first: str, second: str) -> None:
    axes.set_title(f"{first}\n", fontsize=7.5, color=MUTED)
    axes.annotate(
        second, (0, 1), (0, 4), xycoords="axes fraction", textcoords="offset points", fontsize=8, color=INK
    )
