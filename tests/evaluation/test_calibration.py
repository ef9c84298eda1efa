from dataclasses import replace

import numpy as np
import pytest

from evaluation.calibration import _draw_certainty, _draw_spread, certainty_table, reliability_table, split_votes
from evaluation.evidence import Evidence, Scored
from evaluation.theme import styled


def test_a_bin_holds_the_mean_true_votes_of_the_galaxies_predicted_alike(evidence: Evidence) -> None:
    predicted, true = evidence.main[1][:, 0], evidence.validation.votes[:, 0]
    table = reliability_table(evidence)
    bins = table[table["column"] == "Class1.1"].set_index("from")
    some = (predicted >= 0.2) & (predicted < 0.3)
    assert bins.loc[0.2, "galaxies"] == some.sum() > 0
    assert bins.loc[0.2, "mean true"] == pytest.approx(true[some].mean())
    assert bins["galaxies"].sum() == len(true)


def test_agreement_is_the_share_of_the_most_popular_answer(evidence: Evidence) -> None:
    votes = np.array(evidence.validation.votes)
    votes[:, :3] = 0.95, 0.05, 0
    table = certainty_table(replace(evidence, validation=Scored(evidence.validation.galaxies, votes)))
    first = table[table["question"] == "smooth or disk"]
    assert first["agreement from"].tolist() == [0.9]
    assert first["galaxies"].tolist() == [len(votes)]
    assert "edge-on" not in set(table["question"])  # nobody was asked


def test_fewer_galaxies_than_groups_and_one_without_votes_are_no_trouble(evidence: Evidence) -> None:
    votes = np.array(evidence.validation.votes[:4])
    votes[2] = np.nan
    [first] = evidence.predictions
    few = replace(first, validation=first.validation[:, :, :4])
    scored = Scored(evidence.validation.galaxies, votes)
    with styled():
        figure = _draw_spread(replace(evidence, validation=scored, predictions=(few,)))
    assert ">3 equal groups" in figure.svg


def test_votes_are_most_split_in_halves() -> None:
    assert split_votes(np.array([[0, 1.0], [0.5, 0.5], [0.1, 0.9]])).tolist() == pytest.approx([0, 0.5, 0.3])


@pytest.mark.filterwarnings("error")
def test_certainty_is_drawn_only_where_a_bin_has_enough_galaxies(evidence: Evidence) -> None:
    scored = Scored(evidence.validation.galaxies, np.array(evidence.validation.votes[:4]))
    few = [replace(each, validation=each.validation[:, :, :4]) for each in evidence.predictions]
    fewer = replace(evidence, validation=scored, predictions=tuple(few))
    with styled():
        assert len(list(_draw_certainty(evidence, certainty_table(evidence)))) == 1
        assert not list(_draw_certainty(fewer, certainty_table(fewer)))
