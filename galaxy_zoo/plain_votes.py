"""Read plain tables of votes, as Kaggle's is, eight times as fast as `cells` and `labels` read any table."""

from collections.abc import Generator
from itertools import islice
from typing import IO

import numpy as np
import pandas as pd

from galaxy_zoo.tree import DecisionTree

PLAIN = b"0123456789.eE+-,\n"
"""Characters of the lines after the header."""


def plain_votes(
    file: IO[bytes], tree: DecisionTree, *, highest: float, lines_at_once: int
) -> Generator[tuple[int, pd.DataFrame], None, int | None]:
    """Yield the votes of a table as `labels.votes_of_cells` returns them, some lines at a time, with the first line.

    Stop before lines that are not plain: that hold anything but numbers from 0 to `highest` and ids of the same
    characters, or have another number of cells than the header.

    Returns:
        The number of the first line that was not read, None if all were.
    """
    next_line = 2
    header = file.readline()
    if b'"' in header or b"#" in header or b"\r" in header.removesuffix(b"\n").removesuffix(b"\r"):
        return next_line
    columns = header.decode(errors="replace").strip().split(",")
    if len(set(columns)) < len(columns) or not {tree.id_column, *tree.columns} <= set(columns):
        return next_line
    id_at = columns.index(tree.id_column)
    others = [column for column in columns if column != tree.id_column]
    order = [others.index(column) for column in tree.columns]
    while lines := list(islice(file, lines_at_once)):
        text = b"".join(lines).replace(b"\r\n", b"\n")
        if text.translate(None, PLAIN) or any(line.count(b",") != len(others) for line in lines):
            return next_line
        cells = text.removesuffix(b"\n").replace(b"\n", b",").split(b",")
        ids = [each.decode() for each in cells[id_at :: len(columns)]]
        del cells[id_at :: len(columns)]
        try:
            numbers = np.fromiter(map(float, cells), np.float64, len(cells)).reshape(len(lines), -1)
        except ValueError:
            return next_line
        votes = numbers[:, order]
        if not (all(ids) and ((votes >= 0) & (votes <= highest)).all()):
            return next_line
        yield next_line, pd.DataFrame(votes, index=pd.Index(ids), columns=list(tree.columns))
        next_line += len(lines)
    return None if next_line > 2 else next_line
