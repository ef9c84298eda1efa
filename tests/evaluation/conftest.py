"""A small trained run, the evidence of it, and its report, made once."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from making import RECIPE

import evaluate
import train
from evaluation.evidence import Evidence, RunVotes, Scored
from galaxy_zoo.fold import Fold
from galaxy_zoo.scores import Resampling
from galaxy_zoo.votes import mean_votes
from pipeline.shards import open_shards
from training.run import load_run

CPU = ("--device", "cpu", "--workers", "1")


def invoke(main, *arguments: object):
    return CliRunner().invoke(main, [*map(str, arguments), *CPU])


@pytest.fixture(scope="session")
def trained(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two members with fold 1/5 held out, in bf16, as on a GPU."""
    folder = tmp_path_factory.mktemp("evaluated")
    (folder / "tiny.toml").write_text(f'{RECIPE}precision = "bf16"\n')
    result = invoke(
        train.main,
        shards,
        "--recipe",
        folder / "tiny.toml",
        "--members",
        2,
        "--fold",
        "1/5",
        "--out",
        folder / "tiny",
    )
    assert result.exit_code == 0, result.output
    return folder / "tiny"


@pytest.fixture(scope="session")
def report(trained: Path, shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report of that run, from the plain view."""
    out = tmp_path_factory.mktemp("report") / "deep" / "report"
    options = ("--views", 1, "--points", 24, "--cams", 2, "--embedding", "pca,tsne")
    result = invoke(evaluate.main, trained, shards, "--out", out, *options)
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="session")
def evidence(trained: Path, shards: Path) -> Evidence:
    """Two members that predict the fold with errors of their own, from two views."""
    held_out = open_shards(shards, "train", fold=Fold(1, 5), held_out=True)
    rng = np.random.default_rng(0)
    shape = (2, 2, *held_out.votes.shape)
    predicted = np.clip(held_out.votes + rng.normal(0, 0.1, shape), 0, 1).astype(np.float32)
    run = load_run(trained)
    return Evidence(
        tree=run.data.tree,
        validation=Scored(held_out, held_out.votes),
        training=None,
        mean_votes=mean_votes(held_out.votes),
        predictions=(RunVotes(name="tiny", run=run, validation=predicted),),
        resampling=Resampling(resamples=100),
    )
