"""The input of the network's last layer in two dimensions: PCA, t-SNE and UMAP, coloured by votes or class."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from bokeh.embed import components
from bokeh.models import CategoricalColorMapper, ColumnDataSource, HoverTool, LinearColorMapper
from bokeh.palettes import interp_palette
from bokeh.plotting import figure
from bokeh.resources import Resources
from bokeh.transform import transform
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from evaluation.evidence import Evidence, Scored
from evaluation.extra import known_methods
from evaluation.gallery import crop_px, draw
from evaluation.section import Fragment, Section
from galaxy_zoo.progress import progress
from galaxy_zoo.text import shown
from galaxy_zoo.votes import Floats

PICTURE_PX = 64
SEED = 0
FEWEST = 12
"""Fewest galaxies to embed; the methods refuse fewer, whose neighbours say nothing."""
CLASS_COLOURS = (
    "#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#999999", "#ee8866", "#44bb99", "#99ddff",
)  # fmt: skip
"""Bright colours that colour-blind people can tell apart. Source: Paul Tol, Colour Schemes, 2021."""
NO_VOTES = "#80808060"
PALETTE = interp_palette(("#7c8798", "#9a8a86", "#e2792f", "#f0a202"), 256)
"""Colours from a grey that recedes to an orange that stands out, on a light and on a dark page."""
TOOLTIP = """
<div style="display:flex;gap:8px;align-items:center">
<img src="@picture" alt="" width="64" height="64" style="display:block;flex:none">
<span><b>@id</b><br>@set<br>@class</span></div>
"""


@dataclass(frozen=True)
class Features:
    """Inputs of the last layer for the first galaxies of each set, shape (galaxies, width)."""

    validation: Floats
    training: Floats | None


def _pca(features: Floats) -> Floats:
    points: Floats = PCA(2, random_state=SEED).fit_transform(features)
    return points


def _tsne(features: Floats) -> Floats:
    """Compute t-SNE of the first 50 principal components, as is usual: it is much faster and loses little.

    It uses one thread: more are no faster for so few galaxies, wait for each other on shared cores, and sum in a
    different order each time.
    """
    reduced = PCA(min(50, *features.shape), random_state=SEED).fit_transform(features)
    perplexity = min(30.0, (len(features) - 1) / 3)
    with threadpool_limits(1):
        points: Floats = TSNE(2, perplexity=perplexity, init="pca", random_state=SEED).fit_transform(reduced)
    return points


def _umap(features: Floats) -> Floats:
    # Numba would use TBB if installed, which may hang when the process ends (seen with TBB 2021.8).
    os.environ.setdefault("NUMBA_THREADING_LAYER", "workqueue")
    import umap  # noqa: PLC0415 - an extra, and slow to import

    points: Floats = umap.UMAP(min(15, len(features) - 1), random_state=SEED, n_jobs=1).fit_transform(features)
    return points


COMPUTE: Mapping[str, Callable[[Floats], Floats]] = {"pca": _pca, "tsne": _tsne, "umap": _umap}
TITLES = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}


def section(evidence: Evidence, features: Features, methods: Sequence[str]) -> Section:
    """Build the section of the embedding, with a choice of method and colour, and the galaxy under the pointer."""
    name = evidence.predictions[0].name
    sets = [("validation", evidence.validation, features.validation)]
    if features.training is not None and evidence.training is not None:
        sets.append(("training", evidence.training, features.training))
    if (count := sum(len(some) for _, _, some in sets)) < FEWEST:
        lead = f"{count} galaxies are too few to lay out; ask for more with --points, or evaluate more."
        return Section(key="embedding", title="Embedding", lead=lead, blocks=())
    table = pd.concat([_describe(evidence, kind, scored, len(some)) for kind, scored, some in sets])
    for method, points in project(np.concatenate([some for _, _, some in sets]), methods).items():
        table[f"{method}_x"], table[f"{method}_y"] = points.round(4).T
    table["picture"] = [
        uri
        for _, scored, some in sets
        for uri in draw(scored.galaxies, list(range(len(some))), crop_px(evidence), PICTURE_PX)
    ]
    first = evidence.tree.questions[0]
    data = {
        "plot": _plot(table, methods[0], first.answers),
        "library": Resources(mode="inline", components=["bokeh"]).render_js(),
        "methods": [(method, TITLES[method]) for method in methods],
        "class_title": first.name,
        "classes": list(zip(first.answers, _class_colours(len(first.answers)), strict=True)),
        "questions": [(q.name, list(zip(q.columns, q.answers, strict=True))) for q in evidence.tree.questions],
        "gradient": ", ".join(PALETTE[::51]),
        "has_training": len(sets) > 1,
    }
    lead = (
        f"{len(table):,} galaxies by what the last layer of the first member of {name} gets of "
        f"them, {features.validation.shape[1]} numbers each, in two dimensions. Neighbours look alike to the network."
    )
    if "umap" not in methods and "umap" not in known_methods():
        lead += " UMAP is not installed: pip install umap-learn."
    return Section(key="embedding", title="Embedding", lead=lead, blocks=(Fragment("embedding.html", data),))


def project(features: Floats, methods: Sequence[str]) -> dict[str, Floats]:
    """Return the points of the galaxies for each method, shape (galaxies, 2). Show progress.

    Args:
        features: shape (galaxies, width).
    """
    points = {}
    with progress(total=len(methods), unit="methods") as bar:
        for name in methods:
            bar.set_description(f"embedding: {TITLES[name]}")
            points[name] = COMPUTE[name](features)
            bar.update()
    return points


def _describe(evidence: Evidence, name: str, scored: Scored, count: int) -> pd.DataFrame:
    """Return a row for each of the first galaxies of a set: id, set, class, main answers and true votes."""
    votes = scored.votes[:count]
    first = evidence.tree.questions[0]
    shares = votes[:, evidence.tree.slices[0]]
    classes = np.where(np.isnan(shares).any(axis=1), len(first.answers), np.nan_to_num(shares).argmax(axis=1))
    names = (*first.answers, "no votes")
    return pd.DataFrame(
        {
            "id": list(map(shown, scored.galaxies.keys[:count])),
            "set": name,
            "class": [names[c] for c in classes],
            **{
                f"votes:{c}": v for c, v in zip(evidence.tree.columns, votes.astype(float).round(3).T, strict=True)
            },
        }
    )


def _plot(table: pd.DataFrame, method: str, answers: tuple[str, ...]) -> str:
    """Return the scatter plot as HTML with its script, for a page that has Bokeh's library.

    report.js finds Bokeh's models by name: "galaxies-<set>" are the galaxies, "plot" has as its tags the mappers from
    votes and from classes to colours.
    """
    plot = figure(
        name="plot",
        height=520,
        sizing_mode="stretch_width",
        tools="pan,wheel_zoom,box_zoom,reset",
        toolbar_location="above",
    )
    plot.axis.visible = plot.grid.visible = False
    plot.background_fill_color = plot.border_fill_color = plot.outline_line_color = None
    plot.toolbar.logo = None
    votes = LinearColorMapper(palette=PALETTE, low=0, high=1, nan_color=NO_VOTES)
    classes = CategoricalColorMapper(
        palette=_class_colours(len(answers)), factors=list(answers), nan_color=NO_VOTES
    )
    for name, rows in table.groupby("set", sort=False):
        columns = rows.assign(x=rows[f"{method}_x"], y=rows[f"{method}_y"])
        source = ColumnDataSource({str(column): columns[column].tolist() for column in columns})
        plot.scatter(
            "x",
            "y",
            source=source,
            name=f"galaxies-{name}",
            marker="circle" if name == "validation" else "triangle",
            size=7,
            line_color=None,
            fill_alpha=0.85,
            fill_color=transform("class", classes),
        )
    plot.add_tools(HoverTool(tooltips=TOOLTIP, attachment="horizontal"))
    plot.tags = [votes, classes]
    script, div = components(plot)
    return f"{div}\n{script}"


def _class_colours(count: int) -> list[str]:
    """Return a colour for each class; colours repeat if there are more than ten."""
    return [CLASS_COLOURS[number % len(CLASS_COLOURS)] for number in range(count)]
