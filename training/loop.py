"""The training loop: members learn from one stream of batches, are scored on the fold held out, and saved.

`train_step` is one step of all members; `Trainer` runs the epochs. build.py builds what they work on.
"""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from galaxy_zoo.errors import RunError
from galaxy_zoo.strict import check_range, parse
from pipeline.loader import Batch, Loader
from training.checkpoint import (
    Position,
    Snapshot,
    checkpoint_path,
    common_positions,
    forget_after,
    load_header,
    load_state,
    positions,
    save_checkpoint,
)
from training.held_out import HeldOut, ScoreHistory
from training.interrupt import Interrupt
from training.logbook import BASELINE, Logbook, epochs_logged
from training.member import Member
from training.meter import EpochSums, Meter
from training.ranks import ALONE, Ranks
from training.run import BEST_NAME, Run
from training.start import as_metrics, described
from training.streams import side_by_side
from training.writer import Writer


@dataclass
class SaveSchedule:
    """When to save within an epoch: this many steps or seconds after the last checkpoint; 0: never."""

    every_steps: int = 0
    every_s: float = 0.0
    _steps: int = 0
    _saved_at: float = field(default_factory=time.monotonic)

    def is_due(self) -> bool:
        """Return whether to save before the next step."""
        by_steps = self.every_steps and self._steps >= self.every_steps
        by_time = self.every_s and time.monotonic() - self._saved_at > self.every_s
        return bool(by_steps or by_time)

    def count_step(self) -> None:
        """Count a step."""
        self._steps += 1

    def restart(self) -> None:
        """Restart the count: everything has just been saved."""
        self._steps, self._saved_at = 0, time.monotonic()


@dataclass(kw_only=True)
class TrackedMember:
    """A member of a run, with its folder, its score history, and its logbook on the rank that writes it."""

    member: Member
    folder: Path
    history: ScoreHistory = field(default_factory=ScoreHistory)
    logbook: Logbook | None = None


@dataclass(frozen=True)
class _SavedSums:
    """Part of `EpochSums` that is saved with a member."""

    samples: int
    loss_sum: float

    def __post_init__(self) -> None:
        """Raise ValueError if a number is out of range."""
        check_range("samples", self.samples, 0, 10**15)
        check_range("loss_sum", self.loss_sum, -1e30, 1e30)


def weight_of(num_here: int, num_samples: int, team: Ranks) -> float:
    """Return the factor for this rank's mean loss that makes the average over ranks the mean over all samples.

    Args:
        num_here: number of samples on this rank.
        num_samples: number of samples on all ranks.
    """
    return num_here * team.world_size / num_samples


def train_step(
    members: Sequence[Member], batch: Batch, meter: Meter, *, num_samples: int, team: Ranks = ALONE
) -> None:
    """Update every member once, each by its own view of the batch.

    Args:
        num_samples: number of samples of the batch on all ranks of the team.

    Raises:
        RunError: a loss is not finite.
    """
    weight = weight_of(len(batch.ids), num_samples, team)
    steps = [
        partial(member.step, images, batch.votes, weight=weight)
        for member, images in zip(members, batch.views, strict=True)
    ]
    with meter.step():
        # ranks that share batches exchange gradients within a step, all in the same order
        losses = side_by_side(steps, batch.votes.device) if team.world_size == 1 else [step() for step in steps]
    meter.add(batch.ids, losses)


