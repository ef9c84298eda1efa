"""The table of all recipes: source, number of parameters and measured scores. Imports no torch."""

import json
from importlib import resources
from typing import Any

from ensemble.recipe_files import known_recipes, read_recipe_file

HEADINGS = ("recipe", "source", "parameters", "view", "published", "measured here")


def table_of_recipes() -> str:
    """Return a table of all recipes, one line of text each."""
    measured, parameters = measured_scores(), num_parameters()
    rows = [HEADINGS]
    for name in known_recipes():
        table = read_recipe_file(name)
        about, view = table["about"], table["view"]
        rows.append(
            (
                name,
                about["source"],
                f"{parameters[name]:,}",
                f"{view['crop_px']:g} -> {view['size_px']} px",
                about.get("published", ""),
                measured.get(name, ""),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def measured_scores() -> dict[str, str]:
    """Return the best score of each recipe that benchmarks/accuracy.py has measured, in words."""
    return _kept("scores.json")


def num_parameters() -> dict[str, int]:
    """Return the number of parameters of each recipe's network on its own tree, as a test has counted them."""
    return _kept("parameters.json")


def _kept(name: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(resources.files("ensemble.recipes").joinpath(name).read_text())
    return values
