import tomllib
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from importlib import resources
from typing import Any

import pytest
import torch

from ensemble.model import build_network
from ensemble.recipe import Recipe, load_recipe, recipe_from_table
from ensemble.recipe_files import known_recipes, parse_settings
from galaxy_zoo.errors import RecipeError, RunError
from galaxy_zoo.tree import load_tree
from galaxy_zoo.votes import check_votes


@pytest.fixture
def table() -> dict[str, Any]:
    return tomllib.loads(resources.files("ensemble.recipes").joinpath("quick.toml").read_text())


def parse(table: dict[str, Any]) -> Recipe:
    return recipe_from_table(table, "mine", where="mine.toml")


def images_for(recipe: Recipe) -> torch.Tensor:
    """Two images of the recipe's shape."""
    size, turns = recipe.view.size_px, len(recipe.view.turns_deg)
    return torch.rand(2, *([turns] if turns > 1 else []), 3, size, size)


def test_every_recipe_trains_all_it_should_on_images_of_its_size(subtests: pytest.Subtests) -> None:
    """On the meta device: shapes, types and gradients without the arithmetic."""
    for name in known_recipes():
        with subtests.test(name=name):
            recipe = load_recipe(name)
            tree = load_tree(recipe.about.tree)
            with torch.device("meta"):
                network = build_network(recipe, tree, pretrained=False)
                votes = network[1](network[0](images_for(recipe)))
                recipe.loss.build(tree)(votes, torch.rand_like(votes)).backward()
            assert votes.shape == (2, len(tree.columns))
            assert votes.dtype == torch.float32
            assert all(each.grad is not None for each in network.parameters() if each.requires_grad)
            optimiser = recipe.optimiser.build(network[0], fused=False)
            assert recipe.schedule.build(optimiser, epochs=recipe.training.epochs, steps_per_epoch=3)
            assert recipe.about.source


TREE_HEADS = ["quick", "small_data", "dieleman_part_dense_256", "deepgalaxies_small"]


def test_recipes_with_a_tree_head_obey_the_tree(subtests: pytest.Subtests) -> None:
    for name in TREE_HEADS:
        with subtests.test(name=name):
            recipe = load_recipe(name)
            tree = load_tree(recipe.about.tree)
            with torch.no_grad():
                votes = build_network(recipe, tree, pretrained=False).eval()(images_for(recipe))
            assert check_votes(votes.double().numpy(), tree, tolerance=1e-5) == []


CROPS = [("ng_baseline_cbam", 184, 351), ("ng_dinov2", 128, 287), ("serrano_1", 0.8 * 424, 1.2 * 424)]


def test_sides_of_crops_are_uniform_in_the_published_range(subtests: pytest.Subtests) -> None:
    for name, narrowest_px, widest_px in CROPS:
        with subtests.test(name=name):
            view = load_recipe(name).view
            assert view.zoom_law == "uniform_side"
            assert view.crop_px / view.zoom[1] == pytest.approx(narrowest_px, rel=1e-3)
            assert view.crop_px / view.zoom[0] == pytest.approx(widest_px, rel=1e-3)


FIELD = {
    "khunger": 6, "serrano": 4, "ng": 9, "notebook": 4, "deepgalaxies": 4, "dieleman": 12,
}  # fmt: skip


def test_every_published_system_has_a_recipe() -> None:
    families = Counter(name.split("_")[0] for name in known_recipes())
    assert FIELD.items() <= families.items()


def test_dirichlet_head_and_loss_need_each_other(table: dict[str, Any]) -> None:
    table["head"] = {"kind": "dirichlet"}
    with pytest.raises(RecipeError, match="need each other"):
        parse(table)
    table["loss"] = {"kind": "dirichlet_multinomial"}
    assert parse(table).head


