"""How every figure looks, in a report and beside a run."""

from typing import Any

INK, MUTED, RULE, PAPER, SERIES = "#1c2027", "#626b78", "#dfe3e8", "#ffffff", "#1f5fbf"
"""The colours of a report on a light page, for figures that are files of their own."""


def style(*, ink: str, muted: str, rule: str) -> Any:
    """Return matplotlib's settings, in which text is of the colours `ink` and `muted`, axes and grids of `rule`."""
    return {
        "figure.constrained_layout.use": True,
        "figure.constrained_layout.w_pad": 0.1,  # the fonts of a page may be wider
        "font.family": "sans-serif",
        "font.size": 9,
        "axes.titlesize": 9,
        "axes.titlelocation": "left",
        "axes.labelsize": 9,
        "axes.edgecolor": rule,
        "axes.labelcolor": muted,
        "axes.titlecolor": ink,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": rule,
        "grid.linewidth": 0.6,
        "text.color": ink,
        "xtick.color": rule,
        "ytick.color": rule,
        "xtick.labelcolor": muted,
        "ytick.labelcolor": muted,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "legend.frameon": False,
        "legend.fontsize": 8,
        "lines.linewidth": 1.5,
        "svg.fonttype": "none",
        "text.parse_math": False,  # a name with two dollars is no formula
    }
