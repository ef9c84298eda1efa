"""A whole prediction: members x galaxies, the blend fitted where one is, and the files."""

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch

from galaxy_zoo.errors import RunError
from galaxy_zoo.manifest import Shard
from galaxy_zoo.version import __version__
from galaxy_zoo.view import View
from prediction.blend import Weights, mean_of
from prediction.blending import columns_of, describe_blends, fit_blends, held_out_votes, member_weights
from prediction.outputs import Outputs, Predicted
from prediction.parts import Spool
from prediction.passes import PART_STEPS, Batches, Group, Prediction, TrainedMember, by_unseen
from training.ranks import Ranks
from training.run import Run


class Source(Protocol):
    """The shards of a data set and how they are read; the scripts make it, for `pipeline` is not known here."""

    @property
    def shards(self) -> tuple[Shard, ...]:
        """Those to predict."""

    @property
    def training_shards(self) -> tuple[Shard, ...]:
        """Those that members were trained on, but for their folds."""

    @property
    def batch_size(self) -> int:
        """Galaxies a batch."""

    @property
    def device(self) -> torch.device:
        """Where batches are."""

    @property
    def key(self) -> dict[str, Any]:
        """Everything about it that decides the bytes of a prediction, as JSON."""

    def open(self, shards: Sequence[Shard], view: View) -> AbstractContextManager[Batches]:
        """The batches of some shards, in their order."""

    def unseen(self, run: Run) -> frozenset[str]:
        """The names of the training shards that were held out from the members of a run."""

    def training_votes(self) -> pd.DataFrame:
        """The votes of the training shards by id."""


@dataclass(frozen=True)
class Job:
    """Which members predict what, and where to. blend: one of `prediction.blend.BLENDS`."""

    members: Sequence[TrainedMember]
    source: Source
    outputs: Outputs
    out_of_fold: bool = False
    blend: str = "uniform"

    def run(self, spool: Spool, ranks: Ranks) -> tuple[Predicted | None, list[str]]:
        """Predict what is missing and, on the first rank, write everything.

        Args:
            spool: begun.

        Returns:
            What was predicted, None on other ranks, and lines about the blend.

        Raises:
            RunError: no galaxy is held out from the members, and that was asked for.
        """
        weights, lines = self._fit(spool, ranks)
        with_embeddings = self.outputs.embeddings is not None
        prediction = self._prediction("predict", self._groups(weights), spool, with_embeddings=with_embeddings)
        prediction.run(ranks)
        tree = self.members[0].run.data.tree
        return self.outputs.write(prediction, weights, tree) if ranks.is_first else None, lines

    @property
    def key(self) -> dict[str, Any]:
        """Everything that decides the bytes of a part."""
        recipes = [json.dumps(member.run.recipe.table, sort_keys=True) for member in self.members]
        return {
            "version": __version__,
            "weights": [member.sha256 for member in self.members],
            "recipes": [sha256(recipe.encode()).hexdigest() for recipe in recipes],
            **self.source.key,
            "part_steps": PART_STEPS,
            "out_of_fold": self.out_of_fold,
            "blend": self.blend,
            "embeddings": self.outputs.embeddings is not None,
        }

    def _prediction(
        self, name: str, groups: Sequence[Group], spool: Spool, *, with_embeddings: bool = False
    ) -> Prediction:
        source = self.source
        return Prediction(
            name, self.members, groups, source.open, source.batch_size, spool, source.device, with_embeddings
        )

    def _unseen_groups(self, shards: Sequence[Shard]) -> list[Group]:
        return by_unseen(shards, [self.source.unseen(member.run) for member in self.members])

    def _fit(self, spool: Spool, ranks: Ranks) -> tuple[Weights, list[str]]:
        """The weight of each member, and the scores of the blends where one is fitted."""
        if self.blend == "uniform":
            return mean_of(range(len(self.members)), len(self.members)), []
        validation = self._prediction("validate", self._unseen_groups(self.source.training_shards), spool)
        validation.run(ranks)
        columns = columns_of(self.members)
        held_out = held_out_votes(validation.blocks(), columns, self.source.training_votes())
        blends = fit_blends(held_out)
        names = [", ".join(self.members[member].name for member in column) for column in columns]
        weights = member_weights(columns, blends[self.blend].weights, len(self.members))
        return weights, describe_blends(held_out, blends, names)

    def _groups(self, weights: Weights) -> list[Group]:
        """Who predicts what: members of no weight predict nothing."""
        if not self.out_of_fold:
            return [Group(self.source.shards, tuple(np.flatnonzero(weights).tolist()))]
        groups = self._unseen_groups(self.source.shards)
        if not groups:
            raise RunError("no member held out a fold, so all have seen every galaxy; train with --fold k/K")
        return groups