Change = Callable[[dict[str, Any]], Any]
WRONG: list[tuple[Change, str]] = [
    (lambda t: t["view"].update(crop_pix=3), r"\[view\]: unknown key 'crop_pix'; did you mean 'crop_px'\?"),
    (lambda t: t.update(veiw={}), r"unknown table \[veiw\]; did you mean 'view'\?"),
    (lambda t: t.pop("loss"), r"table \[loss\] is missing"),
    (lambda t: t["optimiser"].pop("lr"), r"\[optimiser\]: key 'lr' is missing"),
    (lambda t: t["optimiser"].update(lr="fast"), r"lr must be of type float, not 'fast'"),
    (lambda t: t["optimiser"].update(lr=-1.0), r"lr must be above 0"),
    (lambda t: t["optimiser"].update(kind="adan"), r"kind must be one of adam, adamw"),
    (lambda t: t["optimiser"].update(momentum=0.9), r"momentum and nesterov are for kind 'sgd'"),
    (lambda t: t["network"].update(kind="cn"), r"\[network\]: unknown kind 'cn'; did you mean 'cnn'\?"),
    (lambda t: t["network"].pop("kind"), r"\[network\] must be a table with a key 'kind'"),
    (lambda t: t["network"].update(channels=[1, 2]), r"2 channels for 4 kernels"),
    (lambda t: t["network"].update(channels=[1, "2"]), r"channels must be of type int, not '2'"),
    (lambda t: t["network"].update(pools=["max"]), r"pools must be"),
    (lambda t: t.update(network={"kind": "timm", "model": "resnet5"}), r"timm has no model 'resnet5'"),
    (lambda t: t["view"].update(zoom=[1.0]), r"zoom must have 2 values, not 1"),
    (lambda t: t["view"].update(zoom=[2.0, 1.0]), r"zoom must be \[lowest, highest\]"),
    (lambda t: t["view"].update(flip=1), r"flip must be of type bool, not 1"),
    (lambda t: t["training"].update(epochs=0), r"epochs must be from 1 to"),
    (lambda t: t["training"].update(ema_decay=1.0), r"ema_decay must be in \[0, 1\)"),
    (lambda t: t["training"].update(gradient_clip=-1.0), r"gradient_clip must be from 0 to"),
    (lambda t: t["optimiser"].update(lr=float("nan")), r"lr must be above 0"),
    (lambda t: t["optimiser"].update(lr=1e38), r"below 1e6"),
    (lambda t: t["optimiser"].update(weight_decay=-1.0), r"weight_decay must be 0 or above"),
    (lambda t: t["optimiser"].update(kind="sgd", nesterov=True), r"nesterov needs a momentum"),
    (lambda t: t["schedule"].update(warmup=2.0), r"warmup must be above 0 and below 1"),
    (lambda t: t.update(schedule={"kind": "warm_restarts", "t_0": 0}), r"t_0 must be from 1 to"),
    (lambda t: t["network"].update(kernels=[3, 3, 3, -3]), r"kernels must be from 1 to 255"),
    (lambda t: t["network"].update(channels=[0, 1, 1, 1]), r"channels must be from 1 to 65,536"),
    (lambda t: t["network"].update(channels=[], kernels=[]), r"the number of blocks must be from 1 to"),
    (lambda t: t["network"].update(kernels=[4, 3, 3, 3]), r"kernels must be odd"),
    (lambda t: t["view"].update(turns_deg=[0, 45]), r"turns_deg shows 2 of a view, network 'cnn' looks at 1"),
    (
        lambda t: t.update(network={"kind": "dieleman"}),
        r"shows 1 of a view, network 'dieleman' looks at 2; give 2",
    ),
    (lambda t: t.update(head=3), r"\[head\] must be a table"),
    (lambda t: t["view"].update(size_px=10**9), r"size_px must be from 1 to 8,192, not 1000000000"),
    (lambda t: t["view"].update(crop_px=1e29), r"crop_px must be from 1 to 100,000"),
    (lambda t: t["view"].update(zoom=[1e-9, 1.0]), r"zoom must be from 0.001 to 1,000"),
    (lambda t: t["view"].update(turns_deg=[0.0] * 10**3), r"the number of turns_deg must be from 1 to 64"),
    (lambda t: t["view"].update(zoom_law="uniform"), r"zoom_law must be one of log_uniform, uniform_side"),
    (lambda t: t["training"].update(batch_size=10**9), r"batch_size must be from 1 to 65,536"),
    (lambda t: t["training"].update(epochs=10**29), r"epochs must be from 1 to 1,000,000"),
    (lambda t: t["network"].update(channels=[1] * 10**3, kernels=[1] * 10**3), r"number of blocks must be from 1"),
]


def test_a_wrong_key_or_value_is_an_error_that_names_it(table: dict[str, Any], subtests: pytest.Subtests) -> None:
    for change, message in WRONG:
        with subtests.test(message), pytest.raises(RecipeError, match=message):
            change(changed := deepcopy(table))
            parse(changed)


def test_a_network_beyond_all_memory_is_refused_before_it_is_made(table: dict[str, Any]) -> None:
    table["network"]["channels"] = [65_536] * 4
    with pytest.raises(RunError, match=r"recipe mine: its network would have [\d,]+ parameters"):
        build_network(parse(table), load_tree("gz2-kaggle"), pretrained=False)


WRONG_SETTINGS = [
    (
        "training.bach_size=3",
        r"recipe quick: \[training\]: unknown key 'bach_size'; did you mean 'batch_size'\?",
    ),
    ("trainig.batch_size=3", r"unknown table \[trainig\]; did you mean 'training'\?"),
    ("training.batch_size=four", "batch_size must be of type int, not 'four'"),
    ("training.batch_size=3\nx=4", "batch_size must be of type int"),
    ("view.flip=True", "flip must be of type bool, not 'True'"),
    ("view.size_px=true", "size_px must be of type int, not True"),
    ("about.source=2014-05-01", "source must be of type str"),
    ("network.kind=linnet", r"\[network\]: key 'hidden' is missing"),
]


def test_a_setting_is_as_strict_as_a_file(subtests: pytest.Subtests) -> None:
    for text, message in WRONG_SETTINGS:
        with subtests.test(text=text), pytest.raises(RecipeError, match=message):
            load_recipe("quick", parse_settings([text]))


def test_settings_replace_and_add_keys_and_change_nothing_else() -> None:
    recipe = load_recipe("quick")
    texts = ["training.epochs=3", "training.fold = 1/5", "view.zoom=[0.9, 1]", "training.balance="]
    changed = load_recipe("quick", parse_settings(texts))
    assert changed.training == replace(recipe.training, epochs=3, fold="1/5")
    assert changed.view == replace(recipe.view, zoom=(0.9, 1.0))
    assert parse(dict(changed.table)).training == changed.training
    assert changed.name == recipe.name
    assert changed.network == recipe.network


def test_a_network_of_another_kind_takes_nothing_from_the_recipe() -> None:
    changed = load_recipe("quick", parse_settings(["network.hidden=[8]", "network.kind=linnet"]))
    assert changed.table["network"] == {"kind": "linnet", "hidden": [8]}


def test_a_measured_normalisation_is_filled_in_and_kept_in_the_table(table: dict[str, Any]) -> None:
    for key in ("mean", "std"):
        del table["view"][key]
    table["view"]["normalisation"] = "measured"
    recipe = parse(table).with_statistics((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert (recipe.view.mean, recipe.view.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    again = parse(dict(recipe.table))
    assert again.view == recipe.view
    assert again.with_statistics((0.9,) * 3, (0.9,) * 3) is again
