"""Galaxies to look at, with their votes on the decision tree: best, worst, most uncertain, most disagreeing."""

import base64
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from evaluation.evidence import Evidence
from evaluation.section import Fragment, Section
from galaxy_zoo.text import shown
from galaxy_zoo.tree import DecisionTree
from galaxy_zoo.votes import Floats, mean_votes, parent_votes
from pipeline.proof import decode
from pipeline.shards import Samples

PICTURE_PX = 160
QUALITY = 72
"""Quality of the WebP pictures, about 4 kB each at 160 px."""
OVERALL, PER_QUESTION = 12, 4
"""Number of galaxies in each group, over all questions and for each question."""
ASKED_OF_MOST = 0.5

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer on the tree; `true` is None if the vote is missing. children: questions that it leads to."""

    name: str
    true: float | None
    predicted: float | None
    children: "tuple[Asked, ...]"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question on the tree. number: counted from 1. share: true votes of its parent answer."""

    number: int
    name: str
    share: float
    answers: tuple[Answer, ...]


@dataclass(frozen=True, kw_only=True)
class Card:
    """A galaxy of the gallery. measures: name -> value over all questions, then for each question."""

    id: str
    picture: str
    votes: tuple[Asked, ...]
    measures: dict[str, list[float]]
    groups: list[str]


@dataclass(frozen=True)
class Measures:
    """Measures of each galaxy, over all answers and for each question, shape (galaxies, 1 + questions)."""

    error: Floats
    uncertainty: Floats
    disagreement: Floats


def tree_section(evidence: Evidence) -> Section:
    """Build the section of the decision tree with mean votes, true and predicted."""
    _, predicted = evidence.main
    votes = votes_on_tree(evidence.tree, mean_votes(evidence.validation.votes), predicted.mean(axis=0))
    lead = "Every question hangs from the answer that leads to it. Bars are mean votes of all validation galaxies."
    return Section(key="tree", title="Decision tree", lead=lead, blocks=(Fragment("tree.html", votes),))


def section(evidence: Evidence) -> Section:
    """Build the section of the gallery."""
    found = measure(evidence)
    groups = choose(evidence, found)
    _, predicted = evidence.main
    pictures = draw(evidence.validation.galaxies, list(groups), crop_px(evidence), PICTURE_PX)
    cards = [
        Card(
            id=shown(evidence.validation.galaxies.keys[at]),
            picture=picture,
            votes=votes_on_tree(evidence.tree, evidence.validation.votes[at], predicted[at]),
            measures={name: _rounded(values[at]) for name, values in vars(found).items()},
            groups=names,
        )
        for (at, names), picture in zip(groups.items(), pictures, strict=True)
    ]
    lead = (
        "Error is the RMSE of a galaxy's votes. Uncertain: the predicted votes are split. Disagreeing: members and "
        "views predict different votes. A question's own galaxies are those that most volunteers were asked it of."
    )
    data = {"cards": cards, "questions": [question.name for question in evidence.tree.questions]}
    return Section(key="gallery", title="Gallery", lead=lead, blocks=(Fragment("gallery.html", data),))


def votes_on_tree(tree: DecisionTree, true: Floats, predicted: Floats) -> tuple[Asked, ...]:
    """Return true and predicted votes, shape (answers,), as a tree: first questions, with the others nested."""
    shares = parent_votes(true[None], tree)[0]

    def asked(parent: int | None) -> tuple[Asked, ...]:
        return tuple(
            Asked(
                number=number + 1,
                name=question.name,
                share=float(np.nan_to_num(shares[number])),
                answers=tuple(
                    Answer(
                        name=name,
                        true=_present(true[column]),
                        predicted=_present(predicted[column]),
                        children=asked(column),
                    )
                    for name, column in zip(question.answers, range(columns.start, columns.stop), strict=True)
                ),
            )
            for number, (question, columns) in enumerate(zip(tree.questions, tree.slices, strict=True))
            if tree.parents[number] == parent
        )

    return asked(None)


def measure(evidence: Evidence) -> Measures:
    """Return the measures of every galaxy."""
    true, (_, predicted) = evidence.validation.votes, evidence.main

    def by_question(squares: Floats) -> Floats:
        present = ~np.isnan(squares)
        filled = np.where(present, squares, 0)
        parts = [slice(None), *evidence.tree.slices]
        sums = np.stack([filled[:, part].sum(axis=1) for part in parts], axis=1)
        counts = np.stack([present[:, part].sum(axis=1) for part in parts], axis=1)
        roots: Floats = np.sqrt(sums / np.maximum(counts, 1))
        return roots

    return Measures(
        error=by_question((predicted - true) ** 2),
        uncertainty=by_question((predicted * (1 - predicted)).clip(0)),
        disagreement=by_question(evidence.spread**2),
    )


def choose(evidence: Evidence, found: Measures) -> dict[int, list[str]]:
    """Return the groups each galaxy is in, by position: "worst" over all questions, "worst-3" in the third one."""
    asked = parent_votes(evidence.validation.votes, evidence.tree) >= ASKED_OF_MOST
    rankings = {
        "worst": -found.error,
        "best": found.error,
        "uncertain": -found.uncertainty,
        "disagreeing": -found.disagreement,
    }
    groups: dict[int, list[str]] = {}
    for name, ranking in rankings.items():
        if name == "disagreeing" and not found.disagreement.any():
            continue
        for part in range(ranking.shape[1]):
            eligible = np.flatnonzero(asked[:, part - 1]) if part else np.arange(len(ranking))
            ranked = eligible[np.argsort(ranking[eligible, part], kind="stable")]
            for at in ranked[: PER_QUESTION if part else OVERALL].tolist():
                groups.setdefault(at, []).append(f"{name}-{part}" if part else name)
    return groups


def crop_px(evidence: Evidence) -> float:
    """Return the side of the window that the first run's network looks at, in pixels of the image."""
    return evidence.predictions[0].run.recipe.view.crop_px


def draw(galaxies: Samples, positions: list[int], crop: float, side_px: int) -> list[str]:
    """Return pictures of the middle `crop` pixels of galaxies, as data URIs."""
    pictures = []
    for at in positions:
        pixels = decode(galaxies, at)
        height, width = pixels.shape[:2]
        side = min(round(crop), height, width)
        top, left = (height - side) // 2, (width - side) // 2
        pictures.append(to_uri(pixels[top : top + side, left : left + side], side_px))
    return pictures


def to_uri(pixels: Pixels, side_px: int) -> str:
    """Return a square picture, uint8, RGB, as a data URI at `side_px`."""
    method = cv2.INTER_AREA if side_px < len(pixels) else cv2.INTER_LINEAR
    scaled = cv2.resize(pixels, (side_px, side_px), interpolation=method)
    _, encoded = cv2.imencode(".webp", scaled[:, :, ::-1], [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
    return f"data:image/webp;base64,{base64.b64encode(encoded.tobytes()).decode()}"


def _present(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _rounded(values: Floats) -> list[float]:
    return [round(float(value), 4) for value in values]
