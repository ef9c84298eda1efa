"""Kaggle's submission: write it, read and check one, and warn about one that looks broken."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from galaxy_zoo.errors import LabelError, SubmissionError
from galaxy_zoo.files import atomic_write
from galaxy_zoo.labels import read_votes
from galaxy_zoo.tree import DecisionTree
from galaxy_zoo.votes import Floats

DECIMALS = 8
ROUNDING = 1e-6
NEAR_CONSTANT_STD = 1e-3
FAR_FROM_TRAINING = 0.1


def sorted_ids(ids: Sequence[str]) -> list[str]:
    """Ids ascending: by number where all are numbers, as Kaggle does, by text otherwise."""
    if all(each.isdecimal() for each in ids):
        return sorted(ids, key=lambda each: (int(each), each))
    return sorted(ids)


def write_submission(path: Path, ids: Sequence[str], predicted: Floats, tree: DecisionTree) -> None:
    """Write predictions as a submission, ids ascending, whole or not at all.

    Args:
        predicted: shape (len(ids), answers), in [0, 1].

    Raises:
        SubmissionError: an id stands twice, or a value is NaN or outside [0, 1].
        OSError: `path` cannot be written.
    """
    if predicted.shape != (len(ids), len(tree.columns)):
        raise SubmissionError(f"predictions of shape {predicted.shape} for {len(ids)} ids")
    table = pd.DataFrame(predicted.astype(np.float64), index=list(ids), columns=list(tree.columns))
    if table.index.has_duplicates:
        raise SubmissionError(f"id {table.index[table.index.duplicated()][0]} is predicted twice")
    table = table.loc[sorted_ids(ids)]
    values = table.to_numpy()
    bad = np.argwhere(~((values >= -ROUNDING) & (values <= 1 + ROUNDING)))
    if len(bad):
        row, column = bad[0]
        raise SubmissionError(
            f"id {table.index[row]}, {tree.columns[column]}: predicted {values[row, column]}, which is not in "
            f"[0, 1] ({len(bad)} such values)"
        )
    text = table.clip(0, 1).to_csv(index_label=tree.id_column, float_format=f"%.{DECIMALS}f")
    with atomic_write(path) as file:
        file.write(text.encode())


def read_submission(path: Path, tree: DecisionTree, *, expected_ids: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a submission and check header, values, order and ids.

    Returns:
        The predictions as `galaxy_zoo.labels.read_votes` returns votes.

    Raises:
        SubmissionError: it would not be accepted, or not score what it should; says where.
    """
    try:
        table = read_votes(path, tree)
        header = pd.read_csv(path, nrows=0).columns.tolist()
    except LabelError as error:
        raise SubmissionError(str(error)) from error
    expected_header = [tree.id_column, *tree.columns]
    if header != expected_header:
        at = next(
            i
            for i, pair in enumerate(zip([*header, ""], [*expected_header, ""], strict=False))
            if len(set(pair)) > 1
        )
        raise SubmissionError(
            f"{path}: column {at + 1} of the header is not the tree's; write {','.join(expected_header[:4])},..."
        )
    ids = table.index.tolist()
    if ids != sorted_ids(ids):
        raise SubmissionError(f"{path}: ids are not ascending; sort the rows by {tree.id_column}")
    if expected_ids is not None:
        _check_ids(path, set(ids), set(expected_ids))
    return table


def warnings_about(predicted: Floats, tree: DecisionTree, training_mean: Floats | None = None) -> list[str]:
    """Say what looks broken in predictions that are formally right.

    Columns that hardly vary mean that the network's output is broken or collapsed; column means far from the
    mean votes of the training galaxies mean the same, or that other galaxies are predicted.

    Args:
        predicted: shape (galaxies, answers).
        training_mean: shape (answers,), NaN where unknown.
    """
    warnings = []
    spread = predicted.std(axis=0)
    constant = [c for c, std in zip(tree.columns, spread, strict=True) if std < NEAR_CONSTANT_STD]
    if len(predicted) > 1 and constant:
        warnings.append(f"nearly the same for every galaxy (std < {NEAR_CONSTANT_STD:g}): {_some(constant)}")
    if training_mean is not None:
        means = predicted.mean(axis=0)
        off = np.abs(means - training_mean) > FAR_FROM_TRAINING
        far = [f"{tree.columns[i]} {means[i]:.3f} (training {training_mean[i]:.3f})" for i in np.flatnonzero(off)]
        if far:
            warnings.append(f"column means far from the training votes: {_some(far)}")
    return warnings


def _check_ids(path: Path, ids: set[str], expected: set[str]) -> None:
    for what, which in (("missing", expected - ids), ("unknown", ids - expected)):
        if which:
            raise SubmissionError(f"{path}: {len(which)} ids are {what}: {_some(sorted_ids(list(which)))}")


def _some(names: Sequence[str], count: int = 5) -> str:
    return ", ".join(names[:count]) + (f", ... ({len(names)} in all)" if len(names) > count else "")
