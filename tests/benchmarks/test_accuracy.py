import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from making import RECIPE, write_kaggle_folder

from benchmarks.accuracy import interval, main, resampled_rmse, squared_errors
from galaxy_zoo.votes import rmse


@pytest.mark.slow
def test_recipes_are_scored_on_the_same_galaxies_whatever_they_train_on(tmp_path: Path) -> None:
    kaggle = write_kaggle_folder(tmp_path / "kaggle", num_train=60, num_test=0)
    partly = write_kaggle_folder(tmp_path / "all", num_train=80, num_test=0, seed=1)
    table = pd.read_csv(partly / "training_solutions_rev1.csv").drop(columns=["Class11.1", "Class11.2"])
    table.iloc[60:].to_csv(partly / "training_solutions_rev1.csv", index=False)
    for each in table["GalaxyID"][:60]:
        (partly / "images_training_rev1" / f"{each}.jpg").unlink()
    tiny = tmp_path / "tiny.toml"
    tiny.write_text(RECIPE)
    options = ["--partly", partly, "--out", tmp_path / "out", "--results", tmp_path / "results", "--views", 2]
    entries = [kaggle, f"{tiny}:1", f"{tiny}:2:partly", *options, "--epochs", 1, "--device", "cpu"]
    result = CliRunner().invoke(main, [str(each) for each in entries])
    assert result.exit_code == 0, result.output
    alone, both = (
        json.loads((tmp_path / "results" / f"accuracy-tiny-{x}.json").read_text()) for x in ("1", "2-partly")
    )
    assert alone["data"].endswith("of 60 galaxies held out")
    assert re.sub(r" \+ partly labelled", "", both["data"]) == alone["data"]
    assert len(both["rmse_of_each_member_one_view"]) == 2
    assert both["rmse_interval"][0] < both["rmse"] < both["rmse_interval"][1]
    assert both["ratio_to_first"] == pytest.approx(both["rmse"] / alone["rmse"], abs=1e-4)
    again = CliRunner().invoke(main, [str(each) for each in entries])  # all is finished: the same once more
    assert again.exit_code == 0, again.output
    assert again.stdout == result.stdout


def test_errors_galaxy_by_galaxy_add_up_to_the_score() -> None:
    votes, predicted = np.random.default_rng(0).random((2, 50, 37))
    assert np.sqrt(squared_errors(predicted, votes).mean()) == pytest.approx(rmse(predicted, votes))


def test_what_is_always_better_is_better_with_certainty() -> None:
    errors = np.random.default_rng(0).random(500)
    low, high = interval(resampled_rmse(0.81 * errors) / resampled_rmse(errors))
    assert low == high == pytest.approx(0.9)  # paired: the spread of galaxies falls out
    low, high = interval(resampled_rmse(errors))
    assert low < np.sqrt(errors.mean()) < high


WRONG = [(["quick:x"], "is not NAME"), (["quick:2:all"], "is not NAME"), (["quick:1:partly"], "give their folder")]


def test_bad_entries_are_wrong_usage(tmp_path: Path, subtests: pytest.Subtests) -> None:
    for entries, message in WRONG:
        with subtests.test(entries=entries):
            result = CliRunner().invoke(main, [str(tmp_path), *entries])
            assert result.exit_code == 2
            assert message in result.output
