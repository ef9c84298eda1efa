"""The table of all recipes: where each comes from, its size, and how it scored."""

import json
from pathlib import Path

import torch

from ensemble.model import build_network
from ensemble.recipe import Recipe, known_recipes, load_recipe
from galaxy_zoo.tree import load_tree

HEADINGS = ("recipe", "source", "parameters", "view", "published", "measured here")
PATTERN = "accuracy-*.json"


def table_of_recipes(results: Path) -> str:
    """All recipes as lines of text; with the scores that benchmarks/accuracy.py left in the folder `results`."""
    measured = measured_scores(results)
    rows = [HEADINGS, *(_row(load_recipe(name), measured.get(name, "")) for name in known_recipes())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def measured_scores(results: Path) -> dict[str, str]:
    """The best that was measured of each recipe, in words."""
    found = [json.loads(path.read_text()) for path in results.glob(PATTERN)]
    worst_first = sorted(found, key=lambda each: -each["rmse"])
    return {each["recipe"]: f"RMSE {each['rmse']:.5f}, {each['data']}" for each in worst_first}


def count_parameters(recipe: Recipe) -> int:
    """The number of weights of a recipe's network, without making them."""
    with torch.device("meta"):
        network = build_network(recipe, load_tree(recipe.about.tree), pretrained=False)
    return sum(each.numel() for each in network.parameters())


def _row(recipe: Recipe, measured: str) -> tuple[str, ...]:
    view = f"{recipe.view.crop_px:g} -> {recipe.view.size_px} px"
    size = f"{count_parameters(recipe):,}"
    return recipe.name, recipe.about.source, size, view, recipe.about.published, measured
