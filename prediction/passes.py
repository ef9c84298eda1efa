"""Members to votes: which member predicts which galaxies, in passes and parts that can be interrupted.

Members that share a view share a pass: an image is read, decoded and reduced once, warped once a test-time view, and
every member of the pass sees it. Recipes with other views have passes of their own.

A pass is cut into parts of PART_STEPS batches. A part is always made of the same batches, whatever the number of
ranks and wherever a prediction was interrupted; so on a CPU the output has the same bytes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ensemble.model import Predictor, build_network
from galaxy_zoo.errors import RunError
from galaxy_zoo.files import sha256_of
from galaxy_zoo.manifest import Shard
from galaxy_zoo.view import View
from galaxy_zoo.votes import Floats
from pipeline.loader import Batch
from prediction.embedding import Embedder
from prediction.parts import Spool
from training.checkpoint import load_state
from training.meter import PredictionMeter
from training.ranks import Ranks, share_of
from training.run import BEST_NAME, Run

PART_STEPS = 8
"""Batches a part: at 128 galaxies a batch 1,024 of them, some seconds of work, lost at most when killed."""


class Batches(Protocol):
    """Batches of samples in a fixed order, to be entered at any step."""

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[Batch]: ...  # noqa: D102


OpenBatches = Callable[[Sequence[Shard], View], AbstractContextManager[Batches]]


@dataclass(frozen=True)
class TrainedMember:
    """A member of a run, and the checksum of its best weights."""

    run: Run
    index: int
    sha256: str

    @property
    def name(self) -> str:
        """What to call it."""
        return str(self.run.member_folder(self.index))

    def load(self, device: torch.device, *, compiled: bool = True, in_float32: bool = False) -> Predictor:
        """The network with the best weights; `in_float32` whatever the recipe's precision is.

        Raises:
            RunError: the checkpoint is damaged, or not of this recipe.
        """
        path = self.run.member_folder(self.index) / BEST_NAME
        network = build_network(self.run.recipe, self.run.data.tree, pretrained=False)
        if in_float32:
            network.precision = "float32"
        try:
            network.load_state_dict(load_state(path)["weights"])
        except (KeyError, RuntimeError) as error:
            reason = str(error).partition("\n")[0]
            raise RunError(
                f"{path}: not the weights of a member of {self.run.folder} ({reason}); train again"
            ) from error
        return Predictor(network, device, compiled=compiled)


def find_members(runs: Sequence[Run]) -> list[TrainedMember]:
    """All members of some runs.

    Raises:
        RunError: a run is named twice, was trained on another tree or size of image than the first, or a member
            has no checkpoint yet.
    """
    first, members = runs[0], []
    for run in runs:
        if run.data.tree != first.data.tree:
            raise RunError(
                f"{run.folder} was trained on the tree {run.data.tree.name!r}, {first.folder} on "
                f"{first.data.tree.name!r} or another version of it; predict with them one by one"
            )
        if run.data.image_px != first.data.image_px:
            raise RunError(
                f"{run.folder} was trained on images of {run.data.image_px} px, {first.folder} of "
                f"{first.data.image_px}; predict with them one by one"
            )
        for index in range(run.members):
            path = run.member_folder(index) / BEST_NAME
            if not path.exists():
                raise RunError(
                    f"{path}: no checkpoint yet; train at least one epoch: python train.py ... --resume"
                )
            members.append(TrainedMember(run, index, sha256_of(path)))
    _refuse_twins(members)
    return members


def _refuse_twins(members: Sequence[TrainedMember]) -> None:
    seen: dict[str, TrainedMember] = {}
    for member in members:
        if (twin := seen.setdefault(member.sha256, member)) is not member:
            raise RunError(f"{member.name} has the same weights as {twin.name}; name each run once")


@dataclass(frozen=True)
class Group:
    """Shards that the same members predict. members: numbers in the list of all, ascending."""

    shards: tuple[Shard, ...]
    members: tuple[int, ...]

    @property
    def num_galaxies(self) -> int:
        """In all its shards."""
        return sum(shard.samples for shard in self.shards)


def by_unseen(shards: Sequence[Shard], unseen: Sequence[frozenset[str]]) -> list[Group]:
    """Each shard is predicted by the members that have not seen it; without the shards that all have seen.

    Args:
        unseen: for each member the names of the shards that were held out from it.
    """
    groups: dict[tuple[int, ...], list[Shard]] = {}
    for shard in shards:
        blind = tuple(number for number, names in enumerate(unseen) if shard.name in names)
        if blind:
            groups.setdefault(blind, []).append(shard)
    return [Group(tuple(some), members) for members, some in groups.items()]


@dataclass(frozen=True)
class Block:
    """Predictions of some galaxies by some members.

    mean: votes, mean over the views, float32, shape (members, galaxies, answers). view_variance: over the views, of
    the same shape. embeddings: for each member the mean over the views, float32, shape (galaxies, features); empty
    where none were asked for.
    """

    ids: NDArray[np.str_]
    members: tuple[int, ...]
    mean: Floats
    view_variance: Floats
    embeddings: tuple[Floats, ...]


@dataclass(frozen=True)
class Prediction:
    """Members predict groups of shards of one data set; what is finished lies in the spool.

    name: what its parts are called by, so that several can share a spool.
    open_batches: gives the batches of `batch_size` galaxies of some shards as a view, in the order of the shards.
    """

    name: str
    members: Sequence[TrainedMember]
    groups: Sequence[Group]
    open_batches: OpenBatches
    batch_size: int
    spool: Spool
    device: torch.device
    with_embeddings: bool = False

    @property
    def num_galaxies(self) -> int:
        """Of all groups."""
        return sum(group.num_galaxies for group in self.groups)

    def run(self, ranks: Ranks) -> None:
        """Make the parts that are missing, shared out among the ranks; returns when all ranks have made theirs."""
        for number, group in enumerate(self.groups):
            for view, members in self._passes(group).items():
                names = self._names(number, members)
                whole = [self.spool.is_whole(name) for name in names] if ranks.is_first else []
                mine = share_of(
                    ranks.broadcast_object([at for at, is_whole in enumerate(whole) if not is_whole]), ranks
                )
                at_once = PART_STEPS * self.batch_size
                total = sum(min(at_once, group.num_galaxies - part * at_once) for part in mine)
                if mine:
                    with (
                        self.open_batches(group.shards, view) as batches,
                        PredictionMeter(self.name, total, is_shown=ranks.is_first) as meter,
                    ):
                        self._make(batches, names, mine, members, meter)
        ranks.barrier()

    def blocks(self) -> Iterator[Block]:
        """All predictions, part by part, in the order of the shards within each group.

        Raises:
            RunError: a part is missing or damaged.
        """
        for number, group in enumerate(self.groups):
            passes = list(self._passes(group).values())
            order = np.argsort([member for members in passes for member in members])
            for names in zip(*(self._names(number, members) for members in passes), strict=True):
                yield _block([self.spool.read(name) for name in names], group.members, order.tolist())

    def _make(
        self,
        batches: Batches,
        names: Sequence[str],
        parts: Sequence[int],
        members: Sequence[int],
        meter: PredictionMeter,
    ) -> None:
        """Make some parts of a pass, each run of neighbouring ones from one stream of batches."""
        with_embedding = self.with_embeddings
        predictors = [self.members[each].load(self.device, compiled=not with_embedding) for each in members]
        seers = [Seer(predictor, with_embedding=with_embedding) for predictor in predictors]
        stream: Iterator[Batch] = iter(())
        for before, part in pairwise([-2, *parts]):
            if part != before + 1:
                stream = batches.epoch(0, start=part * PART_STEPS)
            steps = PART_STEPS if part + 1 < len(names) else None  # at its end the loader saves the stamps it kept
            self.spool.write(names[part], predict_part(seers, meter.timed(islice(stream, steps))))

    def _passes(self, group: Group) -> dict[View, tuple[int, ...]]:
        """The members of each view."""
        passes: dict[View, tuple[int, ...]] = {}
        for member in group.members:
            view = self.members[member].run.recipe.view
            passes[view] = (*passes.get(view, ()), member)
        return passes

    def _names(self, group: int, members: Sequence[int]) -> list[str]:
        """The parts of a pass."""
        num_steps = -(-self.groups[group].num_galaxies // self.batch_size)
        prefix = f"{self.name}-{group:03d}-{members[0]:03d}"
        return [f"{prefix}-{step:08d}" for step in range(0, num_steps, PART_STEPS)]


class Seer:
    """A member at work, with its embedding if it is asked for."""

    def __init__(self, predictor: Predictor, *, with_embedding: bool = False) -> None:
        self._predictor = predictor
        self._embedder = Embedder(predictor.network) if with_embedding else None

    def see(self, views: Sequence[Tensor]) -> dict[str, Tensor]:
        """The mean and variance of the votes over the views, shape (batch, answers), and the mean embedding."""
        votes, embeddings = [], []
        for images in views:
            votes.append(self._predictor.predict(images))
            if self._embedder is not None:
                embeddings.append(self._embedder.take())
        variance, mean = torch.var_mean(torch.stack(votes), dim=0, correction=0)
        seen = {"mean": mean, "variance": variance}
        return seen | ({"embedding": torch.stack(embeddings).mean(dim=0)} if embeddings else {})


def predict_part(seers: Sequence[Seer], batches: Iterable[Batch]) -> dict[str, Any]:
    """What some members see in some batches, as a part of the spool: the ids, and what `Seer.see` gives of each.

    Waits for the device only at its end.
    """
    ids: list[str] = []
    seen: list[list[dict[str, Tensor]]] = [[] for _ in seers]
    for batch in batches:
        ids += batch.ids.tolist()
        for parts, seer in zip(seen, seers, strict=True):
            parts.append(seer.see(batch.views))
    members = [{key: torch.cat([part[key] for part in parts]).cpu() for key in parts[0]} for parts in seen]
    return {"ids": ids, "members": members}


def _block(parts: Sequence[dict[str, Any]], members: tuple[int, ...], order: Sequence[int]) -> Block:
    """The parts of all passes over the same galaxies, with the members in their order."""
    seen = [member for part in parts for member in part["members"]]
    seen = [seen[at] for at in order]
    return Block(
        ids=np.array(parts[0]["ids"], dtype=np.str_),
        members=members,
        mean=np.stack([each["mean"].numpy() for each in seen]),
        view_variance=np.stack([each["variance"].numpy() for each in seen]),
        embeddings=tuple(each["embedding"].numpy() for each in seen if "embedding" in each),
    )
