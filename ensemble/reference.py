"""Write docs/recipes.md from the dataclasses that a recipe is read into.

python -m ensemble.reference > docs/recipes.md
"""

import dataclasses
import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args, get_origin, get_type_hints

from ensemble.heads import HEADS
from ensemble.losses import LOSSES
from ensemble.networks import NETWORKS
from ensemble.optimisers import SCHEDULES, Optimiser
from ensemble.recipe import About, Training
from galaxy_zoo.view import View

INTRODUCTION = """\
# Every key of a recipe

A recipe is a TOML file with the tables below. In `[network]`, `[head]`, `[loss]` and `[schedule]`, `kind` chooses what
the other keys configure. A key without a default is required. Instead of all tables, a file may give
`base = "NAME"`, a recipe that comes with the project, and only what differs from it. An unknown key is an error that
names the nearest known one. Lengths are in pixels of the packed images.

`python train.py --list` lists the recipes that come with the project; `ensemble/recipes/` holds their files. This page
is made from the code: `python -m ensemble.reference > docs/recipes.md`.
"""

TABLES: dict[str, type | Mapping[str, type]] = {
    "about": About,
    "view": View,
    "network": NETWORKS,
    "head": HEADS,
    "loss": LOSSES,
    "optimiser": Optimiser,
    "schedule": SCHEDULES,
    "training": Training,
}


def reference() -> str:
    """Return the page, in Markdown."""
    sections = [INTRODUCTION]
    for table, described in TABLES.items():
        sections.append(f"## [{table}]\n")
        if isinstance(described, Mapping):
            for kind, options in described.items():
                sections.append(f'### kind = "{kind}"\n')
                sections += _described(options)
        else:
            sections += _described(described)
    return "\n".join(sections)


def _described(options: type) -> Iterable[str]:
    """Yield what the docstring of a dataclass says, then the table of its fields where it has any."""
    fields = dataclasses.fields(options)
    description, meanings = split_docstring(inspect.getdoc(options) or "", [field.name for field in fields])
    yield f"{description}\n"
    if not fields:
        return
    hints = get_type_hints(options)
    rows = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for field in fields:
        meaning = meanings.get(field.name, "").replace("|", "\\|")
        rows.append(f"| `{field.name}` | {_type(hints[field.name])} | {_default(field)} | {meaning} |")
    yield "\n".join(rows) + "\n"


def split_docstring(text: str, names: list[str]) -> tuple[str, dict[str, str]]:
    """Split a docstring into its description and what it says of each name: `name: ...` or `name, name: ...`."""
    if not names:
        return text, {}
    name = "(?:" + "|".join(sorted(names, key=len, reverse=True)) + ")"
    parts = re.split(rf"(?:^\s*|(?<=[.;] ))({name}(?:, {name})*): ", text, flags=re.MULTILINE)
    description, meanings = [parts[0]], {}
    for named, said in zip(parts[1::2], parts[2::2], strict=True):
        meaning, _, rest = said.partition("\n\n")
        meanings.update(dict.fromkeys(named.split(", "), " ".join(meaning.split())))
        description.append(rest)
    return "\n\n".join(part.strip() for part in description if part.strip()), meanings


def _type(hint: Any) -> str:
    match get_origin(hint):
        case origin if origin is Literal:
            return ", ".join(f'`"{value}"`' for value in get_args(hint))
        case origin if origin is tuple:
            return "[" + ", ".join("..." if each is Ellipsis else _type(each) for each in get_args(hint)) + "]"
        case _:
            return {float: "number", int: "whole number", bool: "true or false", str: "text"}[hint]


def _default(field: "dataclasses.Field[Any]") -> str:
    return "" if field.default is dataclasses.MISSING else f"`{_toml(field.default)}`"


def _toml(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return f'"{value}"'
        case tuple():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case _:
            return str(value)


if __name__ == "__main__":
    print(reference(), end="")
