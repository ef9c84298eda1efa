"""Initial weights chosen by their score after one epoch: [training] trials."""

from collections.abc import Callable
from operator import itemgetter

from torch import Tensor

from galaxy_zoo.errors import RunError
from pipeline.loader import Loader
from training.held_out import HeldOut
from training.interrupt import Interrupt
from training.loop import train_step
from training.member import Member
from training.meter import Meter


def best_trials(
    build: Callable[..., list[Member]],
    num_trials: int,
    *,
    batches: Loader,
    held_out: HeldOut | None,
    meter: Meter,
    is_first: bool,
) -> list[dict[str, Tensor]] | None:
    """Train all trials for one epoch; return each member's weights from its best trial, None if interrupted.

    Raises:
        RunError: there is no fold to score on.
    """
    if held_out is None:
        raise RunError("the recipe chooses initial weights by their score, which needs a fold: --fold k/K")
    best: list[tuple[float, dict[str, Tensor]]] = []
    with Interrupt("finishing this step, then stopping ..." if is_first else "") as interrupt:
        for trial in range(num_trials):
            members = build(trial=trial)
            meter.begin_epoch(f"trial {trial + 1}/{num_trials}")
            for batch in meter.timed(batches.epoch(0)):
                num_samples, stop = held_out.team.sum_numbers(len(batch.ids), interrupt.requested)
                if stop:
                    return None
                train_step(members, batch, meter, num_samples=num_samples, team=held_out.team)
            found = zip((each["rmse"] for each in held_out.score(members)), members, strict=True)
            trained = [(rmse, member.weights()) for rmse, member in found]
            best = [min(pair, key=itemgetter(0)) for pair in zip(best or trained, trained, strict=True)]
    return [weights for _, weights in best]
