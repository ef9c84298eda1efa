"""The goals for one H100 or H200 with 16 cores, judged by the results of `benchmarks.gpu`."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

KAGGLE_TRAIN, KAGGLE_TEST = 61_578, 79_975
BUSY, MEMBERS_BUSY = ("ng_cnn", "ng_resnet50", "fast", "best", "dieleman"), ("quick", "small_data x 4")

Values = Mapping[str, float]


@dataclass(frozen=True)
class Goal:
    """A goal: a value, from the results by name, that has to be at least or at most some number."""

    name: str
    wanted: float
    unit: str
    value: Callable[[Values], float]
    is_most: bool = False

    def verdict(self, values: Values) -> str:
        """Return a line that says whether it is met; not measured if a result is missing."""
        wanted = f"{'at most' if self.is_most else 'at least'} {self.wanted:,g} {self.unit}"
        try:
            value = self.value(values)
        except KeyError:
            return f"  not measured  {self.name}: {wanted}"
        is_met = value <= self.wanted if self.is_most else value >= self.wanted
        return f"  {'met' if is_met else 'missed':<12}  {self.name}: {value:,.4g} {self.unit}, {wanted}"


def busy(recipe: str, wanted: float) -> Goal:
    """Return the goal for the share of the time that the device works in a training."""
    what = f"{recipe}: device busy from the second epoch on"
    return Goal(what, wanted, "%", lambda values: values[f"{recipe}: device busy"])


def predicting_s(values: Values, what: str) -> float:
    """Return the seconds that Kaggle's test galaxies take, compiling included. what: a result of the part `predict`."""
    compiling_s = values[f"{what}: first epoch"] - values["predicted"] / values[what]
    return compiling_s + KAGGLE_TEST / values[what]


GOALS = (
    *(busy(name, 97) for name in BUSY),
    *(busy(name, 90) for name in MEMBERS_BUSY),
    Goal("ng_resnet50: steps", 5_700, "images/s", lambda values: values["ng_resnet50: steps"]),
    Goal("quick: steps", 60_000, "images/s", lambda values: values["quick: steps"]),
    Goal(
        "small_data: four members beside one, images/s",
        2,
        "times",
        lambda values: values["small_data x 4: steps"] / values["small_data: steps"],
    ),
    Goal(
        "ng_cnn: train.py beside a fixed batch",
        98,
        "%",
        lambda values: 100 * values["ng_cnn: train.py"] / values["ng_cnn: steps"],
    ),
    Goal(
        "ng_cnn: 240 epochs of Kaggle's training galaxies, by calculation",
        25,
        "minutes",
        lambda values: 240 * KAGGLE_TRAIN / values["ng_cnn: train.py"] / 60,
        is_most=True,
    ),
    Goal(
        "ng_cnn: predict.py, 16 views of Kaggle's test galaxies, by calculation",
        35,
        "s",
        lambda values: (
            values["predict.py: in all"]
            - values["predicted"] / values["ng_cnn, 16 views"]  # too few to compile for
            + predicting_s(values, "ng_cnn, 16 views, compiled")
        ),
        is_most=True,
    ),
    Goal(
        "ng_resnet50: 16 views of Kaggle's test galaxies, by calculation",
        120,
        "s",
        lambda values: predicting_s(values, "ng_resnet50, 16 views, compiled"),
        is_most=True,
    ),
    Goal("four views of each streamed galaxy", 80_000, "views/s", lambda values: values["four views, streamed"]),
    Goal(
        "train.py, second start: first step",
        15,
        "s",
        lambda values: values["train.py, second start: first step"],
        is_most=True,
    ),
)


def verdicts(values: Values) -> Iterator[str]:
    """Yield a line for each goal. values: results by name."""
    return (goal.verdict(values) for goal in GOALS)
