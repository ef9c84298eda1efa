"""Tables of a TOML file to frozen dataclasses, strictly: every key is known and of its type."""

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from galaxy_zoo.errors import RecipeError

T = TypeVar("T")


def nearest(name: str, known: Sequence[str]) -> str:
    """'; did you mean ...?' where a known name is close, and in any case the known names."""
    close = difflib.get_close_matches(name, known, n=1)
    guess = f"; did you mean {close[0]!r}?" if close else ""
    return f"{guess} (known: {', '.join(sorted(known))})"


def parse(kind: type[T], table: object, where: str) -> T:
    """Make a dataclass of type `kind` from a table whose keys are its fields.

    Raises:
        RecipeError: a key is unknown, missing or of the wrong type, or the dataclass refuses a value.
    """
    if not isinstance(table, Mapping):
        raise RecipeError(f"{where} must be a table, not {table!r}")
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in table:
        if key not in fields:
            raise RecipeError(f"{where}: unknown key {key!r}{nearest(str(key), list(fields))}")
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in table:
            raise RecipeError(f"{where}: key {name!r} is missing")
    hints = get_type_hints(kind)
    values = {key: _convert(value, hints[key], f"{where}: {key}") for key, value in table.items()}
    try:
        return kind(**values)
    except ValueError as error:
        raise RecipeError(f"{where}: {error}") from error


def parse_kind(kinds: Mapping[str, type[T]], table: object, where: str) -> T:
    """Make the dataclass that the table's key `kind` names.

    Raises:
        RecipeError: as `parse`, or there is no such kind.
    """
    if not isinstance(table, Mapping) or "kind" not in table:
        raise RecipeError(f"{where} must be a table with a key 'kind', one of: {', '.join(sorted(kinds))}")
    name = str(table["kind"])
    if name not in kinds:
        raise RecipeError(f"{where}: unknown kind {name!r}{nearest(name, list(kinds))}")
    return parse(kinds[name], {key: value for key, value in table.items() if key != "kind"}, where)


def _convert(value: object, hint: Any, where: str) -> Any:
    if get_origin(hint) is tuple:
        return _convert_list(value, get_args(hint), where)
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise RecipeError(f"{where} must be one of {', '.join(map(str, get_args(hint)))}, not {value!r}")
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not hint:
        raise RecipeError(f"{where} must be of type {hint.__name__}, not {value!r}")
    return value


def _convert_list(value: object, hints: tuple[Any, ...], where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise RecipeError(f"{where} must be a list, not {value!r}")
    if Ellipsis in hints:
        return tuple(_convert(each, hints[0], where) for each in value)
    if len(value) != len(hints):
        raise RecipeError(f"{where} must have {len(hints)} values, not {len(value)}")
    return tuple(_convert(each, hint, where) for each, hint in zip(value, hints, strict=True))
