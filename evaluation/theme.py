"""The style of figures: matplotlib draws in placeholder colours, which the SVG replaces by those of the page.

So one SVG serves the light and the dark page. Text remains text that can be searched, read aloud and copied.
"""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from training.style import style

INK, MUTED, RULE = "#010101", "#020202", "#030303"
SERIES = ("#040404", "#050505", "#060606", "#070707", "#080808", "#090909")
VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    RULE: "var(--rule)",
    **{colour: f"var(--series-{number})" for number, colour in enumerate(SERIES)},
}
"""Placeholder colours, which no chart would use -> colours of the page."""

LINE_CHARACTERS, NAME_CHARACTERS = 56, 28

SHADE_HEX = "#3f7fd0"
SHADE = LinearSegmentedColormap.from_list("shade", [f"{SHADE_HEX}18", f"{SHADE_HEX}d0"])
"""Colours from nearly transparent to a blue on which text is readable, on a light and on a dark page."""

STYLE = style(ink=INK, muted=MUTED, rule=RULE)


@contextmanager
def styled() -> Iterator[None]:
    """Draw in the style of the report within the block."""
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the SVG keeps text, which the reader's fonts draw
        yield


def new_axes(width_in: float = 3.9, height_in: float = 3.0) -> tuple[Figure, Axes]:
    """Return a figure of one panel."""
    figure = Figure(figsize=(width_in, height_in))
    return figure, figure.subplots()


def new_panel(height_in: float) -> tuple[Figure, Axes]:
    """Return a small figure of one panel with fixed margins, for sections with dozens of them."""
    width_in = 2.0
    figure = Figure(figsize=(width_in, height_in))
    figure.set_layout_engine("none")
    left, right, bottom, top = 0.44, 0.1, 0.38, 0.36
    axes = figure.add_axes(
        (left / width_in, bottom / height_in, 1 - (left + right) / width_in, 1 - (bottom + top) / height_in)
    )
    return figure, axes


def without_frame(axes: Axes, *, grid: str = "") -> None:
    """Remove the left spine and all grid lines but those of the axis `grid` ("x" or "y"), for rows of dots or bars."""
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False)
    if grid == "x":
        axes.grid(visible=True, axis="x")


def add_legend(figure: Figure, axes: Axes) -> None:
    """Add a legend above the panel, in as many columns as fit."""
    handles, labels = axes.get_legend_handles_labels()
    longest = max(len(short(label)) for label in labels)
    columns = max(1, LINE_CHARACTERS // (longest + 6))
    figure.legend(handles, [short(label) for label in labels], loc="outside upper left", ncols=columns)


def short(name: str) -> str:
    """Return a name that fits beside a panel: the end of a long name, since folders differ there."""
    return name if len(name) <= NAME_CHARACTERS else f"…{name[1 - NAME_CHARACTERS :]}"


def to_svg(figure: Figure, name: str) -> str:
    """Return the figure as an SVG element for the page. name: makes its ids unique on the page."""
    file = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name}):  # the same ids every time
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    width_in = float(figure.get_size_inches()[0])
    svg = re.sub(r' width="[^"]*" height="[^"]*"', f' style="--width: {width_in:g}in"', svg, count=1)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, variable)
    return svg
