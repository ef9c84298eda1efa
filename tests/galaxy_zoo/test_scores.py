"""Scores by question and by answer, and the intervals they are uncertain within."""

import numpy as np
import pytest

from galaxy_zoo import scores
from galaxy_zoo.scores import (
    Resampling,
    bootstrap_by_question,
    bootstrap_interval,
    paired_bootstrap,
    rmse_by_question,
    scores_by_name,
)
from galaxy_zoo.tree import DecisionTree, load_tree
from galaxy_zoo.votes import Floats, normalise_votes, rmse

KAGGLE = load_tree("gz2-kaggle")
HOW = Resampling(resamples=300, seed=3)


def galaxies(count: int = 400, *, noise: float = 0.1, seed: int = 0) -> tuple[Floats, Floats]:
    """Predicted and true votes of four answers."""
    rng = np.random.default_rng(seed)
    true = rng.random((count, 4))
    return true + rng.normal(0, noise, true.shape), true


def with_missing(true: Floats) -> Floats:
    return np.where(np.random.default_rng(1).random(true.shape) < 0.3, np.nan, true)


def test_the_score_of_a_question_is_kaggles_over_its_answers_alone(shapes: DecisionTree) -> None:
    predicted, true = galaxies()
    true = with_missing(true)
    by_question = rmse_by_question(predicted, true, shapes)
    assert by_question == pytest.approx([rmse(predicted[:, :2], true[:, :2]), rmse(predicted[:, 2:], true[:, 2:])])
    for k in range(4):
        value = bootstrap_interval(predicted, true, columns=slice(k, k + 1)).value
        assert value == pytest.approx(rmse(predicted[:, [k]], true[:, [k]]))


def test_questions_weighted_by_their_votes_make_the_overall_score(shapes: DecisionTree) -> None:
    predicted, true = galaxies()
    true = with_missing(true)
    counts = [(~np.isnan(true[:, columns])).sum() for columns in shapes.slices]
    overall = np.sqrt(np.average(rmse_by_question(predicted, true, shapes) ** 2, weights=counts))
    assert overall == pytest.approx(rmse(predicted, true))


def test_a_question_without_votes_has_no_score_and_no_interval(shapes: DecisionTree) -> None:
    predicted, true = galaxies()
    true[:, 2:] = np.nan
    assert np.isnan(rmse_by_question(predicted, true, shapes)).tolist() == [False, True]
    one, none = bootstrap_by_question(predicted, true, shapes, how=HOW)
    assert one.low < one.value < one.high
    assert np.isnan([none.value, none.low, none.high]).all()


def test_the_interval_is_that_of_scoring_each_resample_by_itself() -> None:
    predicted, true = galaxies(50)
    true = with_missing(true)
    rng = np.random.default_rng(HOW.seed)
    drawn = [rng.integers(50, size=50) for _ in range(HOW.resamples)]
    expected = np.quantile([rmse(predicted[some], true[some]) for some in drawn], [0.025, 0.975])
    interval = bootstrap_interval(predicted, true, how=HOW)
    assert interval.value == pytest.approx(rmse(predicted, true))
    assert [interval.low, interval.high] == pytest.approx(expected)


def test_how_many_resamples_are_in_memory_at_once_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    predicted, true = galaxies(50)
    whole = bootstrap_interval(predicted, true, how=HOW)
    monkeypatch.setattr(scores, "_CHUNK_BYTES", 50 * 8 * 7)
    parts = bootstrap_interval(predicted, true, how=HOW)
    assert [parts.low, parts.high] == pytest.approx([whole.low, whole.high], rel=1e-12)


def test_the_width_is_the_scores_standard_error() -> None:
    """Of 400 x 4 normal errors the RMSE varies by about noise / sqrt(2 x 1600) from sample to sample."""
    values = [rmse(*galaxies(seed=seed)) for seed in range(200)]
    interval = bootstrap_interval(*galaxies(seed=7), how=HOW)
    assert (interval.high - interval.low) / (2 * 1.96) == pytest.approx(np.std(values), rel=0.25)


def test_a_pair_is_told_apart_where_its_intervals_overlap() -> None:
    predicted, true = galaxies()
    worse = predicted + 0.02 * (predicted - true)
    a, b = (bootstrap_interval(each, true, how=HOW) for each in (predicted, worse))
    assert b.low < a.high
    comparison = paired_bootstrap(predicted, worse, true, how=HOW)
    assert comparison.difference.value == pytest.approx(rmse(predicted, true) - rmse(worse, true))
    assert comparison.difference.low < comparison.difference.high < 0
    assert comparison.share_better == 1
    assert paired_bootstrap(worse, predicted, true, how=HOW).share_better == 0


def test_a_pair_of_equals_is_not_told_apart() -> None:
    predicted, true = galaxies()
    other, _ = galaxies(seed=9)
    comparison = paired_bootstrap(predicted, other - galaxies(seed=9)[1] + true, true, how=HOW)
    assert comparison.difference.low < 0 < comparison.difference.high
    assert 0 < comparison.share_better < 1


def test_predictions_that_do_not_fit_are_refused(shapes: DecisionTree) -> None:
    predicted, true = galaxies(5)
    with pytest.raises(ValueError, match=r"shape \(4, 4\) do not fit votes of shape \(5, 4\)"):
        rmse_by_question(predicted[:4], true, shapes)
    predicted[2, 2] = np.nan
    with pytest.raises(ValueError, match="a prediction is NaN"):
        bootstrap_interval(predicted, true)
    with pytest.raises(ValueError, match="0 resamples"):
        Resampling(resamples=0)


def test_right_answers_are_counted_where_a_question_was_asked() -> None:
    votes = np.zeros((3, 37))
    votes[:, 0], votes[:, 14], votes[:, 15] = 1, 1, [1, 1, 0]  # smooth, not odd, round
    votes[2, 16] = 1
    found = scores_by_name(np.eye(37)[[0, 0, 0]] + np.eye(37)[[14] * 3] + np.eye(37)[[15] * 3], votes, KAGGLE)
    assert found["accuracy/smooth or disk"] == 1
    assert found["accuracy/roundness"] == pytest.approx(2 / 3)
    assert found["accuracy"] == pytest.approx(8 / 9)
    assert "accuracy/arm count" not in found  # nobody was asked


def test_squared_errors_of_the_questions_make_up_the_score() -> None:
    rng = np.random.default_rng(0)
    votes, predicted = (normalise_votes(rng.random((20, 37)), KAGGLE) for _ in range(2))
    found = scores_by_name(predicted, votes, KAGGLE)
    sizes = [len(question.columns) for question in KAGGLE.questions]
    total = sum(found[f"rmse/{q.name}"] ** 2 * size for q, size in zip(KAGGLE.questions, sizes, strict=True))
    assert found["rmse"] == rmse(predicted, votes) == pytest.approx(np.sqrt(total / 37))


def test_missing_votes_are_left_out() -> None:
    votes = np.full((4, 37), np.nan)
    votes[:2, :3] = [1, 0, 0]
    found = scores_by_name(np.full((4, 37), 0.5), votes, KAGGLE)
    assert found["rmse"] == 0.5
    assert set(found) == {"rmse", "rmse/smooth or disk", "accuracy/smooth or disk", "accuracy"}