@dataclass(kw_only=True)
class Trainer:
    """Trains this rank's members of a run, from the first epoch or a checkpoint to the last epoch.

    team: ranks that train them together; the first of them writes.
    """

    run: Run
    tracked: Sequence[TrackedMember]
    batches: Loader
    held_out: HeldOut | None
    meter: Meter
    interrupt: Interrupt
    schedule: SaveSchedule
    team: Ranks = ALONE
    writer: Writer = field(default_factory=Writer)

    @property
    def members(self) -> list[Member]:
        """Members, in the order of the views of a batch."""
        return [each.member for each in self.tracked]

    def train(self, start: Position, sums: EpochSums) -> bool:
        """Train from `start` to the end; return False if interrupted, with a checkpoint of that step.

        Args:
            sums: sums over the epoch of `start` up to that step.
        """
        epochs = self.run.recipe.training.epochs
        with self.writer:
            for epoch in range(start.epoch, epochs):
                if all(member.stopped for member in self.members):
                    break
                step, before = (start.step, sums) if epoch == start.epoch else (0, EpochSums())
                num_training = sum(not member.stopped for member in self.members)
                label = f"epoch {epoch + 1}/{epochs}"
                self.meter.begin_epoch(label, step=step, sums=before, num_training=num_training)
                if not self._train_epoch(epoch, self.batches.epoch(epoch, seen=before.samples)):
                    return False
                self.finish_epoch(epoch)
        return True

    def _train_epoch(self, epoch: int, batches: Iterable[Batch]) -> bool:
        """Train on the batches, saving when it is due; save and return False if a rank is asked to stop."""
        for batch in self.meter.timed(batches):
            self.writer.check()
            num_samples, stop, save = self.team.sum_numbers(
                len(batch.ids), self.interrupt.requested, self.schedule.is_due()
            )
            if stop or save:
                self.save(epoch)
            if stop:
                return False
            train_step(self.members, batch, self.meter, num_samples=num_samples, team=self.team)
            self.schedule.count_step()
        return True

    def finish_epoch(self, epoch: int) -> None:
        """Score the members on the fold, write logs, and begin to write checkpoints.

        Raises:
            RunError: a loss or a prediction is not finite.
            OSError: the checkpoints before these could not be written.
        """
        stopped = [member.stopped for member in self.members]
        losses, speed, start = self.meter.mean_losses(), self.meter.speed(), self.meter.start.take()
        scores = self.held_out.score(self.members) if self.held_out else [{} for _ in losses]
        self.writer.finish()  # so the logs are never more than one epoch ahead of the checkpoints
        best = dict[Path, Snapshot]()
        for each, loss, found in zip(self.tracked, losses, scores, strict=True):
            if not each.member.stopped:
                measured = {"loss": loss, "learning_rate": each.member.learning_rate, **speed, **as_metrics(start)}
                if self._finish_member(each, epoch, measured, found):
                    state = {"weights": each.member.weights(), "epoch": epoch, "run": self.run.identity}
                    best[each.folder / BEST_NAME] = Snapshot.of(state)
        self._save(Position(epoch + 1, 0), EpochSums(0, (0.0,) * len(losses)), best)
        if self.team.is_first:
            score = ""
            if self.held_out:
                baseline = self.held_out.baseline_rmse
                score = f", RMSE {_list(each['rmse'] for each in scores)} (mean votes: {baseline:.5f})"
                if self.run.recipe.training.select == "accuracy":
                    score += f", accuracy {_list(each['accuracy'] for each in scores)}"
            told = " ".join(
                "stopped" if done else f"{loss:.5f}" for done, loss in zip(stopped, losses, strict=True)
            )
            self.meter.write(f"epoch {epoch + 1}: loss {told}{score}, {self.meter}")
            if start:
                self.meter.write(described(start))

    def _finish_member(
        self, each: TrackedMember, epoch: int, measured: dict[str, float], scores: dict[str, float]
    ) -> bool:
        """Write a member's log, and stop it if its score has risen too often; return whether to save it as its best."""
        training = self.run.recipe.training
        score = scores.get(training.select, math.nan)
        is_best = each.history.add(-score if training.select == "accuracy" else score)
        each.member.stopped = bool(training.patience) and each.history.rises >= training.patience
        if each.logbook is None:
            return False
        baseline = {BASELINE: self.held_out.baseline_rmse} if self.held_out else {}
        each.logbook.add(epoch, measured | scores | baseline)
        return is_best

    def save(self, epoch: int) -> None:
        """Begin to write a checkpoint of every member at the next step of `epoch`.

        Raises:
            RunError: a loss is not finite, so the weights are useless.
            OSError: the checkpoints before these could not be written.
        """
        steps = max(member.steps for member in self.members)  # members that stopped early made fewer
        self._save(Position(epoch, steps - epoch * len(self.batches)), self.meter.sums(), {})

    def _save(self, position: Position, sums: EpochSums, best: Mapping[Path, Snapshot]) -> None:
        """Copy the state of every member; write the best weights and then the checkpoints while training goes on."""
        self.schedule.restart()
        if not self.team.is_first:
            return
        states = dict[Path, Snapshot]()
        for each, loss_sum in zip(self.tracked, sums.loss_sums, strict=True):
            state = {
                "member": each.member.state(),
                "standing": asdict(each.history),
                "run": self.run.identity,
                "samples": sums.samples,
                "loss_sum": loss_sum,
            }
            states[each.folder] = Snapshot.of(state)

        def write() -> None:
            for path, weights in best.items():
                weights.write(path)
            for folder, whole in states.items():
                save_checkpoint(folder, position, whole)

        self.writer.start(write)

    def resume(self) -> tuple[Position, EpochSums]:
        """Load the newest whole checkpoints that all members have.

        Returns:
            The step to resume at, and the sums over its epoch before that step, from any number of ranks.

        Raises:
            RunError: the folder was trained in but has no usable checkpoint, the checkpoints are of another run, or the
                training is over and best weights are lost.
        """
        folders = [each.folder for each in self.tracked]
        common = common_positions(folders)
        for position in reversed(common):
            try:
                sums = self._load(position)
            except RunError as error:
                self.meter.write(f"warning: {error}; trying the checkpoints before")
                continue
            self._forget_after(position)
            if position.epoch:
                self._check_best(position)
            return position, sums
        if common or any(len(positions(folder)) > 1 or epochs_logged(folder) > 1 for folder in folders):
            raise RunError(
                f"{self.run.folder}: no whole checkpoint that all members have, so it cannot go on; "
                "restore member-*/last-*.safetensors, or train again with another --out"
            )
        self._forget_after(Position(0, 0))  # killed before all members were saved for the first time
        return Position(0, 0), EpochSums()

    def _check_best(self, position: Position) -> None:
        """Check that the best weights of every member are there; take the best of later epochs for those lost."""
        for each in self.tracked:
            path = each.folder / BEST_NAME
            try:
                load_header(path)
            except RunError as error:
                lost = f"{path}: the best weights are missing or damaged"
                if position.epoch >= self.run.recipe.training.epochs or each.member.stopped:
                    raise RunError(f"{lost}; restore the file, or train again with another --out") from error
                self.meter.write(f"warning: {lost}; the best of the epochs to come will take their place")
                each.history = ScoreHistory()

    def _forget_after(self, position: Position) -> None:
        self.team.barrier()  # wait until all ranks have read, then the first removes
        if self.team.is_first:
            for each in self.tracked:
                forget_after(each.folder, position)

    def _load(self, position: Position) -> EpochSums:
        paths = [checkpoint_path(each.folder, position) for each in self.tracked]
        states, sums = [load_state(path) for path in paths], list[_SavedSums]()
        for each, path, state in zip(self.tracked, paths, states, strict=True):
            try:
                each.member.load_state(state["member"])
                each.history = parse(ScoreHistory, state["standing"], "the scores")
                sums.append(parse(_SavedSums, {key: state[key] for key in ("samples", "loss_sum")}, "the sums"))
            except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
                reason = str(error).partition("\n")[0]
                raise RunError(f"{path}: not a checkpoint of this member ({reason})") from error
            samples = sums[-1].samples
            if (
                samples != sums[0].samples
                or bool(samples) != bool(position.step)
                or samples >= self.batches.num_samples
            ):
                raise RunError(f"{path}: not a checkpoint of this step (after {samples} samples of its epoch)")
        return EpochSums(sums[0].samples, tuple(each.loss_sum for each in sums))


def _list(values: Iterable[float]) -> str:
    return " ".join(f"{value:.5f}" for value in values)
