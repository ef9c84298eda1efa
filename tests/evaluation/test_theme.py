import re
from html import unescape
from importlib import resources

import pytest

from evaluation.theme import INK, SERIES, VARIABLES, new_axes, styled, to_svg
from training import style


def draw(name: str) -> str:
    with styled():
        figure, axes = new_axes()
        axes.plot([0, 1], [2, 3], "o-", color=SERIES[1], label="votes")
        axes.text(0.5, 2.5, "a text", color=INK)
        axes.legend()
        return to_svg(figure, name)


def test_colours_are_the_pages_own() -> None:
    svg = draw("a")
    assert not any(colour in svg for colour in VARIABLES)
    assert {"var(--ink)", "var(--muted)", "var(--rule)", "var(--series-1)"} <= set(
        re.findall(r"var\(--[a-z0-9-]+\)", svg)
    )


def test_two_figures_on_a_page_share_no_id_and_a_figure_repeats() -> None:
    first, second = (set(re.findall(r'\bid="([^"]+)"', draw(name))) for name in ("a", "b"))
    assert first
    assert not first & second
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', draw("a")))
    assert used <= first
    assert draw("a") == draw("a")


NAMES = ["$\\frac{1}{2$", "a$b$", "<script>alert(1)</script>", "&amp;\"'", "\u05d2\u05dc 🌌"]


def test_names_are_drawn_as_they_are(subtests: pytest.Subtests) -> None:
    for name in NAMES:
        with subtests.test(name=name):
            with styled():
                figure, axes = new_axes()
                axes.plot([0, 1], [2, 3], label=name)
                axes.set_title(name)
                axes.legend()
                svg = to_svg(figure, "names")
            texts = [unescape(text) for text in re.findall(r"<text[^>]*>([^<]*)</text>", svg)]
            assert texts.count(name) == 2


def test_figures_beside_a_run_have_the_colours_of_a_light_page() -> None:
    light = resources.files("evaluation.templates").joinpath("report.css").read_text().split("@media")[0]
    page = dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]+)", light))
    ours = (style.INK, style.MUTED, style.RULE, style.PAPER, style.SERIES)
    assert ours == tuple(page[name] for name in ("ink", "muted", "rule", "paper", "series-0"))
