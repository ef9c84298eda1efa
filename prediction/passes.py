"""Predict galaxies with their members, in passes and parts that can be interrupted.

Members that share a view share a pass: an image is read, decoded and reduced once and warped once for each test-time
view, and every member of the pass sees it. Recipes with other views have their own passes.

A pass is cut into parts of PART_STEPS batches. A part always has the same batches, whatever the number of ranks and
wherever a prediction was interrupted, so on a CPU the output has the same bytes.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ensemble.model import Predictor, predict_views
from galaxy_zoo.errors import RunError
from galaxy_zoo.manifest import Shard
from galaxy_zoo.view import View
from galaxy_zoo.votes import Floats
from pipeline.loader import Batch, Loader
from pipeline.order import num_steps, rank_share
from prediction.embedding import Embedder
from prediction.members import TrainedMember
from prediction.memory import Portions
from prediction.parts import Parts
from prediction.source import Shards
from training.checkpoint import Snapshot
from training.meter import PredictionMeter
from training.ranks import Ranks

PART_STEPS = 8
"""Batches of a part: 1,024 galaxies at 128 a batch, some seconds of work; a kill costs one part, on a GPU two."""

COMPILED_FROM = 500_000
"""Fewest images for which a network is compiled on a GPU, which takes up to a minute. `ng_cnn` predicts so many in 28 s
on an H200 (calculated, at 17,600 images/s); how much of that compiling saves has not been measured."""


@dataclass(frozen=True)
class Assignment:
    """Shards that the same members predict. members: their numbers in the list of all members, ascending."""

    shards: tuple[Shard, ...]
    members: tuple[int, ...]

    @property
    def num_galaxies(self) -> int:
        """Number of galaxies in all its shards."""
        return sum(shard.samples for shard in self.shards)


def by_unseen(shards: Sequence[Shard], unseen: Sequence[frozenset[str]]) -> list[Assignment]:
    """Assign each shard to the members that have not seen it; leave out shards that all have seen.

    Args:
        unseen: for each member the names of the shards that were held out from it.
    """
    shards_by_members: dict[tuple[int, ...], list[Shard]] = {}
    for shard in shards:
        blind = tuple(number for number, names in enumerate(unseen) if shard.name in names)
        if blind:
            shards_by_members.setdefault(blind, []).append(shard)
    return [Assignment(tuple(some), members) for members, some in shards_by_members.items()]


@dataclass(frozen=True, kw_only=True)
class Block:
    """Predictions of some galaxies by some members.

    mean: mean votes over the views, float32, shape (members, galaxies, answers). view_variance: variance over the
    views, same shape. embeddings: for each member the mean over the views, float32, shape (galaxies, features); empty
    if none were asked for.
    """

    ids: NDArray[np.str_]
    members: tuple[int, ...]
    mean: Floats
    view_variance: Floats
    embeddings: tuple[Floats, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Passes:
    """Passes of members over the shards assigned to them. name: prefix of the names of their parts."""

    name: str
    members: Sequence[TrainedMember]
    assignments: Sequence[Assignment]
    source: Shards
    parts: Parts
    with_embeddings: bool = False

    @property
    def num_galaxies(self) -> int:
        """Number of galaxies in all assignments."""
        return sum(assignment.num_galaxies for assignment in self.assignments)

    def run(self, ranks: Ranks) -> None:
        """Make the missing parts, shared among the ranks; return when all ranks have made theirs."""
        at_once = PART_STEPS * self.source.reading.batch_size
        for number, assignment in enumerate(self.assignments):
            for view, members in self._members_by_view(assignment).items():
                names = self._part_names(number, members)
                whole = [self.parts.is_whole(name) for name in names] if ranks.is_first else []
                missing = ranks.broadcast_object([at for at, is_whole in enumerate(whole) if not is_whole])
                share = rank_share(range(len(missing)), rank=ranks.rank, world_size=ranks.world_size)
                mine = [missing[at] for at in share]
                total = sum(min(at_once, assignment.num_galaxies - part * at_once) for part in mine)
                if mine:
                    predictors = self._load(members, num_images=total * len(self.source.reading.views))
                    with (
                        self.source.open(assignment.shards, view) as loader,
                        PredictionMeter(self.name, total, is_shown=ranks.is_first) as meter,
                    ):
                        self._make(loader, names, mine, predictors, meter)
        ranks.barrier()

    def blocks(self) -> Iterator[Block]:
        """Yield all predictions, part by part, in the order of the shards within each assignment.

        Raises:
            RunError: a part is missing, damaged, or not of these passes.
        """
        for number, assignment in enumerate(self.assignments):
            passes = list(self._members_by_view(assignment).values())
            order = np.argsort([member for members in passes for member in members])
            for names in zip(*(self._part_names(number, members) for members in passes), strict=True):
                read = [self.parts.read(name) for name in names]
                try:
                    yield _block(read, assignment.members, order.tolist())
                except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
                    raise RunError(
                        f"{self.parts.folder}: {names[0]} is not a part of this prediction ({error}); remove the folder"
                    ) from error

    def _load(self, members: Sequence[int], *, num_images: int) -> list[Predictor]:
        """Load members to predict `num_images` images."""
        compiled = num_images >= COMPILED_FROM and not self.with_embeddings
        return [self.members[each].load(self.source.reading.device, compiled=compiled) for each in members]

    def _make(
        self,
        loader: Loader,
        names: Sequence[str],
        parts: Sequence[int],
        predictors: Sequence[Predictor],
        meter: PredictionMeter,
    ) -> None:
        """Make some parts of a pass; neighbouring parts come from one stream of batches."""
        embedded = predictors if self.with_embeddings else ()
        embedders = [Embedder(each.network, remedy="omit --embeddings") for each in embedded]
        stream: Iterator[Batch] = iter(())
        portions, made = Portions(), deque[tuple[str, Snapshot]]()
        for before, part in pairwise([-2, *parts]):
            if part != before + 1:
                stream = loader.epoch(0, start=part * PART_STEPS)
            # read to the end, so that the loader saves its stamps
            steps = PART_STEPS if part + 1 < len(names) else None
            batches = meter.timed(islice(stream, steps))
            made.append((names[part], Snapshot.of(predict_part(predictors, batches, embedders, portions))))
            # a part still on its way is written after the next, or a GPU would idle
            while len(made) > 1 or (made and made[0][1].is_copied):
                self.parts.write(*made.popleft())
        for each in made:
            self.parts.write(*each)

    def _members_by_view(self, assignment: Assignment) -> dict[View, tuple[int, ...]]:
        """Return the members of each pass."""
        passes: dict[View, tuple[int, ...]] = {}
        for member in assignment.members:
            view = self.members[member].run.recipe.view
            passes[view] = (*passes.get(view, ()), member)
        return passes

    def _part_names(self, assignment: int, members: Sequence[int]) -> list[str]:
        """Return the names of the parts of a pass."""
        steps = num_steps(self.assignments[assignment].num_galaxies, self.source.reading.batch_size)
        prefix = f"{self.name}-{assignment:03d}-{members[0]:03d}"
        return [f"{prefix}-{step:08d}" for step in range(0, steps, PART_STEPS)]


def predict_part(
    predictors: Sequence[Predictor],
    batches: Iterable[Batch],
    embedders: Sequence[Embedder] = (),
    portions: Portions | None = None,
) -> dict[str, Any]:
    """Return a part: ids, and for each member mean and variance of its votes over the views, and its embedding.

    Tensors are on the device, which is not waited for.

    Args:
        embedders: one for each predictor, or none.
        portions: what remembers, from part to part, how many galaxies memory suffices for.
    """
    portions = portions or Portions()
    ids: list[str] = []
    seen: list[list[dict[str, Tensor]]] = [[] for _ in predictors]

    def predict(batch: Batch) -> list[dict[str, Tensor]]:
        for embedder in embedders:
            embedder.forget()
        found = [torch.var_mean(votes, dim=0, correction=0) for votes in predict_views(predictors, batch.views)]
        members = [{"mean": mean, "variance": variance} for variance, mean in found]
        for member, embedder in zip(members, embedders, strict=False):
            member["embedding"] = embedder.take()
        return members

    for batch in batches:
        ids += batch.ids.tolist()
        for members in portions.each(batch, predict):
            for steps, member in zip(seen, members, strict=True):
                steps.append(member)
    members = [{key: torch.cat([step[key] for step in steps]) for key in steps[0]} for steps in seen]
    return {"ids": ids, "members": members}


def _block(parts: Sequence[dict[str, Any]], members: tuple[int, ...], order: Sequence[int]) -> Block:
    """Join the parts of all passes over the same galaxies, with the members in their order."""
    seen = [member for part in parts for member in part["members"]]
    seen = [seen[at] for at in order]
    return Block(
        ids=np.array(parts[0]["ids"], dtype=np.str_),
        members=members,
        mean=np.stack([each["mean"].numpy() for each in seen]),
        view_variance=np.stack([each["variance"].numpy() for each in seen]),
        embeddings=tuple(each["embedding"].numpy() for each in seen if "embedding" in each),
    )
