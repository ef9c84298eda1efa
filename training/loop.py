"""The training loop: members learn from one stream of batches, are scored on the fold held out, and saved.

`train_epoch` is the loop; `Training` is what happens around it. Options and loaders are `train.py`'s.
"""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from galaxy_zoo.errors import RunError
from galaxy_zoo.tree import DecisionTree
from galaxy_zoo.votes import Floats
from pipeline.loader import Batch, Loader
from training.checkpoint import (
    Position,
    checkpoint_path,
    common_positions,
    forget_after,
    load_state,
    positions,
    save_checkpoint,
    save_state,
)
from training.interrupt import Interrupt
from training.logbook import Logbook, epochs_logged
from training.member import Member
from training.meter import Meter, Tally
from training.ranks import ALONE, Ranks
from training.run import BEST_NAME, Run
from training.scores import scores


@dataclass
class Pauses:
    """When to save, and when to stop.

    every_steps, every_s: a checkpoint so many steps or seconds after the last one; 0: only after every epoch.
    """

    interrupt: Interrupt = field(default_factory=Interrupt)
    every_steps: int = 0
    every_s: float = 0.0
    save: Callable[[], None] = lambda: None
    _steps: int = 0
    _saved_at: float = field(default_factory=time.monotonic)

    def due(self) -> bool:
        """Whether to save before the next step."""
        by_steps = self.every_steps and self._steps >= self.every_steps
        by_time = self.every_s and time.monotonic() - self._saved_at > self.every_s
        return bool(by_steps or by_time)

    def count_step(self) -> None:
        """Note that a step was made."""
        self._steps += 1

    def note_saved(self) -> None:
        """Note that all is saved."""
        self._steps, self._saved_at = 0, time.monotonic()


def train_epoch(
    members: list[Member], batches: Iterable[Batch], meter: Meter, pauses: Pauses, ranks: Ranks = ALONE
) -> bool:
    """One pass over the batches; true if it came to the end, false if it was asked to stop before."""
    for batch in meter.watch(batches):
        samples, stop, save = ranks.total(len(batch.ids), pauses.interrupt.requested, pauses.due())
        if stop:
            return False
        if save:
            pauses.save()
        weight = ranks.weight(len(batch.ids), samples)
        pairs = zip(members, batch.views, strict=True)
        losses = [member.step(images, batch.votes, weight=weight) for member, images in pairs]
        meter.add(batch.ids, losses)
        pauses.count_step()
    return True


@dataclass
class Held:
    """The fold held out: its plain views, and the score of the training mean votes on it.

    batches: None where none of it is this rank's.
    """

    batches: Loader | None
    tree: DecisionTree
    baseline_rmse: float
    ranks: Ranks = ALONE

    def score(self, members: list[Member]) -> list[dict[str, float]]:
        """The scores of each member.

        Raises:
            RunError: a prediction is no number.
        """
        predicted, votes = self.predict(members)
        if not np.isfinite(predicted).all():
            raise RunError("the predictions of a member are not numbers; train anew with a lower learning rate")
        return [scores(each, votes, self.tree) for each in predicted]

    def predict(self, members: list[Member]) -> tuple[Floats, Floats]:
        """Predicted votes, shape (members, samples, answers), and the true ones, (samples, answers)."""
        for member in members:
            member.share()
        parts = []
        for batch in self.batches.epoch(0) if self.batches is not None else ():
            if not len(batch.ids):  # of a batch that is other ranks' alone
                continue
            predicted = [member.predict(batch.views[0]).cpu().numpy() for member in members]
            parts.append((np.stack(predicted), batch.votes.cpu().numpy()))
        everyone = [part for rank in self.ranks.gather(parts) for part in rank]
        return np.concatenate([p for p, _ in everyone], axis=1), np.concatenate([v for _, v in everyone])


@dataclass
class Standing:
    """How a member stands, by the score to be lowered on the fold. rises: in a row."""

    best: float = math.inf
    last: float = math.inf
    rises: int = 0

    def add(self, score: float) -> bool:
        """Take in the score of an epoch; whether it is the best so far. NaN, where there is no fold, is."""
        self.rises = self.rises + 1 if score > self.last else 0
        self.last = score
        if score >= self.best:
            return False
        self.best = min(self.best, score)  # where the score is NaN, min keeps its first argument
        return True


