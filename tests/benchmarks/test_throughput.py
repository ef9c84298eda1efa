import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import throughput
from benchmarks.gpu_results import Result

STAGES = ["reader", "decode", "loader", "fill", "resident", "model", "end to end", "data wait"]


@pytest.mark.slow
def test_each_stage_is_measured_and_the_slowest_is_named(shards: Path) -> None:
    arguments = [str(shards), "--recipe", "quick", "--device", "cpu", "--quick", "--json"]
    result = CliRunner().invoke(throughput.main, arguments)
    assert result.exit_code == 0, result.output
    measured = json.loads(result.stdout)
    assert list(measured["stages"]) == STAGES
    assert all(stage["value"] > 0 for stage in measured["stages"].values())


def test_the_limit_is_the_slowest_stage_and_its_headroom_the_next_one() -> None:
    rates = {"reader": 900.0, "decode": 300.0, "loader": 200.0, "model": 100.0}
    results = {name: Result(name, rate) for name, rate in rates.items()}
    assert throughput.sentence(results) == (
        "The model is the limit: 100 images/s; the loader would allow 2.0 times as much."
    )
