"""Submissions in Kaggle's format: write one, read and check one, warn about one that looks broken."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from galaxy_zoo.cells import read_cells
from galaxy_zoo.errors import LabelError, SubmissionError
from galaxy_zoo.files import atomic_write
from galaxy_zoo.labels import read_votes
from galaxy_zoo.tree import DecisionTree
from galaxy_zoo.votes import TOLERANCE, Floats, parent_votes, question_totals

DECIMALS = 8
ROUNDING = 1e-6
NEAR_CONSTANT_STD = 1e-3
FAR_FROM_TRAINING = 0.1
FEWEST = 30
ROWS_AT_ONCE = 2**16
KAGGLE_TREE, KAGGLE_ROWS = "gz2-kaggle", 79_975
"""The rows that Kaggle's competition takes, one for each of its test galaxies.

Source: central_pixel_benchmark.csv of https://www.kaggle.com/c/galaxy-zoo-the-galaxy-challenge/data
"""


def sorted_ids(ids: Sequence[str]) -> list[str]:
    """Return ids ascending: by number if all are numbers, as Kaggle does, else as text."""
    texts = np.array(ids, dtype=np.str_)
    ordered: list[str] = texts[id_order(texts)].tolist()
    return ordered


def id_order(ids: NDArray[np.str_]) -> NDArray[np.intp]:
    """Return the positions of the ids in the order of `sorted_ids`."""
    if not np.char.isdecimal(ids).all():
        return np.argsort(ids, kind="stable")
    digits = np.char.lstrip(ids, "0")
    return np.lexsort((ids, digits, np.char.str_len(digits)))  # a number with more digits is larger


def write_submission(
    path: Path, ids: Sequence[str] | NDArray[np.str_], predicted: Floats, tree: DecisionTree
) -> None:
    """Write predictions as a submission, ids ascending, whole or not at all.

    It handles `ROWS_AT_ONCE` rows at a time, so `predicted` may be mapped from a file larger than the memory.

    Args:
        predicted: shape (len(ids), answers), in [0, 1].

    Raises:
        SubmissionError: an id is repeated, or a value is NaN or outside [0, 1].
        OSError: `path` cannot be written.
    """
    if predicted.shape != (len(ids), len(tree.columns)):
        raise SubmissionError(f"predictions of shape {predicted.shape} for {len(ids)} ids")
    texts = np.asarray(ids, dtype=np.str_)
    order = id_order(texts)
    twice = np.flatnonzero(texts[order[1:]] == texts[order[:-1]])
    if len(twice):
        raise SubmissionError(f"id {texts[order[twice[0]]]} is predicted twice")
    _check_values(texts, predicted, tree)
    with atomic_write(path) as file:
        file.write(f"{','.join((tree.id_column, *tree.columns))}\n".encode())
        for start in range(0, len(order), ROWS_AT_ONCE):
            rows = order[start : start + ROWS_AT_ONCE]
            values = predicted[rows].astype(np.float64).clip(0, 1)
            table = pd.DataFrame(values, index=texts[rows])
            file.write(table.to_csv(header=False, float_format=f"%.{DECIMALS}f", lineterminator="\n").encode())


def _check_values(ids: NDArray[np.str_], predicted: Floats, tree: DecisionTree) -> None:
    first, count = None, 0
    for start in range(0, len(ids), ROWS_AT_ONCE):
        values = predicted[start : start + ROWS_AT_ONCE]
        bad = np.argwhere(~((values >= -ROUNDING) & (values <= 1 + ROUNDING)))
        count += len(bad)
        if len(bad) and first is None:
            first = (start + int(bad[0, 0]), int(bad[0, 1]))
    if first is not None:
        raise SubmissionError(
            f"id {ids[first[0]]}, {tree.columns[first[1]]}: predicted {predicted[first]}, which is not in "
            f"[0, 1] ({count} such values)"
        )


def read_submission(path: Path, tree: DecisionTree, *, expected_ids: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a submission; check its header, values, order and ids.

    Returns:
        The predictions as `galaxy_zoo.labels.read_votes` returns votes.

    Raises:
        SubmissionError: Kaggle would refuse the file or score it wrongly; the message says where.
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


def read_ids(path: Path, tree: DecisionTree) -> list[str]:
    """Return the ids of a CSV with the tree's id column, or of a text file with one id per line.

    The file may be compressed, with a suffix as in ids.txt.xz.

    Raises:
        SubmissionError: the file is neither.
    """
    try:
        [(_, cells)] = read_cells(path, str(path))
    except LabelError as error:
        raise SubmissionError(str(error)) from error
    if tree.id_column in cells:
        return [str(each).strip() for each in cells[tree.id_column].dropna()]
    if len(cells.columns) == 1:
        return [str(each).strip() for each in (*cells.columns, *cells.iloc[:, 0].dropna())]
    raise SubmissionError(f"{path}: neither a CSV with a column {tree.id_column!r} nor a text with an id a line")


def votes_of_ids(truth: pd.DataFrame, ids: Sequence[str], where: str) -> Floats:
    """Return the rows of a table of votes for `ids`, in their order.

    Raises:
        SubmissionError: an id has no row; `where` names the table.
    """
    at = truth.index.get_indexer(pd.Index(ids))
    missing = np.flatnonzero(at < 0)
    if len(missing):
        examples = _some([ids[i] for i in missing.tolist()])
        raise SubmissionError(
            f"{where}: no row of votes for {len(missing):,} of {len(ids):,} predicted ids: {examples}; "
            "score with the votes of these galaxies"
        )
    votes: Floats = truth.to_numpy()[at]
    return votes


def warnings_about_rows(num_rows: int, tree: DecisionTree) -> list[str]:
    """Return a warning where Kaggle would refuse a submission for its number of rows."""
    if tree.name != KAGGLE_TREE or num_rows == KAGGLE_ROWS:
        return []
    return [f"{num_rows:,} galaxies; Kaggle takes a submission of its {KAGGLE_ROWS:,} test galaxies only"]


def warnings_about(predicted: Floats, tree: DecisionTree, training_mean: Floats | None = None) -> list[str]:
    """Return warnings about predictions that are valid but look broken.

    A column that hardly varies means that the network's output has collapsed. A column mean far from the mean
    training vote means the same, or that the galaxies are of another kind. Votes that break the tree are normal for a
    sigmoid head and a bug in any other. Means and spreads of fewer than `FEWEST` galaxies are not judged.

    Args:
        predicted: shape (galaxies, answers); read `ROWS_AT_ONCE` rows at a time.
        training_mean: shape (answers,), NaN where unknown.
    """
    warnings = []
    means, spread = _moments(predicted)
    constant = [c for c, std in zip(tree.columns, spread, strict=True) if std < NEAR_CONSTANT_STD]
    if len(predicted) >= FEWEST and constant:
        warnings.append(f"nearly the same for every galaxy (std < {NEAR_CONSTANT_STD:g}): {_some(constant)}")
    if len(predicted) >= FEWEST and training_mean is not None:
        off = np.abs(means - training_mean) > FAR_FROM_TRAINING
        far = [f"{tree.columns[i]} {means[i]:.3f} (training {training_mean[i]:.3f})" for i in np.flatnonzero(off)]
        if far:
            warnings.append(f"column means far from the training votes: {_some(far)}")
    if violations := _violations(predicted, tree):
        warnings.append(f"answers do not sum to the votes of their parent: {_some(violations)}")
    return warnings


def _moments(predicted: Floats) -> tuple[Floats, Floats]:
    """Return the mean and the standard deviation of each column."""
    mean = sum(part.sum(axis=0, dtype=np.float64) for part in _parts(predicted)) / max(1, len(predicted))
    squares = sum(((part - mean) ** 2).sum(axis=0) for part in _parts(predicted))
    return np.asarray(mean), np.sqrt(squares / max(1, len(predicted)))


def _violations(predicted: Floats, tree: DecisionTree) -> list[str]:
    """Describe each question that breaks the tree: in how many galaxies, and by how much on average."""
    count, total = np.zeros(len(tree.questions), np.int64), np.zeros(len(tree.questions))
    for part in _parts(predicted):
        off = np.abs(question_totals(part, tree) - parent_votes(part, tree))
        count += (off > TOLERANCE).sum(axis=0)
        total += off.sum(axis=0)
    return [
        f"{question.name!r} of {count[i]:,} galaxies (off by {total[i] / len(predicted):.3f} on average)"
        for i, question in enumerate(tree.questions)
        if count[i]
    ]


def _parts(predicted: Floats) -> Iterator[Floats]:
    for start in range(0, len(predicted), ROWS_AT_ONCE):
        yield predicted[start : start + ROWS_AT_ONCE]


def _check_ids(path: Path, ids: set[str], expected: set[str]) -> None:
    for what, which in (("missing", expected - ids), ("unknown", ids - expected)):
        if which:
            raise SubmissionError(f"{path}: {len(which)} ids are {what}: {_some(sorted_ids(list(which)))}")


def _some(names: Sequence[str], count: int = 5) -> str:
    return ", ".join(names[:count]) + (f", ... ({len(names)} in all)" if len(names) > count else "")
