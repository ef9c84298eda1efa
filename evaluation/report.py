"""The report: one self-contained page, and its tables as CSV and JSON."""

import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from evaluation import calibration, classes, gallery, scoring, sizes, training
from evaluation.evidence import Evidence
from evaluation.request import JSON_NAME, PAGE_NAME, TABLES_NAME
from evaluation.section import Section, Table
from evaluation.theme import styled
from galaxy_zoo.errors import OutputError
from galaxy_zoo.files import atomic_write, check_can_write, write_text
from galaxy_zoo.progress import progress
from galaxy_zoo.scores import bootstrap_interval
from galaxy_zoo.text import shown
from galaxy_zoo.version import __version__

MOST_ROWS = 400
"""Rows of a table that the page shows."""
MOST_RECIPES = 3
"""Recipes that the title of a page names."""

Make = Callable[[], Section]
SECTIONS: Sequence[Callable[[Evidence], Section]] = (
    scoring.section,
    training.section,
    sizes.section,
    classes.section,
    calibration.section,
    gallery.tree_section,
    gallery.section,
)
"""Sections that need only predictions."""


def check_folder(folder: Path) -> None:
    """Create the folder of a report if it is missing, and check, before long work, that it can be written to.

    Raises:
        OutputError: the path is a file, cannot be created or is read-only, or it holds folders or links with the
            names of files of a report.
    """
    if (folder / TABLES_NAME).is_symlink():
        raise OutputError(f"{folder / TABLES_NAME} is a symbolic link; remove it, or give another --out")
    try:
        (folder / TABLES_NAME).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made a folder ({error.strerror}); give another --out") from error
    for each in (folder, folder / TABLES_NAME):
        if not os.access(each, os.W_OK):
            raise OutputError(f"{each} is read-only; give another --out")
    for name in (PAGE_NAME, JSON_NAME):
        check_can_write(folder / name)


def write_report(folder: Path, evidence: Evidence, more: Sequence[Make] = ()) -> Path:
    """Write page and tables into a folder that `check_folder` has checked; show progress.

    Args:
        more: further sections, built after the others.

    Returns:
        The path of the page.

    Raises:
        RunError: a run has no log.
        OSError: the folder cannot be written.
    """
    sections = make_sections(evidence, more)
    tables = [block for section in sections for block in section.blocks if isinstance(block, Table)]
    for table in tables:
        with atomic_write(folder / TABLES_NAME / f"{table.name}.csv") as file:
            file.write(table.frame.to_csv(index=False).encode())
    facts = describe(evidence)
    rows = {table.name: json.loads(table.frame.to_json(orient="records")) for table in tables}
    write_text(folder / JSON_NAME, json.dumps({"report": facts, "tables": rows}, indent=1) + "\n")
    write_text(folder / PAGE_NAME, render(facts, sections))
    return folder / PAGE_NAME


def make_sections(evidence: Evidence, more: Sequence[Make]) -> list[Section]:
    """Return all sections in order."""
    makers: list[Make] = [
        *(partial(make, evidence) for make in SECTIONS),
        *more,
    ]
    sections = []
    with styled(), progress(total=len(makers), unit="sections", desc="report") as bar:
        for make in makers:
            sections.append(make())
            bar.update()
    return sections


def describe(evidence: Evidence) -> dict[str, Any]:
    """Return facts about what was evaluated, for the head of the page."""
    name, votes = evidence.main
    true, how = evidence.validation.votes, evidence.resampling
    score = bootstrap_interval(votes, true, how=how)
    baseline = bootstrap_interval(evidence.baseline, true, how=how)
    recipes = list(dict.fromkeys(shown(each.run.recipe.name) for each in evidence.predictions))
    return {
        "title": " + ".join(recipes) if len(recipes) <= MOST_RECIPES else name,
        "seen": "held out, and used to choose best epochs"
        if evidence.has_chosen_epochs
        else "that no run has seen",
        "prediction": name,
        "rmse": score.value,
        "low": score.low,
        "high": score.high,
        "baseline": baseline.value,
        "galaxies": len(true),
        "training_galaxies": 0 if evidence.training is None else len(evidence.training.votes),
        "members": len(evidence.members),
        "tree": evidence.tree.name,
        "version": __version__,
        "runs": [
            {
                "name": each.name,
                "recipe": shown(each.run.recipe.name),
                "source": shown(each.run.recipe.about.source),
                "members": len(each.members),
                "views": each.validation.shape[1],
                "fold": ", ".join(run.fold for run in (each.run, *each.folds)),
                "seed": each.run.seed,
            }
            for each in evidence.predictions
        ],
    }


def render(facts: dict[str, Any], sections: Sequence[Section]) -> str:
    """Return the page."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("evaluation"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["cell"] = cell
    environment.filters["kind"] = lambda block: type(block).__name__
    environment.globals["most_rows"] = MOST_ROWS
    environment.globals["is_number"] = lambda frame, column: pd.api.types.is_numeric_dtype(frame[column])
    environment.globals["asset"] = lambda name: resources.files("evaluation.templates").joinpath(name).read_text()
    return environment.get_template("report.html").render(facts=facts, sections=sections)


def cell(value: object, form: str) -> str:
    """Return a value of a table as text. form: format of numbers with a fraction, such as ".5f"."""
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    if isinstance(value, float | np.floating):
        return "–" if np.isnan(value) else format(value, form)
    return str(value)
