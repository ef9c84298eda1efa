import json
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner
from making import write_kaggle_folder

from benchmarks import ablations
from benchmarks.ablations import CHANGES, change, main, to_toml
from ensemble.recipe import load_recipe, recipe_from_table


def test_every_change_makes_another_recipe_which_its_file_gives_back(subtests: pytest.Subtests) -> None:
    for name in CHANGES:
        with subtests.test(name=name):
            table = load_recipe("small_data").table
            changed = change(table, CHANGES[name])
            assert tomllib.loads(to_toml(changed)) == changed
            assert changed != table
            recipe_from_table(changed, name, where=name)


@pytest.mark.slow
def test_variants_are_compared_with_the_recipe_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ablations, "CHANGES", {"no zoom": CHANGES["no zoom"]})
    kaggle = write_kaggle_folder(tmp_path / "kaggle", num_train=60, num_test=0)
    options = ["--out", tmp_path / "out", "--results", tmp_path, "--epochs", 1, "--members", 1, "--views", 2]
    result = CliRunner().invoke(main, [str(each) for each in (kaggle, "--device", "cpu", *options)])
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "ablations-small_data.json").read_text())
    assert list(found) == ["as it is", "no zoom"]
    expected = found["no zoom"]["rmse"] / found["as it is"]["rmse"]
    assert found["no zoom"]["ratio_to_first"] == pytest.approx(expected, abs=1e-4)
