"""Predicts in this process, and reads what was written."""

from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result

import predict
from galaxy_zoo.fold import Fold
from pipeline.shards import open_shards
from prediction.parts import Parts


def run(*args: object) -> Result:
    return CliRunner().invoke(predict.main, [str(each) for each in (*args, "--device", "cpu", "--workers", 1)])


def predicted(out: Path, *args: object) -> pd.DataFrame:
    """Predict to `out`, and read it."""
    result = run(*args, "--out", out)
    assert result.exit_code == 0, result.output
    assert not Parts(out).folder.exists()
    return read(out)


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype={"GalaxyID": str}).set_index("GalaxyID")


def held_out_ids(shards: Path, fold: Fold) -> list[str]:
    held_out = open_shards(shards, "train", fold=fold, held_out=True)
    ids: list[str] = sorted(held_out.keys.tolist())
    return ids


def stop_after(monkeypatch: pytest.MonkeyPatch, num_parts: int) -> list[str]:
    """Stop as by Ctrl-C when so many parts are written; gives the names of all that were."""
    written: list[str] = []
    write = Parts.write

    def write_some(parts: Parts, name: str, state: dict) -> None:
        if len(written) == num_parts:
            raise KeyboardInterrupt
        write(parts, name, state)
        written.append(name)

    monkeypatch.setattr(Parts, "write", write_some)
    return written
