"""The report in a real browser, without a network: it loads, figures show, filters and sorting work."""

import os
import shutil
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


def browser_path() -> str | None:
    return os.environ.get("CHROMIUM") or next((path for name in BROWSERS if (path := shutil.which(name))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e '.[dev]'")
    path = browser_path()
    if path is None:
        pytest.skip("no Chromium: apt-get install chromium, or name one by the variable CHROMIUM")
    with api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path)
        yield launched
        launched.close()


class Page:
    """A report that is open in a browser, and everything that went wrong or was asked of the network."""

    def __init__(self, browser: Any, report: Path, **options: Any) -> None:
        self.context = browser.new_context(offline=True, **options)
        self.page = self.context.new_page()
        self.problems: list[str] = []
        self.page.on("console", lambda m: m.type in {"error", "warning"} and self.problems.append(m.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", lambda r: r.url.startswith("http") and self.problems.append(r.url))
        self.page.goto((report / "report.html").as_uri())
        self.page.wait_for_function("Bokeh.documents.length && Bokeh.documents[0].is_idle")

    def ids(self) -> list[str]:
        return self.page.eval_on_selector_all("#gallery-cards article", "cards => cards.map(c => c.dataset.id)")

    def measures(self, name: str) -> list[float]:
        selector = f'#gallery-cards dd[data-measure="{name}"]'
        return self.page.eval_on_selector_all(selector, "cells => cells.map(c => +c.textContent)")

    def choose(self, form: str, **values: str) -> None:
        for name, value in values.items():
            self.page.select_option(f"#{form} [name={name}]", value)

    def models(self, code: str) -> Any:
        return self.page.evaluate(f"(() => {{ const d = Bokeh.documents[0]; return {code}; }})()")


@pytest.fixture
def page(browser: Any, report: Path) -> Iterator[Page]:
    opened = Page(browser, report, viewport=DESKTOP)
    yield opened
    opened.context.close()
    assert opened.problems == []


def test_it_loads_without_errors_and_nothing_is_wider_than_the_screen(
    browser: Any, report: Path, subtests: pytest.Subtests
) -> None:
    for size, scheme in product((DESKTOP, PHONE), ("light", "dark")):
        with subtests.test(size=size, scheme=scheme):
            opened = Page(browser, report, viewport=size, color_scheme=scheme)
            assert opened.page.evaluate("document.documentElement.scrollWidth") == size["width"]
            background = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
            light = sum(int(part) for part in background[4:-1].split(",")) / 3
            assert (light > 128) == (scheme == "light")
            opened.context.close()
            assert opened.problems == []


def test_every_figure_shows_and_says_what_it_shows(page: Page) -> None:
    boxes = page.page.eval_on_selector_all(
        "figure svg", "all => all.map(s => [s.getBoundingClientRect().width, s.getBoundingClientRect().height])"
    )
    assert len(boxes) > 55
    assert min(min(box) for box in boxes) > 50
    labels = page.page.eval_on_selector_all("[role=img]", "all => all.map(e => e.ariaLabel)")
    assert all(labels)
    page.page.evaluate("document.querySelectorAll('img').forEach(i => i.loading = 'eager')")
    page.page.wait_for_function("[...document.images].every(i => i.complete)")
    assert page.page.evaluate("[...document.images].every(i => i.naturalWidth > 0 && i.alt)")


def test_the_gallery_shows_a_group_and_sorts_it(page: Page) -> None:
    assert len(page.ids()) == 12
    errors = page.measures("error")
    assert errors == sorted(errors, reverse=True)
    page.choose("gallery-controls", group="best")
    best = page.measures("error")
    assert best == sorted(best)
    assert best[0] < errors[-1]
    assert best[-1] < errors[0]
    page.choose("gallery-controls", sort="id", order="-1")
    assert page.ids() == sorted(page.ids(), key=int, reverse=True)
    page.choose("gallery-controls", group="uncertain")
    uncertain = page.measures("uncertainty")
    assert uncertain == sorted(uncertain, reverse=True)


def test_the_gallery_shows_a_question_with_the_path_to_it(page: Page) -> None:
    page.choose("gallery-controls", question="4")  # spiral, after edge-on and smooth or disk
    shown = page.page.eval_on_selector_all(
        "#gallery-cards article:first-child .question:not([hidden])", "all => all.map(q => q.dataset.question)"
    )
    assert shown == ["1", "2", "4"]
    errors = page.measures("error")
    assert 0 < len(errors) <= 4
    assert errors == sorted(errors, reverse=True)


def test_the_gallery_finds_an_id_in_every_group(page: Page) -> None:
    page.choose("gallery-controls", group="best")
    wanted = page.ids()[-1]
    page.choose("gallery-controls", group="worst")
    page.page.fill("#gallery-controls [name=id]", wanted)
    assert page.ids() == [wanted]
    assert page.page.inner_text("#gallery-count").startswith("1 of")
    page.page.fill("#gallery-controls [name=id]", "nothing")
    assert page.ids() == []


def test_the_embedding_changes_method_colour_and_sets(page: Page) -> None:
    xs = "Array.from(d.get_model_by_name('galaxies-validation').data_source.data.x)"
    assert len(page.models(xs)) == 12
    before = page.models(xs)
    page.choose("embedding-controls", method="tsne")
    assert page.models(xs) != before
    page.choose("embedding-controls", colour="votes:Class4.1")
    assert page.models("d.get_model_by_name('galaxies-training').glyph.fill_color.field") == "votes:Class4.1"
    assert page.page.is_visible("#legend-votes")
    assert not page.page.is_visible("#legend-class")
    page.page.uncheck("#embedding-controls [name=training]")
    assert page.models("d.get_model_by_name('galaxies-training').visible") is False


def test_pointing_at_a_galaxy_shows_it(page: Page) -> None:
    page.page.uncheck("#embedding-controls [name=training]")
    page.page.locator("#embedding-plot").scroll_into_view_if_needed()
    x, y = page.models(
        """(() => {
          const [view] = Object.values(Bokeh.index), { x_scale, y_scale } = view.frame;
          const { x, y } = d.get_model_by_name('galaxies-validation').data_source.data;
          const box = view.el.getBoundingClientRect();
          return [box.left + x_scale.compute(x[0]), box.top + y_scale.compute(y[0])];
        })()"""
    )
    page.page.mouse.move(x, y)
    hover = page.page.locator("img[src^='data:image/webp'][width='64']").first
    hover.wait_for(timeout=5000)
    assert hover.get_attribute("src").startswith("data:image/webp")
