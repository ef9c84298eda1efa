"""How many galaxies are predicted at once: as many as a GPU has memory for, fewer where memory runs out."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import click
import torch

from ensemble.model import Predictor, build_network
from ensemble.recipe import Recipe
from galaxy_zoo.manifest import Manifest
from galaxy_zoo.tree import DecisionTree
from pipeline.loader import Batch
from pipeline.memory import free_bytes
from pipeline.options import LARGEST_BATCH

T = TypeVar("T")

BATCH_ON_CPU = 128
SMALLEST, LARGEST = 16, 1024
"""Bounds on a GPU. On an H200 the warp kernel is no faster with more galaxies at once."""

MEMORY_SHARE = 0.4
"""Share of the free memory that a batch may take; resident stamps may take half."""

BATCHES_HELD = 3
"""Batches with their views in memory at once: one in use, one being made, one that the GPU has still to read."""

FEWEST_BATCHES = 32
"""Batches of a rank if there are enough galaxies, so that ranks share evenly and a kill costs a quarter at most."""

PROBED_IMAGES = 32


def choose_batch_size(
    recipes: Sequence[Recipe], manifest: Manifest, *, num_views: int, num_galaxies: int, device: torch.device
) -> int:
    """Return the number of galaxies to predict at once: 128 on a CPU, on a GPU what its free memory is good for.

    Each network predicts some empty images, to measure what memory it takes.

    Args:
        num_galaxies: galaxies of this rank.
    """
    if device.type == "cpu":
        return BATCH_ON_CPU
    try:
        needs = [
            BATCHES_HELD * _loaded_bytes(recipe, manifest.image_px, num_views)
            + _network_bytes(recipe, manifest.tree, device)
            for recipe in recipes
        ]
    except torch.OutOfMemoryError:
        return SMALLEST
    torch.cuda.empty_cache()
    return largest_batch(free_bytes(device), max(needs), num_galaxies)


def largest_batch(free: int, galaxy_bytes: int, num_galaxies: int) -> int:
    """Return the largest power of two of galaxies within the free memory in bytes and the bounds above."""
    enough = max(BATCH_ON_CPU, num_galaxies // FEWEST_BATCHES)
    most = min(int(MEMORY_SHARE * free) // galaxy_bytes, enough, LARGEST)
    return max(SMALLEST, 1 << max(0, most.bit_length() - 1))


def _loaded_bytes(recipe: Recipe, image_px: tuple[int, int], num_views: int) -> int:
    """Return the bytes of a galaxy in the loader: its image as decoded and its float16 views."""
    height, width = image_px
    view = recipe.view
    return 3 * height * width + 2 * 3 * view.size_px**2 * len(view.turns_deg) * num_views


def _network_bytes(recipe: Recipe, tree: DecisionTree, device: torch.device) -> int:
    """Return the bytes that a network takes for an image beside its weights, as measured on some images."""
    predictor = Predictor(build_network(recipe, tree, pretrained=False), device)
    view = recipe.view
    turns = (len(view.turns_deg),) if len(view.turns_deg) > 1 else ()
    shape = (PROBED_IMAGES, *turns, 3, view.size_px, view.size_px)
    images = torch.zeros(shape, dtype=torch.float16, device=device)
    predictor.predict(images)  # tries algorithms, which takes other memory
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    predictor.predict(images)
    return (torch.cuda.max_memory_allocated(device) - before) // PROBED_IMAGES


class Portions:
    """Splits batches into portions that fit in memory, starting with whole batches."""

    def __init__(self) -> None:
        self._most = LARGEST_BATCH

    def each(self, batch: Batch, predict: Callable[[Batch], T]) -> Iterator[T]:
        """Yield what `predict` returns for each portion of a batch; halve portions if memory runs out, and say so.

        Raises:
            torch.OutOfMemoryError: memory does not suffice for one galaxy.
        """
        at = 0
        while at < len(batch.ids):
            portion = _cut(batch, at, self._most)
            if (found := self._attempt(portion, predict)) is not None:
                yield found
                at += len(portion.ids)

    def _attempt(self, portion: Batch, predict: Callable[[Batch], T]) -> T | None:
        try:
            return predict(portion)
        except torch.OutOfMemoryError:
            if len(portion.ids) == 1:
                raise
        self._most = len(portion.ids) // 2  # after the exception, which holds what memory was taken
        torch.cuda.empty_cache()
        click.echo(
            f"warning: no memory for {len(portion.ids)} galaxies at once; continuing with {self._most}", err=True
        )
        return None


def _cut(batch: Batch, at: int, most: int) -> Batch:
    """Return at most `most` galaxies of a batch, from index `at` on, without copying."""
    if len(batch.ids) <= most:
        return batch
    some = slice(at, at + most)
    views = tuple(view[some] for view in batch.views)
    return replace(batch, views=views, votes=batch.votes[some], ids=batch.ids[some])
