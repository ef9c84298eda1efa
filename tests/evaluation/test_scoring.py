from dataclasses import replace

import numpy as np
import pytest

from ensemble.recipe import load_recipe
from evaluation import scoring
from evaluation.evidence import ALL_RUNS, Evidence, RunVotes
from evaluation.section import Table
from evaluation.theme import styled
from galaxy_zoo.tree import load_tree
from galaxy_zoo.votes import rmse


def with_a_worse_run(evidence: Evidence) -> Evidence:
    [first] = evidence.predictions
    worse = np.clip(first.validation + 0.2, 0, 1)
    return replace(evidence, predictions=(first, RunVotes(name="worse", run=first.run, validation=worse)))


def test_members_their_blend_and_the_mean_votes_are_scored(evidence: Evidence) -> None:
    table = scoring.overall_scores(evidence, scoring.predictions_by_name(evidence)).set_index("prediction")
    true = evidence.validation.votes
    [prediction] = evidence.predictions
    assert list(table.index) == ["tiny, member 0", "tiny, member 1", "tiny", scoring.BASELINE]
    assert table.loc["tiny, member 1", "rmse"] == pytest.approx(rmse(prediction.validation[1].mean(axis=0), true))
    assert table.loc["tiny", "rmse"] == pytest.approx(rmse(prediction.validation.mean(axis=(0, 1)), true))
    assert table.loc[scoring.BASELINE, "rmse"] == pytest.approx(rmse(evidence.baseline, true))
    assert (table["low"] < table["rmse"]).all()
    assert (table["rmse"] < table["high"]).all()


def test_of_several_runs_the_report_is_about_the_blend_of_all_their_members(evidence: Evidence) -> None:
    both = with_a_worse_run(evidence)
    name, votes = both.main
    assert name == ALL_RUNS
    np.testing.assert_allclose(votes, both.members.mean(axis=0))
    assert list(both.blends) == ["tiny", "worse", ALL_RUNS]


def test_a_pair_says_which_one_is_better(evidence: Evidence) -> None:
    both = with_a_worse_run(evidence)
    pairs = scoring.paired_scores(both, both.blends).set_index(["first", "second"])
    assert len(pairs) == 3
    better = pairs.loc[("tiny", "worse")]
    assert better["high"] < 0
    assert better["first better in"] == 1


def test_the_answers_of_a_question_have_its_error_between_them(evidence: Evidence) -> None:
    questions = scoring.question_scores(evidence).set_index(["prediction", "question"])["rmse"]
    answers = scoring.answer_scores(evidence)
    assert len(answers) == 37
    for name, group in answers.groupby("question"):
        assert questions["tiny", name] == pytest.approx(np.sqrt((group["rmse"] ** 2).mean()))


def test_published_numbers_stand_beside_their_own_challenge_only(evidence: Evidence) -> None:
    [first] = evidence.predictions
    known = replace(first, run=replace(first.run, recipe=load_recipe("ng_cnn")))
    table = scoring.published_scores(replace(evidence, predictions=(known,)))
    assert table.loc[0, ["system", "by", "evaluated here"]].tolist() == ["ng_cnn", "Ng 2024", "yes"]
    assert ".08003" in table.loc[0, "published"]
    assert (table["evaluated here"] == "yes").sum() == 1
    assert table["published"].str.contains(".07491", regex=False).sum() == 1
    other = scoring.published_scores(replace(evidence, tree=load_tree("galaxy10")))
    assert not other["published"].str.contains("Kaggle").any()


def test_it_is_said_where_the_galaxies_chose_the_best_epochs(evidence: Evidence) -> None:
    for has_chosen_epochs in (True, False):
        with styled():
            made = scoring.section(replace(evidence, has_chosen_epochs=has_chosen_epochs))
        assert ("best epoch" in made.lead) == has_chosen_epochs
        [pairs] = [block for block in made.blocks if isinstance(block, Table) and block.name == "pairs"]
        assert {column for column in pairs.frame if pairs.form_of(column).endswith("%")} == {"first better in"}
