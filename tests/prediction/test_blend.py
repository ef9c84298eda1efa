"""Blends: chosen and weighted members, fitted and cross-fitted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from galaxy_zoo.votes import Floats, rmse
from prediction.blend import HeldOutPredictions, best_k, greedy_order, mean_of, optimal_weights, uniform


def members(noises: list[float], *, galaxies: int = 300, seed: int = 0) -> tuple[Floats, Floats]:
    """Predictions of members with independent errors of known size, and the true votes, a tenth missing."""
    rng = np.random.default_rng(seed)
    true = rng.random((galaxies, 4))
    predictions = np.stack([true + rng.normal(0, noise, true.shape) for noise in noises])
    true[rng.random(true.shape) < 0.1] = np.nan
    return predictions.astype(np.float32), true


def products(predictions: Floats, true: Floats) -> Floats:
    errors = np.nan_to_num(predictions - true).reshape(len(predictions), -1)
    return errors @ errors.T


def test_members_are_chosen_as_the_scores_of_their_means_say() -> None:
    predictions, true = members([0.3, 0.1, 0.12, 0.9])
    order = greedy_order(products(predictions, true))
    chosen: list[int] = []
    for expected in order:
        left = [each for each in range(4) if each not in chosen]
        scores = [rmse(predictions[[*chosen, each]].mean(axis=0), true) for each in left]
        assert left[int(np.argmin(scores))] == expected
        chosen.append(expected)
    assert order[0] == 1


def test_the_curve_holds_the_score_of_each_mean_and_best_k_its_lowest_point() -> None:
    predictions, true = members([0.1, 0.1, 0.12, 0.9, 0.8])
    held_out = HeldOutPredictions(predictions, true)
    curve = held_out.curve()
    for k in range(1, 6):
        blended = predictions[list(curve.order[:k])].mean(axis=0)
        assert curve.fitted_rmse[k - 1] == pytest.approx(rmse(blended, true), rel=1e-5)
    best = int(np.argmin(curve.fitted_rmse)) + 1
    assert best == 3
    assert best_k(products(predictions, true)) == pytest.approx(mean_of(curve.order[:best], 5))
    assert curve.held_out_rmse[4] == pytest.approx(curve.fitted_rmse[4])  # of all members nothing is chosen


def test_weights_are_those_of_independent_errors() -> None:
    """The best weights of independent errors are as their inverse variances."""
    noises = np.array([0.1, 0.2, 0.4])
    weights = optimal_weights(products(*members(noises.tolist(), galaxies=20_000)))
    assert weights == pytest.approx(noises**-2 / (noises**-2).sum(), abs=0.01)


@given(st.integers(1, 6), st.integers(0, 999))
def test_weights_are_a_mean_and_no_worse_than_any_other(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = products(*members(rng.uniform(0.05, 0.5, count).tolist(), galaxies=30, seed=seed))
    weights = optimal_weights(matrix)
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1)
    for other in (uniform(matrix), best_k(matrix), *rng.dirichlet(np.ones(count), 5)):
        assert weights @ matrix @ weights <= other @ matrix @ other * (1 + 1e-6)


def test_equal_members_and_perfect_ones_have_weights_too() -> None:
    predictions, true = members([0.1])
    twice = products(np.concatenate([predictions, predictions]), true)
    assert optimal_weights(twice).sum() == pytest.approx(1)
    assert optimal_weights(np.zeros((3, 3))).sum() == pytest.approx(1)


def test_a_fitted_score_is_of_the_galaxies_it_was_fitted_on_and_weights_over_fit() -> None:
    """Of forty equal members on few galaxies, fitted weights look better than they are."""
    predictions, true = members([0.2] * 40, galaxies=30)
    held_out = HeldOutPredictions(predictions, true)
    plain, weighted = held_out.fit(uniform), held_out.fit(optimal_weights)
    blended = np.einsum("m,mga->ga", weighted.weights, predictions)
    assert weighted.fitted_rmse == pytest.approx(rmse(blended, true), rel=1e-5)
    assert weighted.fitted_rmse < plain.fitted_rmse < weighted.held_out_rmse
    assert plain.held_out_rmse == pytest.approx(plain.fitted_rmse)
    assert weighted.against_uniform.difference.value == pytest.approx(
        weighted.held_out_rmse - plain.held_out_rmse, rel=1e-4
    )


def test_the_cross_fitted_score_is_of_blends_that_have_not_seen_the_galaxies() -> None:
    predictions, true = members([0.1, 0.2, 0.3], galaxies=53)
    fold = np.arange(53) % 5
    blended = np.empty_like(true)
    for each in range(5):
        weights = optimal_weights(products(predictions[:, fold != each], true[fold != each]))
        blended[fold == each] = np.einsum("m,mga->ga", weights, predictions[:, fold == each])
    assert HeldOutPredictions(predictions, true).fit(optimal_weights).held_out_rmse == pytest.approx(
        rmse(blended, true)
    )


def test_too_few_galaxies_or_none_with_votes_are_refused() -> None:
    for galaxies in (4, 20):
        predictions, _ = members([0.1], galaxies=galaxies)
        with pytest.raises(ValueError, match=f"{galaxies} galaxies with votes"):
            HeldOutPredictions(predictions, np.full((galaxies, 4), np.nan))
