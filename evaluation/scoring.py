"""RMSE with intervals, overall, by question and by answer; paired comparisons; published scores beside them."""

from collections.abc import Iterator, Mapping
from itertools import combinations

import numpy as np
import pandas as pd

from ensemble.recipe_files import known_recipes, read_recipe_file
from evaluation.evidence import Evidence
from evaluation.section import Block, Figure, Figures, Section, Table
from evaluation.theme import INK, MUTED, SERIES, add_legend, new_axes, short, to_svg, without_frame
from galaxy_zoo.scores import (
    Interval,
    bootstrap_by_question,
    bootstrap_interval,
    paired_bootstrap,
)
from galaxy_zoo.votes import Floats

BASELINE = "mean votes"
MOST_MEMBERS = 12
"""Most members that are listed one by one; with more, only blends are listed."""
MOST_PAIRS = 15
MOST_PUBLISHED = 12


PUBLISHED = {
    "gz2-kaggle": (
        ("17 networks, 60 views: the challenge's winner", "Dieleman 2014", "RMSE 0.07491, Kaggle private"),
        ("mean of the best 8 of 10 CNNs", "Ng 2024", "RMSE 0.07716, Kaggle private"),
    )
}
"""Published scores of systems that are not single recipes: tree -> system, source, score.

Source: Dieleman, Willett & Dambre 2015, MNRAS 450, 1441, and the report that the recipes ng_* are named after.
"""


def section(evidence: Evidence) -> Section:
    """Build the section about the RMSE: which prediction is best, how certain that is, and for which questions."""
    entries = predictions_by_name(evidence)
    overall = overall_scores(evidence, entries)
    questions = question_scores(evidence)
    blocks: list[Block] = [
        Figures((_draw_overall(overall), _draw_questions(evidence, questions))),
        Table(name="rmse", title="RMSE over all votes", frame=overall),
    ]
    if len(entries) > 1:
        note = "Difference of RMSE on the same resampled galaxies; below 0 the first is better."
        pairs = paired_scores(evidence, entries)
        blocks.append(
            Table(
                name="pairs", title="Paired comparisons", frame=pairs, note=note, percentages=("first better in",)
            )
        )
    published = published_scores(evidence)
    if len(published):
        note = "Read in publications and measured on other galaxies than these; not directly comparable."
        blocks.append(
            Table(
                name="published",
                title="Published numbers",
                frame=published,
                note=note,
                folded=len(published) > MOST_PUBLISHED,
            )
        )
    blocks += [
        Table(name="rmse_by_question", title="RMSE by question", frame=questions, folded=True),
        Table(name="rmse_by_answer", title="RMSE by answer", frame=answer_scores(evidence), folded=True),
    ]
    how = evidence.resampling
    lead = (
        f"Kaggle's score: the root of the mean over all galaxies and answers of the squared error. Intervals hold "
        f"{how.confidence:.0%} of {how.resamples:,} bootstrap resamples of the {len(evidence.validation.votes):,} "
        "galaxies; they say how far a score moves on other galaxies of the same kind."
    )
    if evidence.has_chosen_epochs:
        lead += (
            " The best epoch of each member was chosen by its score on galaxies of this fold, so scores are a little "
            "better than on others; for galaxies that decided nothing, evaluate with --split test --truth."
        )
    return Section(key="scores", title="Score", lead=lead, blocks=tuple(blocks))


def predictions_by_name(evidence: Evidence) -> Mapping[str, Floats]:
    """Return the predictions to score: members, if they are few, and blends."""
    entries: dict[str, Floats] = {}
    if 1 < len(evidence.members) <= MOST_MEMBERS:
        for each in evidence.predictions:
            if len(each.members) > 1:
                entries |= {f"{each.name}, member {m}": votes for m, votes in enumerate(each.members)}
    return entries | dict(evidence.blends)


def overall_scores(evidence: Evidence, entries: Mapping[str, Floats]) -> pd.DataFrame:
    """Return the RMSE of each prediction and of the baseline."""
    true, how = evidence.validation.votes, evidence.resampling
    scores = {name: bootstrap_interval(votes, true, how=how) for name, votes in entries.items()}
    scores[BASELINE] = bootstrap_interval(evidence.baseline, true, how=how)
    return pd.DataFrame([{"prediction": name, **_columns(score)} for name, score in scores.items()])


def question_scores(evidence: Evidence) -> pd.DataFrame:
    """Return the RMSE of each question, for each blend and the baseline."""
    rows = []
    for name, votes in {**evidence.blends, BASELINE: evidence.baseline}.items():
        scores = bootstrap_by_question(votes, evidence.validation.votes, evidence.tree, how=evidence.resampling)
        rows += [
            {"prediction": name, "question": question.name, **_columns(score)}
            for question, score in zip(evidence.tree.questions, scores, strict=True)
        ]
    return pd.DataFrame(rows)


