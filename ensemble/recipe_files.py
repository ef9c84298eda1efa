"""Find recipe files and read them, each merged into its base.

A file may begin with `base = "NAME"`, a recipe that comes with the project; it then gives only what differs:

    base = "dieleman"

    [network]
    top_filters = 192

`parse_settings` reads such keys from a command line. This imports no torch; `ensemble.recipe` turns tables into a
recipe.
"""

import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from galaxy_zoo.errors import RecipeError
from galaxy_zoo.files import may_wait
from galaxy_zoo.strict import parse_toml, suggestion

LIST_THEM = "list all recipes with: train.py --list"

Tables = Mapping[str, Mapping[str, Any]]
"""Values of some keys of a recipe, by table and key."""


def known_recipes() -> list[str]:
    """Return the names of the recipes that come with the project."""
    files = resources.files("ensemble.recipes").iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def read_recipe_file(name_or_path: str) -> dict[str, Any]:
    """Return the tables of a recipe, merged with its base; `name` is a path if it ends in .toml.

    Raises:
        RecipeError: there is no such recipe, its base is unknown, or the file is not TOML.
    """
    where = f"recipe {name_or_path}"
    own = _read(name_or_path)
    if "base" not in own:
        return own
    base_name = own.pop("base")
    if base_name not in known_recipes():
        hint = suggestion(str(base_name), known_recipes())
        raise RecipeError(f"{where}: no recipe {base_name!r} to be its base{hint or ';'} {LIST_THEM}")
    base = read_recipe_file(base_name)
    base["about"] = {"source": f"based on {base_name}"}  # its own describes another recipe
    return merged(base, own)


def parse_settings(texts: Iterable[str]) -> Tables:
    """Parse texts like "training.batch_size=64"; a value that is not TOML is a string without its quotes.

    Raises:
        ValueError: a text has another form or an impossible number, or two set the same key.
    """
    tables: dict[str, dict[str, Any]] = {}
    for text in texts:
        name, is_set, value = text.partition("=")
        table, _, key = name.strip().partition(".")
        if not (table and key and is_set):
            raise ValueError(f"{text!r} is not TABLE.KEY=VALUE, as in training.batch_size=64")
        if key in tables.setdefault(table, {}):
            raise ValueError(f"{table}.{key} is set twice")
        try:
            tables[table][key] = _value(value.strip())
        except ValueError as error:
            raise ValueError(f"{text!r}: {error}") from error
    return tables


def _value(text: str) -> object:
    try:
        parsed = parse_toml(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if len(parsed) == 1 else text


def _read(name_or_path: str) -> dict[str, Any]:
    is_path = name_or_path.endswith(".toml")
    own = resources.files("ensemble.recipes").joinpath(f"{name_or_path}.toml")
    if not is_path and name_or_path not in known_recipes():
        hint = suggestion(name_or_path, known_recipes())
        raise RecipeError(f"no recipe {name_or_path!r}{hint or ';'} {LIST_THEM}, or give a .toml file")
    if is_path and may_wait(Path(name_or_path)):
        raise RecipeError(f"recipe {name_or_path}: a pipe or a device, not a file; write it to a file first")
    try:
        return parse_toml(Path(name_or_path).read_text() if is_path else own.read_text())
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RecipeError(f"recipe {name_or_path}: cannot be read ({reason}); {LIST_THEM}") from error
    except ValueError as error:
        raise RecipeError(f"recipe {name_or_path}: not a TOML file: {error}") from error


def merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tables of a recipe with the keys in `own` replaced or added."""
    return {**base, **{name: _merged(base.get(name), table) for name, table in own.items()}}


def _merged(base: object, own: object) -> object:
    """Return a table with missing keys taken from its base; none are taken from a table of another kind."""
    if not (isinstance(base, Mapping) and isinstance(own, Mapping)):
        return own
    is_other_kind = "kind" in own and own["kind"] != base.get("kind")
    return own if is_other_kind else {**base, **own}
