"""The argument and options of train.py. Imports neither torch nor DALI."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ensemble.recipe_files import Tables
from galaxy_zoo.remote import AnyPath
from pipeline.options import LoadingRequest

MOST_MEMBERS = 99
Parallel = Literal["members", "data"]


@dataclass(frozen=True, kw_only=True)
class TrainingRequest(LoadingRequest):
    """The argument and options of train.py; the recipe decides those of `out` and `fold` that are None.

    settings: from --set and --epochs.
    """

    shards: AnyPath
    recipe: str
    settings: Tables
    members: int
    out: Path | None
    fold: str | None
    seed: int
    resume: bool
    init_from: Path | None
    no_pretrained: bool
    weights: Path | None
    parallel: Parallel
    stick_to_shard: bool
    save_steps: int
    save_minutes: float
