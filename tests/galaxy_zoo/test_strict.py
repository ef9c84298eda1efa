"""JSON and TOML within bounds."""

import pytest

from galaxy_zoo.strict import parse_json, parse_toml, suggestion_or_list

NUMBERS = ["1e999", "1e30", "9" * 31, "1" + "0" * 5000]
OUT_OF_RANGE = [
    *((parse_json, f'{{"a": [{number}]}}') for number in ("NaN", "Infinity", "-Infinity", *NUMBERS)),
    *((parse_toml, f"a = [{number}]") for number in ("nan", "inf", "0x" + "f" * 2000, *NUMBERS)),
]


def test_a_number_out_of_range_is_refused_in_one_line(subtests: pytest.Subtests) -> None:
    for parse, text in OUT_OF_RANGE:
        with subtests.test(parse=parse.__name__, text=text[:40]):
            with pytest.raises(ValueError, match=r"out of range|limit") as caught:
                parse(text)
            assert "\n" not in str(caught.value)
            assert len(str(caught.value)) < 150


def test_deep_nesting_is_refused(subtests: pytest.Subtests) -> None:
    for levels in [5_000, 1_000_000]:
        with subtests.test(levels=levels):
            with pytest.raises(ValueError, match="nested too deeply"):
                parse_json("[" * levels + "]" * levels)
            with pytest.raises(ValueError, match="nested too deeply"):
                parse_toml("a = " + "[" * levels + "]" * levels)


def test_what_is_within_bounds_is_read() -> None:
    assert parse_json('{"a": [1, -2.5, "x", null]}') == {"a": [1, -2.5, "x", None]}
    assert parse_toml("a = [1, -2.5, true]\nb = 99999999999999999999") == {"a": [1, -2.5, True], "b": 10**20 - 1}


def test_a_known_name_that_is_close_is_named_alone_and_all_of_them_where_none_is() -> None:
    assert suggestion_or_list("flipp", ["zoom", "flip"]) == "; did you mean 'flip'?"
    assert suggestion_or_list("xyz", ["zoom", "flip"]) == " (known: flip, zoom)"
