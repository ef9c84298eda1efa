"""Find what a recipe's score depends on: train the recipe and each of CHANGES alike, score them on one fold.

    python -m benchmarks.ablations kaggle --out accuracy --epochs 12 --members 2

It works like benchmarks.accuracy and may share its folder: it uses the shards there, and does not train again what is
finished. The ratio to the unchanged recipe is on the same resamples. It uses fewer epochs than the recipe to be
affordable, so it does not show changes that pay off only after long training.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from benchmarks.accuracy import Entry, Plan, make_shards, measure, measuring_options
from benchmarks.measuring import write_json
from ensemble.recipe import load_recipe
from galaxy_zoo.console import Command
from galaxy_zoo.files import write_text

PLAIN_NETWORK = load_recipe("plain").table["network"]
CHANGES: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "sigmoid head": {"head": {"kind": "sigmoid"}},
    "RMSE loss": {"loss": {"kind": "rmse"}},
    "no moving average": {"training": {"ema_decay": 0.0}},
    "zoom 0.67 to 1.5": {"view": {"zoom": [0.67, 1.5]}},
    "view of 48 px": {"view": {"size_px": 48}},
    "network of plain, pools first": {"network": {**PLAIN_NETWORK, "pool_first": True}},
    "AdamW": {"optimiser": {"kind": "adamw", "lr": 0.003, "weight_decay": 0.01}},
    "no zoom": {"view": {"zoom": [1.0, 1.0]}},
    "divisive tree head": {"head": {"form": "divisive"}},
    "view of 80 px": {"view": {"size_px": 80}},
    "network of plain": {"network": PLAIN_NETWORK},
}
"""Name -> tables with the keys that change; a table with a `kind` replaces the recipe's."""


def change(table: Mapping[str, Any], changes: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the tables of a recipe with some keys changed."""
    changed = {name: dict(keys) for name, keys in table.items()}
    for name, keys in changes.items():
        changed[name] = dict(keys) if "kind" in keys else {**changed[name], **keys}
    return changed


def to_toml(table: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a recipe as TOML; its values are text, numbers, booleans and lists, which JSON writes the same way."""
    lines = []
    for name, keys in table.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in keys.items()), ""]
    return "\n".join(lines)


@click.command(cls=Command, context_settings={"show_default": True, "max_content_width": 100})
@click.argument("kaggle", type=click.Path(exists=True, path_type=Path))
@click.option("--recipe", default="small_data", help="The recipe to change.")
@click.option("--epochs", default=12, type=click.IntRange(1), help="Number of epochs of each variant.")
@click.option("--members", default=2, type=click.IntRange(1), help="Number of members of each variant.")
@measuring_options
def main(
    *,
    kaggle: Path,
    recipe: str,
    out: Path,
    results: Path,
    fold: str,
    epochs: int,
    members: int,
    views: int,
    device: str,
) -> None:
    """Train a recipe and its variants on the folder KAGGLE one after the other, and score them on one fold.

    \b
    Example:
      python -m benchmarks.ablations kaggle --epochs 6 --members 1
    """
    base = load_recipe(recipe)
    plan = Plan(out=out, fold=fold, epochs=epochs, views=views, device=device)
    for folder in (out, results):
        folder.mkdir(parents=True, exist_ok=True)
    make_shards(kaggle, None, out)
    found: dict[str, Any] = {}
    reference = None
    for name, changes in {"as it is": {}, **CHANGES}.items():
        path = out / f"{base.name}-{name.replace(' ', '_')}.toml"
        write_text(path, to_toml(change(base.table, changes)))
        result, errors = measure(plan, Entry(str(path), members, partly=False), reference)
        reference = errors if reference is None else reference
        found[name] = result
        write_json(results / f"ablations-{base.name}.json", found)
        low, high = result.get("ratio_interval", (1.0, 1.0))
        ratio = f"{result.get('ratio_to_first', 1.0):.3f} ({low:.3f} to {high:.3f})"
        click.echo(f"{name}: RMSE {result['rmse']:.5f}, {ratio} of the recipe as it is")


if __name__ == "__main__":
    main()
