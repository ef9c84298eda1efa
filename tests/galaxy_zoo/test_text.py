"""Names and numbers as people read them."""

import pytest

from galaxy_zoo.text import counted, shown


def test_names_are_shown_on_one_line_without_what_a_terminal_obeys(subtests: pytest.Subtests) -> None:
    for name in ["a\nb", "a\x1b[31mb", "a\x07b", "a\u202eb", "a\x85b", "a\udc80b"]:
        with subtests.test(name=name):
            assert shown(name).isprintable()
            assert shown(name).startswith("a\\")


def test_names_of_any_language_are_shown_as_they_are() -> None:
    assert shown("Ceci n'est pas une 星系 🌌.jpg") == "Ceci n'est pas une 星系 🌌.jpg"


def test_only_one_thing_is_in_the_singular() -> None:
    assert [counted(n, "view") for n in (0, 1, 2, 1000)] == ["0 views", "1 view", "2 views", "1,000 views"]
    assert [counted(n, "galaxy", "galaxies") for n in (1, 2)] == ["1 galaxy", "2 galaxies"]
