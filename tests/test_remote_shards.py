"""The scripts on shards of an S3 server: the same bytes as from the disk, and one line where that cannot be."""

import shutil
import signal
import socket
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from making import RECIPE
from s3_server import SECRET, url
from starting import run_script, start
from trained import same

import evaluate
import predict
import train
import views
from evaluation.galaxies import open_sets
from galaxy_zoo import stores
from galaxy_zoo.manifest import read_manifest
from galaxy_zoo.remote import path_of
from pipeline.augment import FixedView
from pipeline.cache import Cache, open_set
from prediction.source import Reading, Shards
from training.checkpoint import load_state
from training.meter import Meter
from training.run import load_run

CPU = ("--device", "cpu", "--workers", "1")


def run(command: click.Command, *arguments: object) -> Result:
    options = () if command is views.main else CPU
    return CliRunner().invoke(command, [*map(str, arguments), *options])


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_state(folder / "member-00" / "best.safetensors")["weights"]


@pytest.fixture
def stored(shards: Path, bucket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder behind a set of shards in the store; the cache is CACHE/galaxy-zoo/shards in `tmp_path`."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "CACHE"))
    return Path(shutil.copytree(shards, bucket / "shards"))


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def trained(shards: Path, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the shards on the disk."""
    out = tmp_path_factory.mktemp("trained") / "run"
    result = run(train.main, shards, "--recipe", recipe, "--fold", "1/5", "--out", out)
    assert result.exit_code == 0, result.output
    return out


@pytest.mark.slow
def test_training_gives_the_same_weights_also_where_it_was_begun_on_the_disk(
    trained: Path, stored: Path, shards: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--recipe", recipe, "--fold", "1/5")
    whole = run(train.main, url(stored), *options, "--out", tmp_path / "whole")
    assert whole.exit_code == 0, whole.output
    assert same(weights(tmp_path / "whole"), weights(trained))
    with monkeypatch.context() as patch:
        add, steps = Meter.add, 0

        def interrupting(self: Meter, *arguments: object) -> None:
            nonlocal steps
            steps += 1
            add(self, *arguments)
            if steps == 3:
                signal.raise_signal(signal.SIGINT)

        patch.setattr(Meter, "add", interrupting)
        assert run(train.main, shards, *options, "--out", tmp_path / "resumed").exit_code == 130
    resumed = run(train.main, url(stored), *options, "--out", tmp_path / "resumed", "--resume")
    assert resumed.exit_code == 0, resumed.output
    assert "fetching" not in resumed.stderr
    assert same(weights(tmp_path / "resumed"), weights(trained))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "splits"),
    [((), {"test"}), (("--blend", "best-k"), {"test", "train"}), (("--out-of-fold",), {"train"})],
    ids=["test", "blend", "out of fold"],
)
def test_predictions_have_the_same_bytes_and_only_what_they_need_is_fetched(
    options: tuple[str, ...], splits: set[str], trained: Path, stored: Path, shards: Path, tmp_path: Path
) -> None:
    written = []
    for number, source in enumerate((shards, url(stored))):
        out = tmp_path / f"{number}.csv"
        result = run(predict.main, trained, source, "--views", 2, "--out", out, *options)
        assert result.exit_code == 0, result.output
        written.append(out.read_bytes())
    assert written[0] == written[1]
    fetched = (tmp_path / "CACHE/galaxy-zoo/shards").glob("*/*.tar")
    assert {path.name.partition("-")[0] for path in fetched} == splits


@pytest.mark.slow
def test_ranks_of_a_machine_share_what_is_fetched(
    trained: Path, stored: Path, shards: Path, tmp_path: Path
) -> None:
    """Ranks are started as torchrun does it."""
    alone = run(predict.main, trained, shards, "--batch-size", 2, "--out", tmp_path / "alone.csv")
    assert alone.exit_code == 0, alone.output
    what = [trained, url(stored), "--batch-size", 2, "--out", tmp_path / "ranks.csv", *CPU]
    with socket.create_server(("127.0.0.1", 0)) as free:
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    where |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    said = tmp_path / "said"
    processes = [
        start(run_script, "predict", list(map(str, what)), says=said, **where, RANK=rank, LOCAL_RANK=rank)
        for rank in "01"
    ]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0], said.read_text()
    num_shards = len(list(stored.glob("test-*.tar")))
    assert said.read_text().count(f"fetching {num_shards} shards into") == 1
    assert (tmp_path / "ranks.csv").read_bytes() == (tmp_path / "alone.csv").read_bytes()


@pytest.mark.slow
def test_sheets_and_what_is_evaluated_are_the_same(
    trained: Path, stored: Path, shards: Path, tmp_path: Path
) -> None:
    for name, source in (("disk", shards), ("store", url(stored))):
        result = run(
            views.main, source, tmp_path / f"{name}.png", "--split", "test", "--count", 1, "--random-views", 1
        )
        assert result.exit_code == 0, result.output
    assert (tmp_path / "disk.png").read_bytes() == (tmp_path / "store.png").read_bytes()
    found = []
    for path in (shards, path_of(url(stored))):
        with open_set(path, Cache(tmp_path / "CACHE")) as source:
            reading = Reading(views=(FixedView(),), batch_size=16, device=torch.device("cpu"))
            split = Shards(shard_set=source, manifest=read_manifest(source.folder), split="train", reading=reading)
            sets = open_sets(split, [load_run(trained)])
            assert sets.training is not None
            found.append([sets.validation.samples, sets.training.samples])
    for one, other in zip(*found, strict=True):
        assert np.array_equal(one.keys, other.keys)
        assert all(np.array_equal(one.jpegs(np.array([at]))[0], other.jpegs(np.array([at]))[0]) for at in range(5))
    report = run(evaluate.main, trained, url(stored), "--split", "test", "--out", tmp_path / "report")
    assert report.exit_code == 1
    assert f"no votes in the test shards of {url(stored)} to evaluate on" in report.stderr


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


UNFETCHED = {
    "no room": (
        {},
        ("--cache-gb", "1e-5"),
        "has room for 0.00 GB (--cache-gb 1e-05); name a folder on a larger disk",
    ),
    "no server": ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, (), "the store fails for"),
    "wrong secret": ({"AWS_SECRET_ACCESS_KEY": "a wrong one"}, (), "access denied"),
    "wrong bytes": ({}, (), "/shards/train-000004.tar: its bytes are not those that the manifest"),
}


def test_what_cannot_be_fetched_is_one_message_before_a_run_is_made(
    stored: Path,
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    subtests: pytest.Subtests,
) -> None:
    out = tmp_path / "run"
    for case, (variables, options, says) in UNFETCHED.items():
        with subtests.test(case), monkeypatch.context() as patch:
            patch.setenv(stores.RETRY_VARIABLE, "0.1")
            for name, value in variables.items():
                patch.setenv(name, value)
            stores.open_store.cache_clear()
            if case == "wrong bytes":
                flip_a_byte(stored / "train-000004.tar")
            result = run(train.main, url(stored), "--recipe", recipe, "--fold", "1/5", "--out", out, *options)
            assert result.exit_code == 1
            assert says in result.stderr
            assert result.stderr.splitlines()[-1].startswith("Error: ")
            assert SECRET not in result.output
            assert not out.exists()


def test_only_the_shards_of_a_prediction_may_be_in_a_store(stored: Path) -> None:
    result = run(predict.main, "s3://bucket/run", url(stored))
    assert result.exit_code == 2
    assert "s3://bucket/run: this has to be on the disk" in " ".join(result.stderr.split())
