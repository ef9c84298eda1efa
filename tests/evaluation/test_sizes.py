import numpy as np
import pytest

from evaluation.evidence import Evidence
from evaluation.sizes import SUBSETS, _subsets, section, subset_scores
from evaluation.theme import styled
from galaxy_zoo.votes import rmse


def test_blends_of_one_and_of_all_are_exact_and_errors_of_their_own_average_out() -> None:
    rng = np.random.default_rng(0)
    true = rng.random((200, 4))
    predictions = true + rng.normal(0, 0.1, (8, *true.shape))
    table = subset_scores(predictions, true).set_index("number")
    ones = [rmse(each, true) for each in predictions]
    assert table.loc[1, ["rmse", "best", "worst"]].tolist() == pytest.approx([np.mean(ones), min(ones), max(ones)])
    assert table.loc[8, "rmse"] == pytest.approx(rmse(predictions.mean(axis=0), true))
    assert table["rmse"].is_monotonic_decreasing


def test_subsets_are_all_or_twenty_different_galaxies_each(subtests: pytest.Subtests) -> None:
    for count, size, number in [(4, 2, 6), (20, 1, 20), (16, 8, SUBSETS), (16, 16, 1)]:
        with subtests.test(count=count, size=size, number=number):
            subsets = _subsets(count, size)
            assert len(subsets) == number
            assert all(len(set(some)) == size and max(some) < count for some in subsets)
            assert subsets == _subsets(count, size)


def test_fitted_blends_stand_beside_the_uniform_one(evidence: Evidence) -> None:
    with styled():
        made = section(evidence)
    blends = next(block.frame for block in made.blocks[1:] if block.name == "blends").set_index("blend")
    assert blends.loc["uniform", "fitted"] == pytest.approx(rmse(evidence.main[1], evidence.validation.votes))
    assert blends.loc["weights", "fitted"] <= blends.loc["uniform", "fitted"]
    assert {block.name for block in made.blocks[1:]} == {"blends", "rmse_by_members", "rmse_by_views"}
