"""Simulated volunteers obey the decision tree, the truth and the binomial law."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from galaxy_zoo.tree import DecisionTree, load_tree
from shard_tool.synthetic.galaxies import Family, Galaxy, Odd
from shard_tool.synthetic.population import draw_galaxy
from shard_tool.synthetic.voters import VOTERS_RANGE, answer_probabilities, vote

Votes = npt.NDArray[np.float64]

# Source: the column means of Kaggle's central_pixel_benchmark.csv (Class11.6 is 0 there by mistake: left out).
KAGGLE_MEANS = {
    "Class1.1": 0.433,
    "Class1.2": 0.542,
    "Class1.3": 0.025,
    "Class2.1": 0.106,
    "Class3.1": 0.103,
    "Class4.1": 0.216,
    "Class5.3": 0.178,
    "Class6.1": 0.232,
    "Class7.1": 0.170,
    "Class7.3": 0.055,
    "Class8.6": 0.042,
    "Class9.1": 0.063,
    "Class10.1": 0.092,
    "Class11.2": 0.094,
}


@pytest.fixture(scope="module")
def tree() -> DecisionTree:
    return load_tree("gz2-kaggle")


@pytest.fixture(scope="module")
def galaxies() -> list[Galaxy]:
    return [draw_galaxy(np.random.default_rng([5, index])) for index in range(1500)]


@pytest.fixture(scope="module")
def votes(galaxies: list[Galaxy], tree: DecisionTree) -> Votes:
    return np.stack([vote(galaxy, tree, np.random.default_rng([6, i])) for i, galaxy in enumerate(galaxies)])


@pytest.fixture(scope="module")
def disk(galaxies: list[Galaxy]) -> Galaxy:
    return next(galaxy for galaxy in galaxies if galaxy.family is Family.DISK and galaxy.odd is None)


def test_each_question_sums_to_the_votes_of_its_parent(votes: Votes, tree: DecisionTree) -> None:
    for columns, parent in zip(tree.slices, tree.parents, strict=True):
        asked = np.ones(len(votes)) if parent is None else votes[:, parent]
        np.testing.assert_allclose(votes[:, columns].sum(axis=1), asked, rtol=0.0, atol=1e-15)
        assert not votes[asked == 0.0, columns].any()


def test_votes_are_shares_of_a_plausible_number_of_volunteers(votes: Votes) -> None:
    numbers = np.arange(VOTERS_RANGE[0], VOTERS_RANGE[1] + 1)
    for row in votes[:100]:
        counts = row[:, np.newaxis] * numbers
        assert np.isclose(counts, counts.round(), atol=1e-9).all(axis=0).any()


def test_the_chances_of_each_question_sum_to_one(galaxies: list[Galaxy], tree: DecisionTree) -> None:
    for galaxy in galaxies[:200]:
        for chances, columns in zip(answer_probabilities(galaxy), tree.slices, strict=True):
            assert len(chances) == columns.stop - columns.start
            assert chances.min() >= 0.0
            assert chances.sum() == pytest.approx(1.0, abs=1e-12)


def test_the_noise_of_the_votes_is_binomial(disk: Galaxy, tree: DecisionTree) -> None:
    polls = np.stack([vote(disk, tree, np.random.default_rng([8, i])) for i in range(1000)])
    chance = answer_probabilities(disk)[0][0]
    assert polls[:, 0].mean() == pytest.approx(chance, abs=0.015)
    assert polls[:, 0].std() == pytest.approx(np.sqrt(chance * (1.0 - chance) / 44.0), rel=0.12)


def test_mean_votes_resemble_kaggles(votes: Votes, tree: DecisionTree) -> None:
    means = dict(zip(tree.columns, votes.mean(axis=0).tolist(), strict=True))
    for column, expected in KAGGLE_MEANS.items():
        assert means[column] == pytest.approx(expected, abs=0.045), column


def test_smooth_galaxies_and_disks_are_as_common_as_in_kaggle(votes: Votes) -> None:
    shares = np.bincount(votes[:, :3].argmax(axis=1), minlength=3) / len(votes)
    np.testing.assert_allclose(shares, [0.433, 0.566, 0.001], atol=0.06)


def test_stronger_arms_and_bars_get_more_votes(disk: Galaxy) -> None:
    face_on = replace(disk, disk=replace(disk.disk, axis_ratio=0.9, edge_on=False))
    spiral = [
        answer_probabilities(replace(face_on, arms=replace(disk.arms, strength=strength, pitch=0.4)))[3][0]
        for strength in (0.0, 0.3, 1.0)
    ]
    barred = [
        answer_probabilities(replace(face_on, bar=replace(disk.bar, strength=strength, length_px=20.0)))[2][0]
        for strength in (0.0, 0.1, 0.3)
    ]
    assert spiral == sorted(spiral)
    assert barred == sorted(barred)
    assert spiral[-1] > 0.8


def test_blur_hides_the_arms_from_the_volunteers(disk: Galaxy) -> None:
    arms = replace(disk.arms, strength=0.6, count=4, pitch=0.25)
    face_on = replace(disk, disk=replace(disk.disk, axis_ratio=0.9, edge_on=False), arms=arms)
    coarse, fine = (
        answer_probabilities(replace(face_on, sky=replace(disk.sky, native_px=native_px)))[3][0]
        for native_px in (90, 300)
    )
    assert coarse < fine - 0.1


def test_an_odd_feature_is_called_by_its_name(
    galaxies: list[Galaxy], tree: DecisionTree, subtests: pytest.Subtests
) -> None:
    for odd in list(Odd):
        with subtests.test(odd=odd):
            column = list(Odd).index(odd)
            with_it = [answer_probabilities(galaxy)[7][column] for galaxy in galaxies if galaxy.odd is odd]
            without = [answer_probabilities(galaxy)[7][column] for galaxy in galaxies if galaxy.odd is None]
            assert np.mean(with_it) > 0.5
            assert np.mean(with_it) > np.mean(without) + 0.2
