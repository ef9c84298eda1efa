"""The outputs of a prediction: submission, table with spreads, embeddings. Each is written whole or not at all.

Parquet files have a row for each galaxy and are written in row groups, so memory does not grow with their rows.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from galaxy_zoo.errors import InputError
from galaxy_zoo.files import atomic_write, check_can_write
from galaxy_zoo.submission import write_submission
from galaxy_zoo.tree import DecisionTree
from galaxy_zoo.votes import Floats
from prediction.blend import Weights
from prediction.passes import Block, Passes

ROW_GROUP = 2**14
"""Rows of a row group: 7 MB for the 111 columns of Galaxy Zoo 2."""


@dataclass(frozen=True)
class Predicted:
    """Ids and votes of all galaxies, in shard order. votes: shape (galaxies, answers), mapped from a file."""

    ids: NDArray[np.str_]
    votes: Floats


@dataclass(frozen=True, kw_only=True)
class Blended:
    """Predictions of the ensemble for some galaxies, float32, each of shape (galaxies, answers).

    view_spread: standard deviation over the test-time views of a member, the root mean square over members.
    member_spread: standard deviation over members.
    """

    ids: NDArray[np.str_]
    votes: Floats
    view_spread: Floats
    member_spread: Floats


def blend_members(block: Block, weights: Weights) -> Blended:
    """Blend the members of a block by their weights, scaled to a sum of 1. weights: those of all members."""
    mine = weights[list(block.members)]
    mine = mine / mine.sum()
    votes = np.tensordot(mine, block.mean, axes=1)
    between = np.tensordot(mine, (block.mean - votes) ** 2, axes=1)
    within = np.tensordot(mine, block.view_variance, axes=1)
    return Blended(
        ids=block.ids,
        votes=votes.astype(np.float32),
        view_spread=np.sqrt(within).astype(np.float32),
        member_spread=np.sqrt(between).astype(np.float32),
    )


@dataclass(frozen=True)
class Outputs:
    """Paths of the submission and of the Parquet files that are asked for."""

    submission: Path
    details: Path | None = None
    embeddings: Path | None = None

    def check(self) -> None:
        """Check, before long work, that everything can be written.

        Raises:
            OutputError: a path cannot be written to.
            InputError: Parquet is asked for and pyarrow is missing.
        """
        for path in (self.submission, self.details, self.embeddings):
            if path is not None:
                check_can_write(path)
        for path in (self.details, self.embeddings):
            if path is not None:
                _check_pyarrow(path)

    def write(self, passes: Passes, weights: Weights, tree: DecisionTree) -> Predicted:
        """Blend the members of finished passes and write everything, the submission last.

        Memory holds one part of a pass, and the ids of all galaxies. Votes are collected in a file beside the parts;
        the submission is written from it in the order of its ids.

        Args:
            weights: weights of all members.
        """
        ids = []
        shape = (passes.num_galaxies, len(tree.columns))
        passes.parts.votes.unlink(missing_ok=True)  # never write through a link
        votes = open_memmap(passes.parts.votes, "w+", np.float32, shape)
        with ExitStack() as stack:
            names = {f"embedding_{number}": member.name for number, member in enumerate(passes.members)}
            details = stack.enter_context(open_table(self.details)) if self.details else None
            embeddings = stack.enter_context(open_table(self.embeddings, names)) if self.embeddings else None
            at = 0
            for block in passes.blocks():
                blended = blend_members(block, weights)
                votes[at : at + len(block.ids)] = blended.votes
                at += len(block.ids)
                ids.append(block.ids)
                if details:
                    details.add(_detail_columns(blended, tree))
                if embeddings:
                    embeddings.add(_embedding_columns(block, tree))
        predicted = Predicted(np.concatenate(ids), votes)
        write_submission(self.submission, predicted.ids, votes, tree)
        return predicted


def _check_pyarrow(path: Path) -> None:
    try:
        import pyarrow.parquet  # noqa: F401, PLC0415 - an extra that most predictions do not need
    except ModuleNotFoundError as error:  # not one that memory did not suffice for
        raise InputError(
            f"{path}: writing Parquet needs pyarrow; install it with: pip install pyarrow, or omit the option"
        ) from error


class ParquetTable:
    """A Parquet file that rows are added to; see `open_table`."""

    def __init__(self, file: Any, metadata: dict[str, str]) -> None:
        self._file, self._metadata = file, metadata
        self._writer: Any = None
        self._waiting: list[Any] = []

    def add(self, columns: dict[str, Any]) -> None:
        """Add rows, as arrays of equal length; a two-dimensional array becomes a column of lists of fixed size."""
        import pyarrow as pa  # noqa: PLC0415

        arrays = {name: _column(values) for name, values in columns.items()}
        self._waiting.append(pa.table(arrays, metadata=self._metadata))
        if sum(each.num_rows for each in self._waiting) >= ROW_GROUP:
            self.flush()

    def flush(self) -> None:
        """Write the waiting rows as one row group."""
        import pyarrow as pa  # noqa: PLC0415
        import pyarrow.parquet as pq  # noqa: PLC0415

        if self._waiting:
            rows, self._waiting = pa.concat_tables(self._waiting), []
            self._writer = self._writer or pq.ParquetWriter(self._file, rows.schema)
            self._writer.write_table(rows)

    def close(self) -> None:
        """Write the end of the file."""
        self.flush()
        if self._writer is not None:
            self._writer.close()


@contextmanager
def open_table(path: Path, metadata: dict[str, str] | None = None) -> Iterator[ParquetTable]:
    """Open a new Parquet file, written whole or not at all. metadata: text stored in its schema.

    Raises:
        OSError: `path` cannot be written.
    """
    with atomic_write(path) as file:
        table = ParquetTable(file, metadata or {})
        yield table
        table.close()


def _detail_columns(blended: Blended, tree: DecisionTree) -> dict[str, Any]:
    """Return the id, and for each answer its votes, `<answer>_view_spread` and `<answer>_member_spread`."""
    kinds = {"": blended.votes, "_view_spread": blended.view_spread, "_member_spread": blended.member_spread}
    columns: dict[str, Any] = {tree.id_column: blended.ids}
    for suffix, values in kinds.items():
        columns |= {f"{answer}{suffix}": values[:, at] for at, answer in enumerate(tree.columns)}
    return columns


def _embedding_columns(block: Block, tree: DecisionTree) -> dict[str, Any]:
    """Return the id, and for each member of the block `embedding_<number of the member>`, a list of floats."""
    numbered = zip(block.members, block.embeddings, strict=True)
    return {tree.id_column: block.ids} | {f"embedding_{member}": values for member, values in numbered}


def _column(values: Any) -> Any:
    import pyarrow as pa  # noqa: PLC0415

    if values.ndim == 1:
        return pa.array(values.tolist() if values.dtype.kind == "U" else np.ascontiguousarray(values))
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values).ravel()), values.shape[1])
