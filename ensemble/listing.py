"""The table of all recipes: source, number of parameters and measured scores. Imports no torch."""

import json
from importlib import resources
from pathlib import Path

from ensemble.recipe_files import known_recipes, read_recipe_file

HEADINGS = ("recipe", "source", "parameters", "view", "published", "measured here")
RESULTS = "accuracy-*.json"


def table_of_recipes(results: Path) -> str:
    """Return all recipes as lines of text, with the scores that benchmarks/accuracy.py left in `results`."""
    measured, parameters = measured_scores(results), num_parameters()
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


def measured_scores(results: Path) -> dict[str, str]:
    """Return the best measured score of each recipe, in words."""
    found = [json.loads(path.read_text()) for path in results.glob(RESULTS)]
    worst_first = sorted(found, key=lambda each: -each["rmse"])
    return {each["recipe"]: f"RMSE {each['rmse']:.5f}, {each['data']}" for each in worst_first}


def num_parameters() -> dict[str, int]:
    """Return the number of parameters of each recipe's network on its own tree, as counted by a test."""
    text = resources.files("ensemble.recipes").joinpath("parameters.json").read_text()
    numbers: dict[str, int] = json.loads(text)
    return numbers
