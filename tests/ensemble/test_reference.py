"""The page of all keys of a recipe is what the code says."""

from pathlib import Path

from ensemble.reference import reference, split_docstring

PAGE = Path(__file__).parents[2] / "docs" / "recipes.md"


def test_the_page_of_recipes_is_what_the_code_generates() -> None:
    assert PAGE.read_text() == reference(), "make it again: python -m ensemble.reference > docs/recipes.md"


def test_every_key_has_a_meaning() -> None:
    rows = [line for line in reference().splitlines() if line.startswith("| `")]
    assert len(rows) > 60
    assert [row for row in rows if row.endswith("|  |")] == []


def test_a_docstring_gives_each_key_what_it_says_of_it() -> None:
    text = (
        "A network. width: of a layer.\n\na, b: one a block; empty:\n    none. c: last.\n\nSource: someone: 2020."
    )
    description, meanings = split_docstring(text, ["a", "b", "c", "width"])
    assert description == "A network.\n\nSource: someone: 2020."
    both = "one a block; empty: none."
    assert meanings == {"width": "of a layer.", "a": both, "b": both, "c": "last."}
