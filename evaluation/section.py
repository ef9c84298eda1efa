"""The parts of a section of the report."""

from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Figure:
    """A figure. svg: from `theme.to_svg`. alt: description for readers who cannot see it."""

    svg: str
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Figures:
    """Figures side by side, as many as fit on the page. small: fit more in a row."""

    figures: tuple[Figure, ...]
    title: str = ""
    small: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table, which is also written as `<name>.csv`.

    folded: show only the title until the reader opens it. form: format of numbers with a fraction on the page.
    percentages: columns that the page shows as percentages.
    """

    name: str
    title: str
    frame: pd.DataFrame
    note: str = ""
    folded: bool = False
    form: str = ".5f"
    percentages: tuple[str, ...] = ()

    def form_of(self, column: str) -> str:
        """Return the format of the numbers of a column on the page."""
        return ".1%" if column in self.percentages else self.form


@dataclass(frozen=True)
class Fragment:
    """A fragment of the page: a template, and the data it gets."""

    template: str
    data: object


Block = Figures | Table | Fragment


@dataclass(frozen=True, kw_only=True)
class Section:
    """A section: a lead of a sentence or two, then its blocks."""

    key: str
    title: str
    lead: str
    blocks: tuple[Block, ...]
