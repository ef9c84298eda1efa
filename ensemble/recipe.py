"""A recipe: everything that defines a system except its data and its seed, read strictly from one TOML file."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from ensemble.heads import HEADS, Dirichlet, Head
from ensemble.losses import LOSSES, DirichletMultinomial, Loss
from ensemble.networks import NETWORKS, Network
from ensemble.optimisers import SCHEDULES, Optimiser, Schedule
from ensemble.recipe_files import Tables, merged, read_recipe_file
from galaxy_zoo.errors import RecipeError
from galaxy_zoo.fold import Fold
from galaxy_zoo.strict import check_range, parse, parse_kind, suggestion_or_list
from galaxy_zoo.view import Triple, View

Precision = Literal["auto", "bf16", "float32"]


@dataclass(frozen=True, kw_only=True)
class Training:
    """How long to train, in which batches, and which weights to keep.

    epochs: number of passes over the training samples.
    batch_size: samples per step over all ranks.
    fold: the fold held out, "k/K" or "none"; of a set of fewer than K shards, a fold of as many as there are.
    select: the score on the fold that picks the best epoch.
    patience: stop once that score has become worse this many times in a row; 0: never stop.
    trials: train this many trials for one epoch, then continue from the weights of the best with a new optimiser;
        not with --init-from.
    ema_decay: decay of the running average of the weights, which is used for scores and predictions; it warms up
        from 0. 0: no average.
    gradient_clip: largest norm of the gradients; 0: no limit.
    precision: precision of the network; "auto" is bf16 on a GPU and float32 on a CPU; "bf16" is float32 too on
        CPUs without instructions for it. Heads and losses are always float32.
    balance: a question of the tree; galaxies with a rare main answer to it come more often in an epoch. Empty: each
        galaxy comes once.
    balance_strength: from 0 (all galaxies equally often) to 1 (all answers equally often).
    """

    epochs: int
    batch_size: int
    fold: str = "0/10"
    select: Literal["rmse", "accuracy"] = "rmse"
    patience: int = 0
    trials: int = 1
    ema_decay: float = 0.0
    gradient_clip: float = 0.0
    precision: Precision = "auto"
    balance: str = ""
    balance_strength: float = 1.0

    def __post_init__(self) -> None:
        """Raise ValueError if a value is out of range."""
        check_range("epochs", self.epochs, 1, 1_000_000)
        check_range("batch_size", self.batch_size, 1, 65_536)
        check_range("trials", self.trials, 1, 1_000)
        check_range("patience", self.patience, 0, 1_000_000)
        if Fold.named(self.fold) is None and (self.patience or self.trials > 1):
            raise ValueError("patience and trials need a fold")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be in [0, 1), not {self.ema_decay}")
        check_range("gradient_clip", self.gradient_clip, 0, 1e6)
        check_range("balance_strength", self.balance_strength, 0, 1)


@dataclass(frozen=True)
class About:
    """The source of a recipe, the score published with it, and the tree of the data it was published on.

    source: the publication or project that describes the system.
    published: its published score, in words, with the data it was measured on. Empty: none was published.
    tree: name of the decision tree of these data.
    """

    source: str
    published: str = ""
    tree: str = "gz2-kaggle"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A system to train; `table` is the data it was read from."""

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

    def with_statistics(self, mean: Triple, std: Triple) -> "Recipe":
        """Return the recipe with the measured mean and std of red, green, blue filled in if it asks for them."""
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
        RecipeError: a key is unknown, missing or of the wrong type, or a value is not allowed.
    """
    for key in table:
        if key not in TABLES:
            raise RecipeError(f"{where}: unknown table [{key}]{suggestion_or_list(key, TABLES)}")
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
    """Check that the network takes as many turns as the view has.

    Raises:
        RecipeError: the numbers differ.
    """
    shown, wanted = len(recipe.view.turns_deg), recipe.network.num_turns
    if shown != wanted:
        kind = recipe.table["network"]["kind"]
        raise RecipeError(
            f"{where}: [view] turns_deg shows {shown} of a view, network {kind!r} looks at {wanted}; "
            f"give {wanted} angle{'s' if wanted > 1 else ''} in turns_deg, or choose another network"
        )


def load_recipe(name_or_path: str, settings: Tables = MappingProxyType({})) -> Recipe:
    """Load a recipe by its name, or a user's own by the path of its TOML file; `settings` replace or add keys.

    Raises:
        RecipeError: there is no such recipe (the message names the nearest one), or the file with the settings is
            not a recipe.
    """
    table = merged(read_recipe_file(name_or_path), settings)
    return recipe_from_table(table, Path(name_or_path).stem, where=f"recipe {name_or_path}")
