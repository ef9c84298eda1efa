"""What several tests share, made once: no test needs real data."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import settings
from making import NUM_TEST, NUM_TRAIN, pack, write_kaggle_folder
from s3_server import S3Server

from galaxy_zoo import stores

# Networks of tests are tiny: threads, which torch starts where it is first used, would wait for each other mostly.
os.environ["OMP_NUM_THREADS"] = "1"

# A shell ignores Ctrl-C for what it runs in its background, and the tests of Ctrl-C would be ignored with it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same cases every time, so a test that passed stays passed; --hypothesis-profile=default searches for new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


STARTS_PROCESSES = {"bench", "browser", "bucket", "installed"}
"""Fixtures that do; what uses them is slow."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if STARTS_PROCESSES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


status = pytest.StashKey[int]()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    session.config.stash[status] = exitstatus


@pytest.hookimpl(tryfirst=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """End at once, all being said: what no command loads into one process (Dask, numba on TBB, Arrow, DALI) is here.

    Taken down together they waited for each other for ever, once in several runs (docs/experiments.md, 2026-11-20).
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(config.stash.get(status, pytest.ExitCode.INTERNAL_ERROR))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Let torch compute with one thread, as in the processes that tests start: more of them round differently.

    Libraries that the report imports give it the threads of all cores.
    """
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def kaggle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_kaggle_folder(tmp_path_factory.mktemp("kaggle"), num_train=NUM_TRAIN, num_test=NUM_TEST)


@pytest.fixture(scope="session")
def labels(kaggle_folder: Path) -> pd.DataFrame:
    path = kaggle_folder / "training_solutions_rev1.csv"
    return pd.read_csv(path, dtype={"GalaxyID": str}).set_index("GalaxyID")


@pytest.fixture(scope="session")
def shards(kaggle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(kaggle_folder, tmp_path_factory.mktemp("packed") / "shards", "--shards", "10")


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install what .dockerignore lets into the image; return the folder, which holds packages and `bin`."""
    root, source = Path(__file__).parents[1], tmp_path_factory.mktemp("source")
    for line in (root / ".dockerignore").read_text().splitlines():
        if line.startswith("!"):
            path = root / line[1:]
            (shutil.copytree if path.is_dir() else shutil.copy)(path, source / path.name)
    target = tmp_path_factory.mktemp("installed")
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target", target]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, source], check=True)
    return target


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    pytest.importorskip("s3fs", reason="object stores need the extra s3")
    server = S3Server(tmp_path_factory.mktemp("store"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def bucket(server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A new bucket, as the folder that the server makes it of; the environment has what is needed to use it."""
    folder = server.folder / tmp_path.name.replace("_", "-").lower()
    folder.mkdir()
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    stores.open_store.cache_clear()
    yield folder
    stores.open_store.cache_clear()
    shutil.rmtree(folder)
