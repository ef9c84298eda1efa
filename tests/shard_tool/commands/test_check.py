"""`shard_tool check` accepts what Kaggle accepts, warns about what looks broken, and scores."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kaggle_download import run
from making import make_votes

from galaxy_zoo.submission import KAGGLE_ROWS, warnings_about_rows
from galaxy_zoo.tree import load_tree
from galaxy_zoo.votes import rmse

TREE = load_tree("gz2-kaggle")
NUM_GALAXIES = 40


def table_of(seed: int) -> pd.DataFrame:
    ids = pd.Index([str(100000 + 7 * i) for i in range(NUM_GALAXIES)], name="GalaxyID")
    votes = make_votes(np.random.default_rng(seed), NUM_GALAXIES)
    return pd.DataFrame(votes, index=ids, columns=list(TREE.columns))


@pytest.fixture
def submission(tmp_path: Path) -> Path:
    table_of(0).to_csv(tmp_path / "s.csv")
    return tmp_path / "s.csv"


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    table_of(1).to_csv(tmp_path / "truth.csv")
    return tmp_path / "truth.csv"


def test_a_submission_is_compared_with_a_benchmark_or_a_list_of_ids(submission: Path) -> None:
    table = table_of(0)
    benchmark, ids = submission.with_name("b.csv.xz"), submission.with_name("ids.txt")
    (table * 0).to_csv(benchmark)
    ids.write_text("\n".join(table.index))
    for reference in (benchmark, ids):
        result = run("check", submission, "--ids", reference)
        assert result.exit_code == 0, result.output
        assert f"s.csv: {NUM_GALAXIES} galaxies" in result.stdout
    ids.write_text("\n".join([*table.index, "999999"]))
    result = run("check", submission, "--ids", ids)
    assert result.exit_code == 1
    assert "1 ids are missing: 999999" in result.output


def test_broken_predictions_are_warned_about(submission: Path) -> None:
    (table_of(0) * 1e-4).to_csv(submission)
    result = run("check", submission)
    assert result.exit_code == 0
    for warning in ("nearly the same for every galaxy", "answers do not sum"):
        assert warning in result.stderr


def test_another_number_of_rows_than_kaggle_takes_is_a_warning_where_nothing_says_which_galaxies(
    submission: Path, truth: Path
) -> None:
    warning = f"warning: {NUM_GALAXIES} galaxies; Kaggle takes a submission of its 79,975 test galaxies only\n"
    assert warning in run("check", submission).stderr
    assert "galaxies only" not in run("check", submission, "--ids", submission).output
    assert "galaxies only" not in run("check", submission, "--truth", truth).output
    assert warnings_about_rows(KAGGLE_ROWS, TREE) == warnings_about_rows(40, load_tree("galaxy10")) == []


def test_a_score_comes_with_its_interval_and_that_of_each_question(submission: Path, truth: Path) -> None:
    result = run("check", submission, "--truth", truth)
    assert result.exit_code == 0, result.output
    assert f"RMSE {rmse(table_of(0), table_of(1)):.5f} (" in result.stdout
    for question in TREE.questions:
        assert f"  {question.name} " in result.stdout
    mean = table_of(1) * 0 + table_of(1).mean()
    assert f"RMSE {rmse(mean, table_of(1)):.5f} if every galaxy got the mean true votes\n" in result.stdout


def test_a_truth_of_other_galaxies_is_refused(submission: Path, truth: Path) -> None:
    table_of(1).iloc[2:].to_csv(truth)
    result = run("check", submission, "--truth", truth)
    assert result.exit_code == 1
    message = f"truth.csv: no row of votes for 2 of {NUM_GALAXIES} predicted ids: 100000, 100007"
    assert message in result.output


BAD_INPUT = [
    (("none.csv",), "none.csv: there is no such file"),
    (("s.csv", "--ids", "none.txt"), "none.txt: there is no such file"),
    (("s.csv", "--truth", "none.csv"), "none.csv: there is no such file"),
    (("s.csv", "--tree", "galaxy10"), "s.csv: "),
]


def test_bad_input_is_one_message_and_exit_code_1(
    submission: Path, monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests
) -> None:
    for options, message in BAD_INPUT:
        with subtests.test(options=options):
            monkeypatch.chdir(submission.parent)
            result = run("check", *options)
            assert result.exit_code == 1
            assert message in result.stderr
            assert len(result.stderr.splitlines()) == 1
