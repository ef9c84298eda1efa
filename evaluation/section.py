"""What a section of the report is made of."""

from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Figure:
    """A figure. svg: as `theme.to_svg` makes it. alt: what it shows, for those who cannot see it."""

    svg: str
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Figures:
    """Figures side by side, as many as the page is wide. small: more of them beside each other."""

    figures: tuple[Figure, ...]
    title: str = ""
    small: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table, which is also written as `<name>.csv`.

    folded: behind its title until it is opened. form: of numbers with a fraction on the page. percentages: columns that
    the page shows as such.
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
    """A fragment of the page by its template, which gets `data`."""

    template: str
    data: object


Block = Figures | Table | Fragment


@dataclass(frozen=True, kw_only=True)
class Section:
    """A section: what it shows in a sentence or two, then its blocks."""

    key: str
    title: str
    lead: str
    blocks: tuple[Block, ...]
