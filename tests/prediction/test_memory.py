"""How many galaxies are predicted at once."""

import tomllib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from making import RECIPE

from ensemble.recipe import recipe_from_table
from galaxy_zoo.tree import load_tree
from pipeline.loader import Batch
from prediction.memory import (
    LARGEST,
    MEMORY_SHARE,
    SMALLEST,
    Portions,
    _loaded_bytes,
    _network_bytes,
    largest_batch,
)

TREE = load_tree("gz2-kaggle")


@given(st.integers(0, 1 << 38), st.integers(1, 1 << 28), st.integers(1, 1 << 20))
def test_a_batch_is_a_power_of_two_within_its_share_of_the_memory(free: int, need: int, count: int) -> None:
    size = largest_batch(free, need, count)
    assert SMALLEST <= size <= LARGEST
    assert size & (size - 1) == 0
    assert size == SMALLEST or size * need <= MEMORY_SHARE * free
    assert largest_batch(2 * free, need, count) >= size
    assert size <= 128 or 32 * size <= count


def test_much_memory_is_used() -> None:
    assert largest_batch(140 << 30, 25 << 20, 79_975) == LARGEST
    assert largest_batch(16 << 30, 25 << 20, 79_975) == 256
    assert largest_batch(140 << 30, 25 << 20, 300) == 128


def test_on_a_gpu_the_batch_is_what_the_memory_of_a_measured_pass_allows(
    monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests
) -> None:
    """With the networks on the CPU and figures as CUDA would give them."""
    recipe = recipe_from_table(tomllib.loads(RECIPE), "tiny", where="tiny")
    turned = replace(recipe, view=replace(recipe.view, turns_deg=(0.0, 45.0)))
    assert _loaded_bytes(turned, (96, 96), 3) == 3 * 96 * 96 + 2 * 3 * 16 * 16 * 2 * 3
    for peak, expected in ((64 << 20, 1024), (6 << 30, 256), (400 << 30, 16)):
        with subtests.test(peak=peak):
            need = _network_bytes(recipe, TREE, on_cpu(monkeypatch, peak))
            assert need == (peak - 1000) // 32
            assert largest_batch(140 << 30, need, 79_975) == expected


def on_cpu(monkeypatch: pytest.MonkeyPatch, peak: int) -> torch.device:
    """Return the CPU, for which torch.cuda now says that the peak of its memory is so high."""
    for name, value in {
        "memory_allocated": 1000,
        "max_memory_allocated": peak,
        "reset_peak_memory_stats": None,
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    return torch.device("cpu")


def batch_of(count: int) -> Batch:
    images = torch.arange(float(count)).reshape(-1, 1, 1, 1)
    return Batch((images, -images), images.flatten(1), np.array([str(each) for each in range(count)]))


def with_memory_for(most: int) -> Callable[[Batch], Batch]:
    def predict(batch: Batch) -> Batch:
        if len(batch.ids) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return replace(batch, views=tuple(view.clone() for view in batch.views))

    return predict


@given(st.integers(1, 40), st.integers(1, 50))
def test_portions_are_halved_until_they_fit_and_hold_each_galaxy_once_in_order(count: int, most: int) -> None:
    portions, whole = Portions(), batch_of(count)
    for _ in range(2):
        found = list(portions.each(whole, with_memory_for(most)))
        assert [each for some in found for each in some.ids] == whole.ids.tolist()
        for view in range(2):
            assert torch.equal(torch.cat([some.views[view] for some in found]), whole.views[view])
        assert torch.equal(torch.cat([some.votes for some in found]), whole.votes)
        assert len(found) == 1 or 2 * max(len(some.ids) for some in found) > min(count, most) - 1


def test_each_halving_is_one_line_and_the_next_batch_begins_with_what_fits(
    capsys: pytest.CaptureFixture[str],
) -> None:
    portions = Portions()
    for _ in range(2):
        sizes = [len(each.ids) for each in portions.each(batch_of(10), with_memory_for(3))]
        assert sizes == [2, 2, 2, 2, 2]
    assert capsys.readouterr().err.splitlines() == [
        "warning: no memory for 10 galaxies at once; continuing with 5",
        "warning: no memory for 5 galaxies at once; continuing with 2",
    ]


def test_what_does_not_fit_for_one_galaxy_is_an_error() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        list(Portions().each(batch_of(3), with_memory_for(0)))
