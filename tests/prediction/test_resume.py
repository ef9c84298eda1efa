"""Predictions that were interrupted, that go on elsewhere, and that wait for memory."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from making import NUM_TEST
from predicting import predicted, read, run, stop_after

from ensemble.model import Predictor
from galaxy_zoo.files import exclusive
from prediction import job
from prediction.parts import Parts
from training.checkpoint import Snapshot

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_two_ranks_go_on_where_one_was_killed_and_write_the_bytes_of_one_that_was_not(
    runs: dict[str, Path], shards: Path, tmp_path: Path
) -> None:
    """With members of two views, so two passes; ranks are started as torchrun does it."""
    what = [runs["half-0"], runs["sigmoid"], shards, "--views", 32, "--batch-size", 1]
    files = ["--details", "d.parquet", "--embeddings", "e.parquet"]
    command = [sys.executable, ROOT / "predict.py", *what, *files, "--device", "cpu", "--workers", 1]
    arguments = {
        "args": [str(each) for each in command],
        "cwd": tmp_path,
        "stderr": subprocess.PIPE,
        "text": True,
    }
    ranks = {
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": free_port(),
    }
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    folder, deadline = tmp_path / "submission.csv.parts", time.monotonic() + 60
    with subprocess.Popen(**arguments, env=environment) as killed:
        while not list(folder.glob("*.safetensors")) and time.monotonic() < deadline:
            time.sleep(0.002)
        killed.kill()
    assert killed.returncode == -signal.SIGKILL
    assert list(folder.glob("*.safetensors"))
    assert not (tmp_path / "submission.csv").exists()
    started = [
        subprocess.Popen(**arguments, env={**environment, **ranks, "RANK": str(each), "LOCAL_RANK": str(each)})
        for each in range(2)
    ]
    said = [process.communicate()[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    assert ["resuming from " in each for each in said] == [True, False]
    assert not folder.exists()
    (tmp_path / "alone").mkdir()
    elsewhere = [tmp_path / "alone" / each if each.endswith("parquet") else each for each in files]
    predicted(tmp_path / "alone" / "submission.csv", *what, *elsewhere)
    for name in ("submission.csv", "d.parquet", "e.parquet"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()


def free_port() -> str:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return str(listening.getsockname()[1])


def test_what_is_finished_is_not_predicted_again_unless_it_is_damaged(
    runs: dict[str, Path], shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, what = tmp_path / "s.csv", [runs["tree"], shards, "--batch-size", 1]
    whole = predicted(tmp_path / "whole.csv", *what)
    with monkeypatch.context() as context:
        first = stop_after(context, 2)
        assert run(*what, "--out", out).exit_code == 130
    damaged = next(Parts(out).folder.glob(f"{first[0]}*"))
    data = bytearray(damaged.read_bytes())
    data[-9] ^= 1
    damaged.write_bytes(data)
    with monkeypatch.context() as context:
        second = stop_after(context, 99)
        pd.testing.assert_frame_equal(predicted(out, *what), whole)
    assert second[0] == first[0]
    assert first[1] not in second


def test_a_part_with_a_right_checksum_and_wrong_content_is_one_message(
    runs: dict[str, Path], shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, what = tmp_path / "s.csv", [runs["sigmoid"], shards, "--batch-size", 1, "--out", tmp_path / "s.csv"]
    with monkeypatch.context() as context:
        stop_after(context, 1)
        assert run(*what).exit_code == 130
    for state in ({}, {"ids": 3, "members": []}, {"ids": ["1"], "members": [{"mean": 1}]}):
        Parts(out).write("predict-000-000-00000000", Snapshot.of(state))
        result = run(*what)
        assert (result.exit_code, result.stderr.count("Error: ")) == (1, 1), result.output
        assert "is not a part of this prediction" in result.stderr
        assert not out.exists()


def test_a_prediction_does_not_go_on_with_parts_of_another_one(
    runs: dict[str, Path], shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, what = tmp_path / "s.csv", [runs["tree"], shards, "--batch-size", 1, "--out", tmp_path / "s.csv"]
    with monkeypatch.context() as context:
        stop_after(context, 2)
        assert run(*what).exit_code == 130
    for options, difference in ((["--views", 2], "views"), (["--split", "train"], "split")):
        result = run(*what, *options)
        assert result.exit_code == 1
        assert f"2 finished parts of another prediction (of another {difference})" in result.output
    with monkeypatch.context() as context:
        context.setattr(job, "precision_on", lambda *_: "bf16")  # as on another CPU
        assert "parts of another prediction (of another precision)" in run(*what).output
    assert "(of another batch_size)" in run(*what, "--batch-size", 2).output
    result = run(runs["tree"], shards, "--out", out)  # with the batch size of the parts
    assert result.exit_code == 0, result.output
    assert "resuming from 2 finished parts" in result.stderr
    assert "Kaggle takes a submission of its 79,975 test galaxies only" in result.stderr
    assert len(read(out)) == NUM_TEST


def test_parts_that_arrive_late_are_written_in_order_with_the_same_bytes(
    runs: dict[str, Path], shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, which predicts a part while the one before it is copied and written."""
    what, written = [runs["tree"], shards, "--batch-size", 1], list[str]()
    predicted(tmp_path / "whole.csv", *what)
    write = Parts.write
    monkeypatch.setattr(Parts, "write", lambda self, name, state: (written.append(name), write(self, name, state)))
    monkeypatch.setattr(Snapshot, "is_copied", False)
    predicted(tmp_path / "late.csv", *what)
    assert written == sorted(written)
    assert len(written) == 3
    assert (tmp_path / "late.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_a_batch_that_memory_does_not_suffice_for_is_predicted_in_portions(
    runs: dict[str, Path], shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    what = [runs["tree"], shards, "--views", 2, "--embeddings"]
    whole = predicted(tmp_path / "whole.csv", *what, tmp_path / "whole.parquet")
    predict_images = Predictor.predict

    def predict_few(self: Predictor, images: torch.Tensor) -> torch.Tensor:
        votes = predict_images(self, images)
        if len(images) > 8:  # after the hook of the embeddings has seen them
            raise torch.OutOfMemoryError("CUDA out of memory")
        return votes

    monkeypatch.setattr(Predictor, "predict", predict_few)
    result = run(*what, tmp_path / "few.parquet", "--out", tmp_path / "few.csv")
    assert result.exit_code == 0, result.output
    assert "no memory for 21 galaxies at once; continuing with 10" in result.stderr
    pd.testing.assert_frame_equal(read(tmp_path / "few.csv"), whole, atol=1e-6)
    tables = [pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("few", "whole")]
    assert tables[0]["GalaxyID"].equals(tables[1]["GalaxyID"])
    np.testing.assert_allclose(*(np.stack(each["embedding_1"]) for each in tables), atol=1e-5)


def test_two_predictions_do_not_write_to_one_file(runs: dict[str, Path], shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.csv"
    Parts(out).folder.mkdir()
    with exclusive(Parts(out).folder / "lock", busy="never"):
        result = run(runs["tree"], shards, "--out", out)
        assert result.exit_code == 1
        assert "another prediction writes there" in result.output
        assert Parts(out).folder.exists()
