import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import throughput
from benchmarks.measuring import measured

STAGES = ["reader", "decode", "loader", "fill", "resident", "model", "end to end", "from stamps"]


@pytest.mark.slow
def test_each_stage_is_measured_and_the_slowest_is_named(shards: Path) -> None:
    arguments = [str(shards), "--recipe", "quick", "--device", "cpu", "--quick", "--json"]
    result = CliRunner().invoke(throughput.main, arguments)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [*STAGES, "data wait, end to end"] == list(found["stages"])
    assert all(stage["value"] > 0 for stage in found["stages"].values())


def test_the_limit_is_the_slowest_stage_and_its_headroom_the_next_one() -> None:
    rates = {"reader": 900.0, "decode": 300.0, "loader": 200.0, "model": 100.0}
    results = [measured(name, "images/s", [rate]) for name, rate in rates.items()]
    assert throughput.limit(results) == (
        "The model is the limit: 100 images/s; the loader would allow 2.0 times as much."
    )