def answer_scores(evidence: Evidence) -> pd.DataFrame:
    """Return the RMSE of each answer, for the main blend and the baseline."""
    true, (_, votes) = evidence.validation.votes, evidence.main
    rows = []
    for at, (question, answer) in enumerate(_answers(evidence)):
        column = slice(at, at + 1)
        score = bootstrap_interval(votes, true, columns=column, how=evidence.resampling)
        baseline = bootstrap_interval(evidence.baseline, true, columns=column, how=evidence.resampling)
        rows.append({"question": question, "answer": answer, **_columns(score), BASELINE: baseline.value})
    return pd.DataFrame(rows)


def paired_scores(evidence: Evidence, entries: Mapping[str, Floats]) -> pd.DataFrame:
    """Compare each pair of predictions; if there are many, each pair of blends, and each member with the main blend."""
    pairs = list(combinations(entries, 2))
    if len(pairs) > MOST_PAIRS:
        blends, (main, _) = list(evidence.blends), evidence.main
        pairs = [*combinations(blends, 2), *((name, main) for name in entries if name not in blends)]
    rows = []
    for first, second in pairs:
        found = paired_bootstrap(
            entries[first], entries[second], evidence.validation.votes, how=evidence.resampling
        )
        difference = found.difference
        rows.append(
            {
                "first": first,
                "second": second,
                "difference": difference.value,
                "low": difference.low,
                "high": difference.high,
                "first better in": found.share_better,
            }
        )
    return pd.DataFrame(rows)


def published_scores(evidence: Evidence) -> pd.DataFrame:
    """Return the published scores on the tree, of recipes and of blends; those evaluated here come first."""
    here = {each.run.recipe.name for each in evidence.predictions}
    rows = []
    for name in known_recipes():
        about = read_recipe_file(name)["about"]
        score = " ".join(str(value) for key, value in about.items() if key.startswith("published"))
        if score and about.get("tree", "gz2-kaggle") == evidence.tree.name:
            rows.append((name, about["source"], score))
    rows = [*sorted(rows, key=lambda row: row[0] not in here), *PUBLISHED.get(evidence.tree.name, ())]
    table = pd.DataFrame(rows, columns=["system", "by", "published"])
    return table.assign(**{"evaluated here": ["yes" if name in here else "" for name in table["system"]]})


def _answers(evidence: Evidence) -> Iterator[tuple[str, str]]:
    for question in evidence.tree.questions:
        yield from ((question.name, answer) for answer in question.answers)


def _columns(score: Interval) -> dict[str, float]:
    return {"rmse": score.value, "low": score.low, "high": score.high}


def _draw_overall(scores: pd.DataFrame) -> Figure:
    figure, axes = new_axes(height_in=0.9 + 0.28 * len(scores))
    rows = np.arange(len(scores))[::-1]
    errors = [scores["rmse"] - scores["low"], scores["high"] - scores["rmse"]]
    is_baseline = scores["prediction"] == BASELINE
    for some, colour in ((~is_baseline, SERIES[0]), (is_baseline, MUTED)):
        axes.errorbar(
            scores["rmse"][some],
            rows[some],
            xerr=[each[some] for each in errors],
            fmt="o",
            markersize=5,
            color=colour,
        )
    for row, value, high in zip(rows, scores["rmse"], scores["high"], strict=True):
        axes.annotate(f"{value:.4f}", (high, row), (6, 0), textcoords="offset points", va="center", color=INK)
    axes.set_yticks(rows, [short(name) for name in scores["prediction"]])
    axes.margins(x=0.2, y=0.12)
    axes.set_xlabel("RMSE; further left is better")
    without_frame(axes, grid="x")
    best = scores.loc[~is_baseline].sort_values("rmse").iloc[0]
    alt = f"RMSE of each prediction; lowest: {best['prediction']} with {best['rmse']:.4f}."
    return Figure(
        to_svg(figure, "rmse"), alt, "RMSE over all votes, beside the mean votes of the training galaxies."
    )


def _draw_questions(evidence: Evidence, scores: pd.DataFrame) -> Figure:
    questions = [question.name for question in evidence.tree.questions]
    figure, axes = new_axes(height_in=1.1 + 0.26 * len(questions))
    rows = np.arange(len(questions))[::-1]
    names = [*evidence.blends, BASELINE]
    for number, name in enumerate(names):
        found = scores[scores["prediction"] == name]
        nudge = (number - (len(names) - 2) / 2) * 0.16 if name != BASELINE else 0.0
        axes.errorbar(
            found["rmse"],
            rows - nudge,
            xerr=[found["rmse"] - found["low"], found["high"] - found["rmse"]],
            fmt="D" if name == BASELINE else "o",
            markersize=4,
            color=MUTED if name == BASELINE else SERIES[number % len(SERIES)],
            label=name,
        )
    axes.set_yticks(rows, questions)
    axes.set_xlim(left=0)
    axes.set_xlabel("RMSE over the answers of the question")
    without_frame(axes, grid="x")
    add_legend(figure, axes)
    return Figure(
        to_svg(figure, "rmse-questions"), "RMSE of each question beside the mean votes.", "RMSE of each question."
    )
