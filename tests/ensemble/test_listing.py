"""The table of recipes, and the scores and numbers of parameters it shows."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ensemble import listing
from ensemble.listing import measured_scores, num_parameters, table_of_recipes
from ensemble.model import build_network
from ensemble.networks.backbones import Timm
from ensemble.recipe import load_recipe
from ensemble.recipe_files import known_recipes
from galaxy_zoo.tree import load_tree

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
PUBLISHED = {
    "ng_cnn": 19_460_645,
    "ng_cbam": 19_636_081,
    "ng_baseline": 2_896_709,
    "dieleman": pytest.approx(42e6, rel=0.01),
    "plain": pytest.approx(1.4e6, rel=0.03),
}


def count_parameters(name: str) -> int:
    """Build the network without its memory and count; of a frozen one all parameters, whatever timm makes of them."""
    recipe = load_recipe(name)
    if isinstance(recipe.network, Timm):
        recipe = replace(recipe, network=replace(recipe.network, frozen=False))
    with torch.device("meta"):
        network = build_network(recipe, load_tree(recipe.about.tree), pretrained=False)
    return sum(each.numel() for each in network.parameters())


def test_the_kept_numbers_of_parameters_are_those_of_the_networks() -> None:
    counted = {name: count_parameters(name) for name in known_recipes()}
    assert num_parameters() == counted, (
        f"write into ensemble/recipes/parameters.json:\n{json.dumps(counted, indent=1)}"
    )


def test_networks_have_the_published_number_of_parameters(subtests: pytest.Subtests) -> None:
    for name, parameters in PUBLISHED.items():
        with subtests.test(name=name):
            assert num_parameters()[name] == parameters


def test_the_kept_scores_are_the_best_that_were_measured() -> None:
    found = [json.loads(path.read_text()) for path in RESULTS.glob("accuracy-*.json")]
    worst_first = sorted(found, key=lambda each: -each["rmse"])
    best = {each["recipe"]: f"RMSE {each['rmse']:.5f}, {each['data']}" for each in worst_first}
    assert best
    assert measured_scores() == best, (
        f"write into ensemble/recipes/scores.json:\n{json.dumps(best, indent=1, sort_keys=True)}"
    )


def test_the_list_shows_what_was_measured_beside_what_was_published(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "measured_scores", lambda: {"ng_cnn": "RMSE 0.09123, 7,696 galaxies"})
    lines = table_of_recipes().splitlines()
    assert len(lines) == 1 + len(known_recipes())
    [line] = [line for line in lines if line.startswith("ng_cnn ")]
    assert "19,460,645" in line
    assert "RMSE 0.08003, Kaggle private  " in line
    assert line.endswith("  RMSE 0.09123, 7,696 galaxies")
    assert not [line for line in lines if re.search(r"(?<!\d)\.\d", line)]  # all scores as 0.1, none as .1


@pytest.mark.slow
def test_the_list_needs_no_torch() -> None:
    program = (
        "import sys\nfrom ensemble.listing import table_of_recipes\n"
        "table_of_recipes()\nprint(*sorted({'torch', 'timm', 'pandas'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []
