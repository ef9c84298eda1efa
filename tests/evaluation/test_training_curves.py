import shutil
from pathlib import Path

import pytest

from evaluation import training
from evaluation.evidence import Evidence
from evaluation.theme import styled
from galaxy_zoo.errors import RunError
from training.run import load_run


def test_every_epoch_of_every_member_is_read_and_drawn(evidence: Evidence) -> None:
    [prediction] = evidence.predictions
    metrics = training.read_metrics(prediction.run, "tiny")
    assert metrics[["member", "epoch"]].to_numpy().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    for ours in (metrics["train_rmse"] ** 2 - metrics["loss"], metrics["validation_loss"] - metrics["rmse"] ** 2):
        assert abs(ours).max() < 1e-9
    with styled():
        made = training.section(evidence)
    for figure in made.blocks[0].figures:
        assert {f">member {number}</text>" in figure.svg for number in (0, 1)} == {True}
    captions = [figure.caption for figure in made.blocks[0].figures]
    assert captions == ["Loss", "RMSE", "Accuracy", "Learning rate", "Speed", "Waiting for data"]


DAMAGED = [
    "[]",
    "null",
    "{}",
    '{"epoch": 0, "loss": "low"}',
    '{"epoch": 0, "loss": [1]}',
    '{"epoch": 0, "loss": 1e999}',
    "[" * 10000,
    '{"epoch": 0, "loss": ' + "9" * 5000 + "}",
]


def test_a_lost_or_damaged_log_is_an_error_that_names_it(
    trained: Path, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    folder = shutil.copytree(trained, tmp_path / "run")
    log = folder / "member-01" / "metrics.jsonl"
    whole = log.read_text()
    says = r"member-01/metrics\.jsonl: (not a log of a training|line 3 is damaged)"
    for damage in DAMAGED:
        with subtests.test(damage=damage):
            log.write_text(f"{whole}{damage}\n")
            with pytest.raises(RunError, match=says) as raised:
                training.read_metrics(load_run(folder), "tiny")
            assert len(str(raised.value)) < 500
    log.unlink()
    with pytest.raises(RunError, match=r"member-01/metrics\.jsonl: not a log of a training"):
        training.read_metrics(load_run(folder), "tiny")
