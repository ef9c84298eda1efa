"""The effect of the number of members and of test-time views on the score of their blend."""

from itertools import combinations, islice
from math import comb

import numpy as np
import pandas as pd

from evaluation.evidence import Evidence
from evaluation.section import Figure, Figures, Section, Table
from evaluation.theme import SERIES, add_legend, new_axes, to_svg
from galaxy_zoo.votes import Floats, rmse
from prediction.blend import BLENDS, NUM_FOLDS, HeldOutPredictions

SUBSETS = 20
"""Most subsets of each size to score; they are drawn with a fixed seed."""
USED = 1e-6
BLENDS_NOTE = (
    "Fitted: on the same galaxies that are scored, so too good. Cross-fitted: each fifth of the galaxies by a blend "
    "fitted on the others. Less uniform: cross-fitted, minus the uniform mean's RMSE, with its interval."
)


def section(evidence: Evidence) -> Section:
    """Build the section of RMSE against members and views, and of fitted blends; empty if there is one of each."""
    num_views = min(each.validation.shape[1] for each in evidence.predictions)
    views = np.concatenate([each.validation[:, :num_views] for each in evidence.predictions]).mean(axis=0)
    figures: list[Figure] = []
    tables: list[Table] = []
    if len(evidence.members) > 1 and len(evidence.validation.votes) >= NUM_FOLDS:
        held_out = HeldOutPredictions(evidence.members, evidence.validation.votes)
        curve = held_out.curve()
        members = subset_scores(evidence.members, evidence.validation.votes).assign(
            **{"best k": curve.fitted_rmse, "best k, cross-fitted": curve.held_out_rmse}
        )
        figures.append(_draw(members, "members"))
        tables.append(Table(name="blends", title="Blends", frame=blend_scores(held_out), note=BLENDS_NOTE))
        tables.append(Table(name="rmse_by_members", title="RMSE by number of members", frame=members, folded=True))
    if num_views > 1:
        scores = subset_scores(views, evidence.validation.votes)
        figures.append(_draw(scores, "views"))
        tables.append(Table(name="rmse_by_views", title="RMSE by number of views", frame=scores, folded=True))
    if not figures:
        lead = "One member and one view were evaluated; with more members, or --views 8, their effect shows here."
        return Section(key="sizes", title="Members and views", lead=lead, blocks=())
    lead = (
        f"Uniform means of every number of members and of views: the mean over up to {SUBSETS} subsets of each size, "
        "and the range from the best to the worst of them."
    )
    return Section(key="sizes", title="Members and views", lead=lead, blocks=(Figures(tuple(figures)), *tables))


def blend_scores(held_out: HeldOutPredictions) -> pd.DataFrame:
    """Score every kind of blend, fitted on all galaxies and cross-fitted, and compare it with the uniform mean."""
    rows = []
    for name, method in BLENDS.items():
        fitted = held_out.fit(method)
        difference = fitted.against_uniform.difference
        rows.append(
            {
                "blend": name,
                "members used": int((fitted.weights > USED).sum()),
                "fitted": fitted.fitted_rmse,
                "cross-fitted": fitted.held_out_rmse,
                "over-fit": fitted.held_out_rmse - fitted.fitted_rmse,
                "less uniform": difference.value,
                "low": difference.low,
                "high": difference.high,
            }
        )
    return pd.DataFrame(rows)


def subset_scores(predictions: Floats, true: Floats) -> pd.DataFrame:
    """Return the RMSE of uniform means of 1, 2, ... predictions.

    Args:
        predictions: shape (predictions, galaxies, answers).
    """
    rows = []
    for size in range(1, len(predictions) + 1):
        scores = [rmse(predictions[list(some)].mean(axis=0), true) for some in _subsets(len(predictions), size)]
        rows.append({"number": size, "rmse": np.mean(scores), "best": min(scores), "worst": max(scores)})
    return pd.DataFrame(rows)


def _subsets(count: int, size: int) -> list[tuple[int, ...]]:
    """Return all subsets if they are few, otherwise random ones."""
    if comb(count, size) <= SUBSETS:
        return list(islice(combinations(range(count), size), SUBSETS))
    rng = np.random.default_rng([count, size])
    return [tuple(rng.choice(count, size, replace=False).tolist()) for _ in range(SUBSETS)]


def _draw(scores: pd.DataFrame, what: str) -> Figure:
    figure, axes = new_axes(height_in=2.5)
    axes.fill_between(scores["number"], scores["best"], scores["worst"], color=SERIES[0], alpha=0.18, linewidth=0)
    axes.plot(scores["number"], scores["rmse"], "o-", color=SERIES[0], markersize=4, label="random")
    for name, style in (("best k", "--"), ("best k, cross-fitted", "-")):
        if name in scores:
            axes.plot(scores["number"], scores[name], style, color=SERIES[1], linewidth=1.2, label=name)
    if "best k" in scores:
        add_legend(figure, axes)
    axes.set_xticks(scores["number"].iloc[:: 1 + len(scores) // 12])
    axes.set_xlabel(f"{what} in the blend")
    axes.set_ylabel("RMSE")
    first, last = scores["rmse"].iloc[0], scores["rmse"].iloc[-1]
    alt = f"RMSE falls from {first:.4f} with one to {last:.4f} with all {len(scores)} {what}."
    return Figure(to_svg(figure, what), alt, f"Number of {what}: RMSE {first:.4f} with one, {last:.4f} with all.")
