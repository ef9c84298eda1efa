"""Read JSON and TOML strictly: values within bounds, and tables as frozen dataclasses whose every key is known."""

import dataclasses
import difflib
import json
import tomllib
from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")

LARGEST_NUMBER = 10**30
"""Limit on numbers, far above any sum here: the squares of the pixels of 10^9 images sum to 10^19."""


def parse_json(text: str | bytes) -> Any:
    """Parse JSON without NaN, Infinity, numbers of 1e30 or more, or nesting beyond Python's recursion limit.

    Raises:
        ValueError: the text is not such JSON; the message is one line.
    """
    try:
        return json.loads(text, parse_constant=_number, parse_float=_number, parse_int=_whole_number)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML within the bounds of `parse_json`.

    Raises:
        ValueError: the text is not such TOML; the message is one line.
    """
    try:
        data = tomllib.loads(text, parse_float=_number)
        _check_whole_numbers(data)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return data


def _number(text: str) -> float:
    number = float(text)
    if not abs(number) < LARGEST_NUMBER:  # true for NaN too
        raise ValueError(f"the number {text[:20]} is out of range")
    return number


def _whole_number(text: str) -> int:
    if len(text) > len(str(LARGEST_NUMBER)) - 1:
        raise ValueError(f"the number {text[:20]}... is out of range")
    return int(text)


def _check_whole_numbers(data: object) -> None:
    """Check the integers of parsed TOML, whose parser has no hook for them."""
    if isinstance(data, Mapping | list):
        for value in data.values() if isinstance(data, Mapping) else data:
            _check_whole_numbers(value)
    elif isinstance(data, int) and abs(data) >= LARGEST_NUMBER:  # True and False pass
        raise ValueError(f"a whole number of {data.bit_length()} bits is out of range")


def check_range(name: str, value: float | tuple[float, ...], lowest: float, highest: float) -> None:
    """Check that a number, or each of several, is from `lowest` to `highest`; raise ValueError if not."""
    values = value if isinstance(value, tuple) else (value,)
    if not all(lowest <= each <= highest for each in values):
        raise ValueError(f"{name} must be from {lowest:,} to {highest:,}, not {value}")


def suggestion(name: str, known: Sequence[str]) -> str:
    """Return '; did you mean ...?' if a known name is close, else an empty string."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def suggestion_or_list(name: str, known: Sequence[str]) -> str:
    """Return '; did you mean ...?' if a known name is close, else the list of known names."""
    return suggestion(name, known) or f" (known: {', '.join(sorted(known))})"


def parse(kind: type[T], table: object, where: str) -> T:
    """Build a dataclass of type `kind` from a table whose keys are its fields; `where` begins every message.

    A "key" in the metadata of a field replaces the field's name in the table.

    Raises:
        ValueError: a key is unknown, missing or of the wrong type, or the dataclass refuses a value.
    """
    if not isinstance(table, Mapping):
        raise ValueError(f"{where} must be a table, not {table!r}")
    fields = {each.metadata.get("key", each.name): each for each in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in table:
        if key not in fields:
            raise ValueError(f"{where}: unknown key {key!r}{suggestion_or_list(str(key), list(fields))}")
    for key, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and key not in table:
            raise ValueError(f"{where}: key {key!r} is missing")
    hints = get_type_hints(kind)
    values = {
        fields[key].name: _convert(value, hints[fields[key].name], f"{where}: {key}")
        for key, value in table.items()
    }
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def parse_kind(kinds: Mapping[str, type[T]], table: object, where: str) -> T:
    """Build the dataclass that the table's key `kind` names.

    Raises:
        ValueError: `parse` raises it, or there is no such kind.
    """
    if not isinstance(table, Mapping) or "kind" not in table:
        raise ValueError(f"{where} must be a table with a key 'kind', one of: {', '.join(sorted(kinds))}")
    name = str(table["kind"])
    if name not in kinds:
        raise ValueError(f"{where}: unknown kind {name!r}{suggestion_or_list(name, list(kinds))}")
    return parse(kinds[name], {key: value for key, value in table.items() if key != "kind"}, where)


def _convert(value: object, hint: Any, where: str) -> Any:
    if get_origin(hint) is UnionType:  # X | None
        return None if value is None else _convert(value, get_args(hint)[0], where)
    if get_origin(hint) is tuple:
        return _convert_list(value, get_args(hint), where)
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise ValueError(f"{where} must be one of {', '.join(map(str, get_args(hint)))}, not {value!r}")
        return value
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return parse(hint, value, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not hint:
        raise ValueError(f"{where} must be of type {hint.__name__}, not {value!r}")
    return value


def _convert_list(value: object, hints: tuple[Any, ...], where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{where} must be a list, not {value!r}")
    if Ellipsis in hints:
        hints = hints[:1] * len(value)
    if len(value) != len(hints):
        raise ValueError(f"{where} must have {len(hints)} values, not {len(value)}")
    places = [f"{where} {i}" if dataclasses.is_dataclass(hint) else where for i, hint in enumerate(hints, 1)]
    return tuple(map(_convert, value, hints, places))
