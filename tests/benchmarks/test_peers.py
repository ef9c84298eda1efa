import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import peers
from benchmarks.peers import Row, table


@pytest.mark.slow
def test_a_contender_is_checked_and_timed_and_one_that_breaks_is_named(shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "peers.json"
    arguments = ["--only", "ours,ffcv", "--runs", "1", "--cores", "1", "--checked", "3", "--out", str(out)]
    result = CliRunner().invoke(peers.main, [str(shards), *arguments])
    assert result.exit_code == 0, result.output
    ours, broken = json.loads(out.read_text())["results"]
    assert ours["images_per_s"] == ours["runs"][0] > 0
    assert 0 < ours["error_levels"] < 1
    assert "torch" in ours["versions"]
    assert broken == {"name": "ffcv", "failed": "ModuleNotFoundError: No module named 'ffcv'"}
    assert "failed: ModuleNotFoundError" in result.stdout


def test_the_table_gives_ratios_to_torchvision() -> None:
    rows = [
        Row(name="torchvision", error=0.6, rates=[100.0], cpu_ms=[4.0]),
        Row(name="ours", error=0.4, rates=[500.0, 700.0, 600.0], cpu_ms=[1.0, 2.0, 9.0]),
    ]
    assert table(rows).splitlines()[-1] == "| ours | 600 | 6.00 | 500 to 700 | 2.00 | 0.40 |"


def test_an_unknown_contender_is_wrong_usage(shards: Path) -> None:
    assert CliRunner().invoke(peers.main, [str(shards), "--only", "tfdata"]).exit_code == 2
