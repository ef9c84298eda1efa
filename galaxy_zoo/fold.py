"""Folds: the shards that are held out to score on."""

from collections.abc import Sequence
from dataclasses import dataclass

from galaxy_zoo.errors import ShardError
from galaxy_zoo.manifest import Shard

MOST_FOLDS = 9_999


@dataclass(frozen=True)
class Fold:
    """Fold `index` of `count`: every `count`-th shard of a split, from number `index` on, is held out.

    Samples were shuffled when packed, so a set of shards is a random sample.
    """

    index: int
    count: int

    @classmethod
    def named(cls, name: str) -> "Fold | None":
        """Return the fold called "k/K", or None for "none".

        Raises:
            ValueError: `name` is neither.
        """
        if name == "none":
            return None
        index, _, count = name.partition("/")
        if not (index.isdecimal() and _is_count(count) and len(index) <= len(count) and int(index) < int(count)):
            raise ValueError(f"{name[:40]!r} is neither 'none' nor k/K with 0 <= k < K <= {MOST_FOLDS}")
        return cls(int(index), int(count))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def fitted(self, num_shards: int) -> "Fold":
        """Return this fold, or one of as many folds as there are shards where there are fewer, but at least two."""
        if not 2 <= num_shards < self.count:
            return self
        return Fold(self.index % num_shards, num_shards)

    def split(self, shards: Sequence[Shard]) -> tuple[list[Shard], list[Shard]]:
        """Return the shards to train on and the shards held out.

        Raises:
            ShardError: there are fewer shards than folds, so a fold would be empty.
        """
        if len(shards) < self.count:
            fewer = f"ask for at most {len(shards)} folds" if len(shards) > 1 else "train with --fold none"
            raise ShardError(
                f"{self.count} folds of {len(shards)} shards: a fold is a set of shards; {fewer}, "
                f"or pack with --shards {self.count} or more"
            )
        kept = [shard for number, shard in enumerate(shards) if number % self.count != self.index]
        return kept, list(shards[self.index :: self.count])


def _is_count(text: str) -> bool:
    return text.isdecimal() and len(text) <= len(str(MOST_FOLDS)) and int(text) >= 2


def folds_named(name: str) -> dict[str, Fold | None]:
    """Return the names of the folds that "k/K", "none" or "all/K" stands for; each is one run.

    Raises:
        ValueError: `name` is none of these.
    """
    which, _, count = name.partition("/")
    if which == "all" and _is_count(count):
        return {str(fold): fold for fold in (Fold(index, int(count)) for index in range(int(count)))}
    try:
        return {name: Fold.named(name)}
    except ValueError as error:
        raise ValueError(f"{error} nor all/K") from error