@dataclass
class Training:
    """Everything a training holds. numbers: of its members in the run; books: of those it writes."""

    run: Run
    numbers: list[int]
    members: list[Member]
    batches: Loader
    held: Held | None
    meter: Meter
    pauses: Pauses
    ranks: Ranks = ALONE
    books: list[Logbook] = field(default_factory=list)
    standings: list[Standing] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.standings = [Standing() for _ in self.members]
        self.pauses.save = self.save
        self._epoch = 0

    def loop(self, start: Position, tally: Tally) -> bool:
        """Train from `start` to the end; false if interrupted, with a checkpoint of that step.

        Args:
            tally: of the epoch of `start`, so far.
        """
        epochs = self.run.recipe.training.epochs
        for self._epoch in range(start.epoch, epochs):
            if all(member.stopped for member in self.members):
                break
            step, before = (start.step, tally) if self._epoch == start.epoch else (0, Tally())
            self.meter.begin_epoch(f"epoch {self._epoch + 1}/{epochs}", step=step, tally=before)
            batches = self.batches.epoch(self._epoch, seen=before.samples)
            if not train_epoch(self.members, batches, self.meter, self.pauses, self.ranks):
                self.save()
                return False
            self.finish_epoch()
        return True

    def finish_epoch(self) -> None:
        """Score the members on the fold, write logs and checkpoints.

        Raises:
            RunError: a loss is not a number.
        """
        losses, speed = self.meter.mean_losses(), self.meter.speed()
        found = self.held.score(self.members) if self.held else [{} for _ in losses]
        for index, (member, loss) in enumerate(zip(self.members, losses, strict=True)):
            if not member.stopped:
                self._finish_member(
                    index, {"loss": loss, "learning_rate": member.learning_rate, **speed}, found[index]
                )
        self._save(Position(self._epoch + 1, 0), Tally(0, (0.0,) * len(losses)))
        score = ""
        if self.held:
            score = f", RMSE {_list(each['rmse'] for each in found)} (mean votes: {self.held.baseline_rmse:.5f})"
        if self.ranks.writes:
            self.meter.write(f"epoch {self._epoch + 1}: loss {_list(losses)}{score}, {self.meter}")

    def _finish_member(self, index: int, metrics: dict[str, float], found: dict[str, float]) -> None:
        training, member, standing = self.run.recipe.training, self.members[index], self.standings[index]
        to_lower = (
            -found.get("accuracy", math.nan) if training.select == "accuracy" else found.get("rmse", math.nan)
        )
        is_best = standing.add(to_lower)
        member.stopped = bool(training.patience) and standing.rises >= training.patience
        if not self.ranks.writes:
            return
        baseline = {"baseline_rmse": self.held.baseline_rmse} if self.held else {}
        self.books[index].add(self._epoch, metrics | found | baseline)
        if is_best:
            path = self.run.member_folder(self.numbers[index]) / BEST_NAME
            save_state(path, {"weights": member.weights(), "epoch": self._epoch})

    def save(self) -> None:
        """Write a checkpoint of every member at the step that comes next.

        Raises:
            RunError: a loss is not a number: what would be saved is spoilt.
        """
        steps = max(member.steps for member in self.members)  # those that stopped early made fewer
        self._save(Position(self._epoch, steps - self._epoch * len(self.batches)), self.meter.tally())

    def _save(self, position: Position, tally: Tally) -> None:
        self.pauses.note_saved()
        if not self.ranks.writes:
            return
        for number, member, standing, loss_sum in zip(
            self.numbers, self.members, self.standings, tally.loss_sums, strict=True
        ):
            state = {
                "member": member.state(),
                "standing": asdict(standing),
                "samples": tally.samples,
                "loss_sum": loss_sum,
            }
            save_checkpoint(self.run.member_folder(number), position, state)

    def resume(self) -> tuple[Position, Tally]:
        """Take over the newest whole checkpoints that all members have.

        Returns:
            Where to go on, and what was counted of that epoch so far, by however many ranks.

        Raises:
            RunError: there are traces of a training, but no checkpoints to go on from.
        """
        folders = [self.run.member_folder(number) for number in self.numbers]
        common = common_positions(folders)
        for position in reversed(common):
            try:
                tally = self._load(position)
            except RunError as error:
                self.meter.write(f"warning: {error}; trying the checkpoints before")
                continue
            self._forget_after(folders, position)
            return position, tally
        if common or any(len(positions(folder)) > 1 or epochs_logged(folder) > 1 for folder in folders):
            raise RunError(
                f"{self.run.folder}: no whole checkpoint that all members have, so it cannot go on; "
                "restore member-*/last-*.safetensors, or train anew with another --out"
            )
        self._forget_after(folders, Position(0, 0))  # killed before all members were saved for the first time
        return Position(0, 0), Tally()

    def _forget_after(self, folders: Sequence[Path], position: Position) -> None:
        if self.ranks.shares_data:
            self.ranks.wait()  # all have read before the first removes
        for folder in folders if self.ranks.writes else ():
            forget_after(folder, position)

    def _load(self, position: Position) -> Tally:
        paths = [checkpoint_path(self.run.member_folder(number), position) for number in self.numbers]
        states = [load_state(path) for path in paths]
        for index, (path, state) in enumerate(zip(paths, states, strict=True)):
            try:
                self.members[index].load_state(state["member"])
                self.standings[index] = Standing(**state["standing"])
            except (KeyError, TypeError, ValueError, RuntimeError) as error:
                reason = str(error).partition("\n")[0]
                raise RunError(f"{path}: not a checkpoint of this member ({reason})") from error
        return Tally(states[0]["samples"], tuple(float(state["loss_sum"]) for state in states))


def _list(values: Iterable[float]) -> str:
    return " ".join(f"{value:.5f}" for value in values)
