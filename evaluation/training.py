"""The course of the training: losses, scores, learning rate and speed over the epochs, from metrics.jsonl."""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.ticker import MaxNLocator

from evaluation.evidence import Evidence
from evaluation.section import Figure, Figures, Section, Table
from evaluation.theme import INK, MUTED, SERIES, add_legend, new_axes, short, to_svg
from galaxy_zoo.errors import RunError
from training.logbook import BASELINE, METRICS_NAME, read_log
from training.run import Run

CURVES: Sequence[tuple[str, str, Mapping[str, str]]] = (
    ("Loss", "loss", {"loss": "training", "validation_loss": "validation"}),
    ("RMSE", "RMSE", {"train_rmse": "training", "rmse": "validation"}),
    ("Accuracy", "accuracy", {"accuracy": "validation"}),
    ("Learning rate", "learning rate", {"learning_rate": ""}),
    ("Speed", "images/s, all members", {"images_per_s": ""}),
    ("Waiting for data", "share of the time", {"data_wait": ""}),
)
"""Title, label of the axis, and which metrics are drawn under what name."""
STYLES = ("-", "--", ":", "-.")
FAINT = 0.4


def section(evidence: Evidence) -> Section:
    """Build the section of curves over the epochs."""
    runs = [(each.name, run) for each in evidence.predictions for run in (each.run, *each.folds)]
    names = [name for name, _ in runs]
    metrics = pd.concat(
        [read_metrics(run, f"{name}, {run.fold}" if names.count(name) > 1 else name) for name, run in runs],
        ignore_index=True,
    )
    members = int(metrics["member"].max()) + 1
    drawn = [_draw(metrics, *curve) for curve in CURVES if set(curve[2]) & set(metrics.columns)]
    lead = (
        f"One line a member{', in a style of its own' if members <= len(STYLES) else ''}; fainter lines are of "
        "training. The training loss is the mean over an epoch, in which the weights change and images are "
        "augmented; validation scores are of the end of the epoch, of the plain view. Of recipes whose loss is the "
        "mean squared error, the training RMSE is its root and the validation loss the square of the RMSE."
    )
    epochs = metrics.assign(epoch=metrics["epoch"] + 1).rename(columns=lambda name: name.replace("_", " "))
    log = Table(name="training", title="All epochs", frame=epochs, folded=True, form=".4g")
    return Section(key="training", title="Training", lead=lead, blocks=(Figures(tuple(drawn)), log))


def read_metrics(run: Run, name: str) -> pd.DataFrame:
    """Return the metrics of all members of a run, a row for each epoch, with columns `run` and `member`.

    If the loss is the mean squared error, `train_rmse` and `validation_loss` are computed from the other columns.

    Raises:
        RunError: the log of a member is missing or incomplete.
    """
    parts = []
    for member in range(run.members):
        rows = read_log(folder := run.member_folder(member))
        if not rows or not all({"epoch", "loss"} <= row.keys() for row in rows):
            raise RunError(f"{folder / METRICS_NAME}: not a log of a training; train this run again")
        # without the scores of single questions
        overall = [{key: value for key, value in row.items() if "/" not in key} for row in rows]
        parts.append(pd.DataFrame([{"run": name, "member": member, **row} for row in overall]))
    metrics = pd.concat(parts, ignore_index=True)
    if run.recipe.table["loss"]["kind"] == "mse" and "rmse" in metrics:
        metrics = metrics.assign(train_rmse=metrics["loss"] ** 0.5, validation_loss=metrics["rmse"] ** 2)
    return metrics


def _draw(metrics: pd.DataFrame, title: str, label: str, curves: Mapping[str, str]) -> Figure:
    figure, axes = new_axes(height_in=2.5)
    columns = {column: kind for column, kind in curves.items() if column in metrics}
    runs, members = list(metrics["run"].unique()), range(int(metrics["member"].max()) + 1)
    colours = {run: SERIES[number % len(SERIES)] for number, run in enumerate(runs)}
    styles = [STYLES[member] if len(members) <= len(STYLES) else "-" for member in members]
    opacities = {kind: FAINT if kind == "training" and len(columns) > 1 else 1.0 for kind in columns.values()}
    for run, member in metrics[["run", "member"]].drop_duplicates().itertuples(index=False):
        rows = metrics[(metrics["run"] == run) & (metrics["member"] == member)]
        for column, kind in columns.items():
            axes.plot(rows["epoch"] + 1, rows[column], styles[member], color=colours[run], alpha=opacities[kind])
    keys = [(short(str(run)), "-", colour, 1.0) for run, colour in colours.items()] if len(runs) > 1 else []
    if len(columns) > 1:
        keys += [(kind, "-", INK, opacity) for kind, opacity in opacities.items()]
    if 1 < len(members) <= len(STYLES):
        keys += [(f"member {member}", style, INK, 1.0) for member, style in enumerate(styles)]
    for key, style, colour, opacity in keys:
        axes.plot([], [], style, color=colour, alpha=opacity, label=key)
    if "rmse" in curves and BASELINE in metrics:
        axes.axhline(metrics[BASELINE].mean(), color=MUTED, linewidth=1, linestyle=":", label="mean votes")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel(label)
    axes.set_ylim(bottom=0)
    if len(axes.get_legend_handles_labels()[1]) > 1:
        add_legend(figure, axes)
    last = metrics.groupby(["run", "member"])[[c for c in curves if c in metrics]].last().mean()
    ends = ", ".join(f"{column} {value:.4g}" for column, value in last.items())
    return Figure(to_svg(figure, title.lower().replace(" ", "-")), f"{title} by epoch; at the end {ends}.", title)
