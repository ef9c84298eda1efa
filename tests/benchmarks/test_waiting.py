import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.waiting import main


@pytest.mark.slow
def test_a_recipe_is_measured_with_the_loader_and_without(shards: Path, tmp_path: Path) -> None:
    arguments = ["quick", "--shards", str(shards), "--seconds", "0.05", "--results", str(tmp_path)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "with the loader" in result.stdout
    (found,) = json.loads(next(tmp_path.glob("waiting-*.json")).read_text())["recipes"].values()
    assert 2 <= found["batch"] <= 64
    assert found["ratio"] > 0
    assert found["ratios"][0] <= found["ratio"] <= found["ratios"][1]
