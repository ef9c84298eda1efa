import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import remote_training


@pytest.mark.slow
def test_epochs_from_the_disk_and_from_a_store_are_timed_beside_each_other(
    shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("s3fs", reason="object stores need the extra s3")
    for name in remote_training.environment(0):
        monkeypatch.setenv(name, "")  # so that what the benchmark sets is gone afterwards
        monkeypatch.delenv(name)
    result = CliRunner().invoke(remote_training.main, [str(shards), "--runs", "1"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    [ratios] = [value for name, value in report.items() if name.startswith("median")]
    assert len(ratios) == 3
    assert min(min(pair) for pair in ratios.values()) > 0
