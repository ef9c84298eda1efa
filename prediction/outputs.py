"""What a prediction writes: the submission, a table with spreads, the embeddings. Each is whole or not there."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from galaxy_zoo.files import check_can_write
from galaxy_zoo.submission import write_submission
from galaxy_zoo.tree import DecisionTree
from galaxy_zoo.votes import Floats
from prediction import parquet
from prediction.blend import Weights
from prediction.blending import blend_members
from prediction.passes import Prediction


@dataclass(frozen=True)
class Predicted:
    """The ids and votes of all galaxies, in the order of the shards; votes, shape (galaxies, answers), in a file."""

    ids: NDArray[np.str_]
    votes: Floats


@dataclass(frozen=True)
class Outputs:
    """Where to write: the submission, and the Parquet files that are asked for."""

    submission: Path
    details: Path | None = None
    embeddings: Path | None = None

    def check(self) -> None:
        """Check, before long work, that all of it can be written.

        Raises:
            OutputError: a place cannot be written to.
            InputError: Parquet is asked for and pyarrow is missing.
        """
        for path in (self.submission, self.details, self.embeddings):
            if path is not None:
                check_can_write(path)
        for path in (self.details, self.embeddings):
            if path is not None:
                parquet.check_can_make(path)

    def write(self, prediction: Prediction, weights: Weights, tree: DecisionTree) -> Predicted:
        """Blend the members of a finished prediction and write everything, the submission last.

        Only a part of a pass is in memory at once, and of all galaxies their ids: votes are collected in a file of
        the spool, from which the submission is written in the order of its ids.

        Args:
            weights: of all members.
        """
        parts = []
        shape = (prediction.num_galaxies, len(tree.columns))
        votes = open_memmap(prediction.spool.folder / "votes.npy", "w+", np.float32, shape)
        with self._tables(prediction) as (details, embeddings):
            at = 0
            for block in prediction.blocks():
                blended = blend_members(block, weights)
                votes[at : at + len(block.ids)] = blended.votes
                at += len(block.ids)
                parts.append(block.ids)
                if details:
                    details.add(parquet.details(blended, tree))
                if embeddings:
                    embeddings.add(parquet.embeddings(block, tree))
        ids = np.concatenate(parts)
        write_submission(self.submission, ids, votes, tree)
        return Predicted(ids, votes)

    @contextmanager
    def _tables(self, prediction: Prediction) -> Iterator[tuple[parquet.Table | None, parquet.Table | None]]:
        names = parquet.embedding_names([member.name for member in prediction.members])
        with ExitStack() as stack:
            yield (
                stack.enter_context(parquet.open_table(self.details)) if self.details else None,
                stack.enter_context(parquet.open_table(self.embeddings, names)) if self.embeddings else None,
            )
