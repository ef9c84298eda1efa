"""A recipe: everything that defines a system but its data and its seed. One TOML file, read strictly."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ensemble.heads import HEADS, Dirichlet, Head
from ensemble.losses import LOSSES, DirichletMultinomial, Loss
from ensemble.networks import NETWORKS, Network
from ensemble.optimisers import SCHEDULES, Optimiser, Schedule
from ensemble.recipe_files import read_recipe_file
from galaxy_zoo.errors import RecipeError
from galaxy_zoo.fold import Fold
from galaxy_zoo.strict import nearest, parse, parse_kind
from galaxy_zoo.view import Triple, View


@dataclass(frozen=True, kw_only=True)
class Training:
    """How long, on what batches, and what is kept.

    batch_size: samples a step over all ranks. fold: the one held out, "k/K" or "none". select: the score on it
    that decides which epoch is the best. patience: training stops after this many rises in a row of that score;
    0 never stops. trials: initial weights are those of the best of this many trials of one epoch. ema_decay: of
    the running average of the weights that is scored and predicted with, warmed up from 0; 0 switches it off.
    gradient_clip: largest norm of the gradients; 0 is none. precision: of the network, "auto" is bf16 on a GPU and
    float32 on a CPU; bf16 is faster on CPUs that have instructions for it. Heads and losses are always float32.
    balance: a question of the tree: galaxies whose answer with the most votes is a rare one come more often in an
    epoch; empty: all once. balance_strength: from 0 (all galaxies equally often) to 1 (all answers equally often).
    """

    epochs: int
    batch_size: int
    fold: str = "0/10"
    select: Literal["rmse", "accuracy"] = "rmse"
    patience: int = 0
    trials: int = 1
    ema_decay: float = 0.0
    gradient_clip: float = 0.0
    precision: Literal["auto", "bf16", "float32"] = "auto"
    balance: str = ""
    balance_strength: float = 1.0

    def __post_init__(self) -> None:
        """Raise ValueError where a value makes no training."""
        if self.epochs < 1 or self.batch_size < 1 or self.trials < 1:
            raise ValueError("epochs, batch_size and trials must be at least 1")
        if self.patience < 0:
            raise ValueError(f"patience must be 0 or above, not {self.patience}")
        if Fold.named(self.fold) is None and (self.patience or self.trials > 1):
            raise ValueError("patience and trials need a fold")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be in [0, 1), not {self.ema_decay}")
        if not self.gradient_clip >= 0:
            raise ValueError(f"gradient_clip must be 0 or above, not {self.gradient_clip}")
        if not 0 <= self.balance_strength <= 1:
            raise ValueError(f"balance_strength must be in [0, 1], not {self.balance_strength}")


@dataclass(frozen=True)
class About:
    """Where a recipe comes from, the score published with it, and the tree of the data it was published on."""

    source: str
    published: str = ""
    tree: str = "gz2-kaggle"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A system to train; `table` is what it was read from."""

    name: str
    about: About
    view: View
    network: Network
    head: Head
    loss: Loss
    optimiser: Optimiser
    schedule: Schedule
    training: Training
    table: Mapping[str, Any]

    def with_epochs(self, epochs: int) -> "Recipe":
        """The same recipe for another number of epochs."""
        table = {**self.table, "training": {**self.table["training"], "epochs": epochs}}
        return recipe_from_table(table, self.name, where=self.name)

    def with_statistics(self, mean: Triple, std: Triple) -> "Recipe":
        """The same recipe, normalised by the measured mean and std of red, green, blue where it asks for them."""
        view = self.view.with_statistics(mean, std)
        if view == self.view:
            return self
        filled_in = {"normalisation": "given", "mean": list(view.mean), "std": list(view.std)}
        table = {**self.table, "view": {**self.table["view"], **filled_in}}
        return recipe_from_table(table, self.name, where=self.name)


TABLES = [field.name for field in dataclasses.fields(Recipe) if field.name not in {"name", "table"}]


def recipe_from_table(table: Mapping[str, Any], name: str, *, where: str) -> Recipe:
    """Build a recipe from the data of its TOML file; `where` names it in errors.

    Raises:
        RecipeError: a key is unknown, missing or of the wrong type, or a value makes no sense.
    """
    for key in table:
        if key not in TABLES:
            raise RecipeError(f"{where}: unknown table [{key}]{nearest(key, TABLES)}")
    for key in TABLES:
        if key not in table:
            raise RecipeError(f"{where}: table [{key}] is missing")
    at = {key: f"{where}: [{key}]" for key in TABLES}
    try:
        recipe = Recipe(
            name=name,
            about=parse(About, table["about"], at["about"]),
            view=parse(View, table["view"], at["view"]),
            network=parse_kind(NETWORKS, table["network"], at["network"]),
            head=parse_kind(HEADS, table["head"], at["head"]),
            loss=parse_kind(LOSSES, table["loss"], at["loss"]),
            optimiser=parse(Optimiser, table["optimiser"], at["optimiser"]),
            schedule=parse_kind(SCHEDULES, table["schedule"], at["schedule"]),
            training=parse(Training, table["training"], at["training"]),
            table=table,
        )
    except ValueError as error:
        raise RecipeError(str(error)) from error
    if isinstance(recipe.head, Dirichlet) != isinstance(recipe.loss, DirichletMultinomial):
        raise RecipeError(f"{where}: head 'dirichlet' and loss 'dirichlet_multinomial' need each other")
    _check_turns(recipe, where)
    return recipe


def _check_turns(recipe: Recipe, where: str) -> None:
    """Refuse a network that does not take what the view shows it."""
    shown, wanted = len(recipe.view.turns_deg), recipe.network.num_turns
    if shown != wanted:
        kind = recipe.table["network"]["kind"]
        raise RecipeError(
            f"{where}: [view] turns_deg shows {shown} of a view, network {kind!r} looks at {wanted}; "
            f"give {wanted} angle{'s' if wanted > 1 else ''} in turns_deg, or choose another network"
        )


def load_recipe(name_or_path: str) -> Recipe:
    """Load a recipe that comes with the project by its name, or a user's own by the path of its TOML file.

    Raises:
        RecipeError: there is no such recipe (names the nearest one), or it is not a recipe.
    """
    table = read_recipe_file(name_or_path)
    return recipe_from_table(table, Path(name_or_path).stem, where=f"recipe {name_or_path}")
