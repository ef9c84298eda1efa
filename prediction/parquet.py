"""Parquet files with a row a galaxy, written in row groups, so in the same memory however many rows there are."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from galaxy_zoo.errors import InputError
from galaxy_zoo.files import atomic_write
from galaxy_zoo.tree import DecisionTree
from prediction.blending import Blended
from prediction.passes import Block

ROW_GROUP = 2**14
"""Rows a row group: 7 MB of the 111 columns of Galaxy Zoo 2."""


def check_can_make(path: Path) -> None:
    """Check, before long work, that Parquet can be written.

    Raises:
        InputError: pyarrow is missing.
    """
    try:
        import pyarrow.parquet  # noqa: F401, PLC0415 - an extra, which most predictions do without
    except ImportError as error:
        raise InputError(
            f"{path}: writing Parquet needs pyarrow; install it with: pip install pyarrow, or leave the option away"
        ) from error


class Table:
    """A Parquet file that rows are added to; see `open_table`."""

    def __init__(self, file: Any, metadata: dict[str, str]) -> None:
        self._file, self._metadata = file, metadata
        self._writer: Any = None
        self._waiting: list[Any] = []

    def add(self, columns: dict[str, Any]) -> None:
        """Add rows, as arrays of one length; a two-dimensional one becomes a column of lists of fixed size."""
        import pyarrow as pa  # noqa: PLC0415

        arrays = {name: _column(values) for name, values in columns.items()}
        self._waiting.append(pa.table(arrays, metadata=self._metadata))
        if sum(each.num_rows for each in self._waiting) >= ROW_GROUP:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting as one row group."""
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
def open_table(path: Path, metadata: dict[str, str] | None = None) -> Iterator[Table]:
    """A new Parquet file, whole or not at all; `metadata` are texts of its schema.

    Raises:
        OSError: `path` cannot be written.
    """
    with atomic_write(path) as file:
        table = Table(file, metadata or {})
        yield table
        table.close()


def details(blended: Blended, tree: DecisionTree) -> dict[str, Any]:
    """The id, and for each answer its votes, `<answer>_view_spread` and `<answer>_member_spread`."""
    parts = {"": blended.votes, "_view_spread": blended.view_spread, "_member_spread": blended.member_spread}
    columns: dict[str, Any] = {tree.id_column: blended.ids}
    for suffix, values in parts.items():
        columns |= {f"{answer}{suffix}": values[:, at] for at, answer in enumerate(tree.columns)}
    return columns


def embeddings(block: Block, tree: DecisionTree) -> dict[str, Any]:
    """The id, and for each member of the block `embedding_<number of the member>`, a list of floats."""
    numbered = zip(block.members, block.embeddings, strict=True)
    return {tree.id_column: block.ids} | {f"embedding_{member}": values for member, values in numbered}


def embedding_names(names: Sequence[str]) -> dict[str, str]:
    """What the file says about its columns: the members they are of."""
    return {f"embedding_{number}": name for number, name in enumerate(names)}


def _column(values: Any) -> Any:
    import pyarrow as pa  # noqa: PLC0415

    if values.ndim == 1:
        return pa.array(values.tolist() if values.dtype.kind == "U" else np.ascontiguousarray(values))
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values).ravel()), values.shape[1])
