"""Packing on a real Dask cluster: the bytes of a local pack, whatever becomes of the workers."""

import ast
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster
from kaggle_download import Download, contents, pack, packed_samples, run, write_slow_source

from galaxy_zoo.errors import OutputError
from shard_tool.shards import cluster as cluster_module
from shard_tool.shards.cluster import TASKS_A_THREAD, Cluster
from shard_tool.shards.parallel import Tick

ROOT = Path(__file__).parents[3]
NUM_IMAGES = 300
NUM_THREADS = 4

pytestmark = pytest.mark.slow


def start_cluster(workers: int) -> LocalCluster:
    return LocalCluster(
        n_workers=workers, threads_per_worker=2, dashboard_address=":0", scheduler_port=0, memory_limit=0
    )


@pytest.fixture(scope="module")
def dask() -> Iterator[LocalCluster]:
    """Two worker processes of two threads each."""
    with start_cluster(2) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def nobody() -> Iterator[LocalCluster]:
    """A scheduler without workers."""
    with start_cluster(0) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def slow_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slow_source(tmp_path_factory.mktemp("slow"), NUM_IMAGES)


@pytest.fixture(scope="module")
def slow_packed(slow_source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("unbroken") / "out"
    assert pack(slow_source, out).exit_code == 0
    return contents(out)


@contextmanager
def half_way(out: Path, disturb: Callable[[], object]) -> Iterator[None]:
    """Do something as soon as the first shard of a pack is finished."""

    def watch() -> None:
        while not list(out.glob(".pack/t*.json")):
            time.sleep(0.002)
        disturb()

    thread = threading.Thread(target=watch)
    thread.start()
    yield
    thread.join()


def pack_on(cluster: LocalCluster, source: Path, out: Path, *options: object) -> Any:
    return run("pack", source, out, "--scheduler", cluster.scheduler_address, *options)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait a second where a user would wait for minutes."""
    for name in ("CONNECT_S", "WORKERS_S"):
        monkeypatch.setattr(cluster_module, name, 1)


def test_a_cluster_packs_the_same_bytes_and_lints_them(
    dask: LocalCluster, download: Download, packed: Path, tmp_path: Path
) -> None:
    source = download.write_zip_of_zips(tmp_path / "source.zip", zipfile.ZIP_DEFLATED)
    result = pack_on(dask, source, tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert contents(tmp_path / "out") == contents(packed)
    linted = run("lint", tmp_path / "out", "--deep", "--scheduler", dask.scheduler_address)
    assert linted.exit_code == 0
    assert "good: 42 samples" in linted.stdout


def test_paths_may_be_relative_here(
    dask: LocalCluster, kaggle: Path, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(kaggle)
    result = pack_on(dask, Path("link"), Path("out"))
    assert result.exit_code == 0, result.stderr
    assert contents(tmp_path / "out") == contents(packed)


def test_append_on_a_cluster_is_that_of_one_machine(
    dask: LocalCluster, kaggle: Path, packed: Path, tmp_path: Path
) -> None:
    outs = [tmp_path / "here", tmp_path / "there"]
    tests = tmp_path / "more" / "images_test_rev1"
    shutil.copytree(kaggle / "images_test_rev1", tests)
    for path in tests.iterdir():
        path.rename(tests / f"9{path.name}")
    for out, options in zip(outs, (["--workers", 1], ["--scheduler", dask.scheduler_address]), strict=True):
        shutil.copytree(packed, out)
        result = run("append", tests.parent, out, *options)
        assert result.exit_code == 0, result.stderr
    assert contents(outs[0]) == contents(outs[1])


def test_a_killed_worker_costs_nothing_but_time(
    dask: LocalCluster, slow_source: Path, slow_packed: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    victim = next(iter(dask.workers.values())).pid
    with half_way(out, lambda: os.kill(victim, signal.SIGKILL)):
        result = pack_on(dask, slow_source, out)
    assert result.exit_code == 0, result.stderr
    assert victim not in {worker.pid for worker in dask.workers.values()}
    assert contents(out) == slow_packed
    assert len(packed_samples(out, "test")) == NUM_IMAGES


def test_ctrl_c_ends_the_tasks_and_resuming_finishes_them(
    dask: LocalCluster, slow_source: Path, slow_packed: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with half_way(out, lambda: os.kill(os.getpid(), signal.SIGINT)):
        result = pack_on(dask, slow_source, out)
    assert result.exit_code == 130
    assert "--resume" in result.stderr
    deadline = time.monotonic() + 10
    while list(out.rglob("*.part")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    finished = {path.stem: (out / f"{path.stem}.tar").stat().st_ino for path in out.glob(".pack/test-*.json")}
    assert 0 < len(finished) < 10
    assert pack_on(dask, slow_source, out, "--resume").exit_code == 0
    assert contents(out) == slow_packed
    assert all((out / f"{name}.tar").stat().st_ino == inode for name, inode in finished.items())


@pytest.fixture
def direct(dask: LocalCluster) -> Iterator[Cluster]:
    with Client(dask, set_as_default=False) as client:
        yield Cluster(client, dask.scheduler_address)


def test_only_a_few_tasks_are_handed_out_at_a_time(direct: Cluster) -> None:
    num_drawn = 0

    def tasks() -> Iterator[int]:
        nonlocal num_drawn
        while num_drawn < 40:
            num_drawn += 1
            yield num_drawn

    def double(task: int, tick: Tick) -> int:
        tick()
        return 2 * task

    num_images: list[int] = []
    results = []
    for result in direct.run(double, tasks(), num_images.append):
        results.append(result)
        assert num_drawn < len(results) + 2 * TASKS_A_THREAD * NUM_THREADS
    assert sorted(results) == [2 * task for task in range(1, 41)]
    assert num_images == [1] * 40


def test_the_error_of_a_task_comes_back_as_it_is(direct: Cluster) -> None:
    def fail(task: Exception, tick: Tick) -> None:
        raise task

    for error in (OutputError("OUT is full"), OSError(5, "Input/output error")):
        with pytest.raises(type(error)) as raised:
            list(direct.run(fail, [error], lambda _: None))
        assert str(raised.value) == str(error)


def test_a_task_that_kills_its_workers_is_named(direct: Cluster, dask: LocalCluster) -> None:
    def die(task: str, tick: Tick) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    dask.scheduler.allowed_failures = 0
    try:
        with pytest.raises(OutputError, match=r"train-000003\.tar: 1 workers died while they had it.*--resume"):
            list(direct.run(die, ["train-000003.tar"], lambda _: None))
    finally:
        dask.scheduler.allowed_failures = 3


UNREACHABLE = [("tcp://127.0.0.1:9", "Timed out"), ("nonsense://x:1", "unknown address scheme")]


@pytest.mark.usefixtures("quick")
def test_a_scheduler_that_cannot_be_reached(kaggle: Path, tmp_path: Path, subtests: pytest.Subtests) -> None:
    for address, why in UNREACHABLE:
        with subtests.test(address):
            result = run("pack", kaggle, tmp_path / "out", "--scheduler", address)
            assert result.exit_code == 1
            assert f"{address}: no Dask scheduler answers ({why}" in result.stderr
            assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("quick")
# Dask's client, which was never connected, waits for itself when it is deleted
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_another_server_is_no_scheduler(kaggle: Path, tmp_path: Path) -> None:
    def answer() -> None:
        client, _ = server.accept()
        with client:
            client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            client.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=answer, daemon=True).start()
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        result = run("pack", kaggle, tmp_path / "out", "--scheduler", address)
    assert (result.exit_code, "no Dask scheduler answers" in result.stderr) == (1, True)


@pytest.mark.usefixtures("quick")
def test_a_cluster_without_workers(nobody: LocalCluster, kaggle: Path, tmp_path: Path) -> None:
    result = pack_on(nobody, kaggle, tmp_path / "out")
    assert result.exit_code == 1
    assert "waiting up to 1 s for a worker" in result.stderr
    assert f"no worker has come in 1 s; start some with: dask worker {nobody.scheduler_address}" in result.stderr


@contextmanager
def worker_of(cluster: LocalCluster, folder: Path, *prefix: str, path: Path = ROOT) -> Iterator[None]:
    """A worker as a process of its own, which looks for modules in `path`."""
    command = [*prefix, sys.executable, "-m", "distributed.cli.dask_worker", cluster.scheduler_address]
    options = ["--no-nanny", "--no-dashboard", "--nthreads", "1", "--local-directory", str(folder)]
    process = subprocess.Popen(
        command + options,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 30
        while not cluster.scheduler.workers:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield
    finally:
        process.kill()
        process.wait()
        while cluster.scheduler.workers:
            time.sleep(0.01)


def test_a_worker_with_another_version(nobody: LocalCluster, kaggle: Path, tmp_path: Path) -> None:
    for package in ("galaxy_zoo", "shard_tool"):
        shutil.copytree(ROOT / package, tmp_path / package)
    (tmp_path / "galaxy_zoo" / "version.py").write_text('__version__ = "0.0.9"\n')
    with worker_of(nobody, tmp_path, path=tmp_path):
        result = pack_on(nobody, kaggle, tmp_path / "out")
    assert result.exit_code == 1
    assert "has galaxy-zoo-pipeline 0.0.9, here it is" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_worker_without_this_package(nobody: LocalCluster, kaggle: Path, tmp_path: Path) -> None:
    (tmp_path / "shard_tool.py").write_text("raise ModuleNotFoundError(\"No module named 'shard_tool'\")")
    with worker_of(nobody, tmp_path, path=tmp_path):
        result = pack_on(nobody, kaggle, tmp_path / "out")
    assert result.exit_code == 1
    assert "cannot run this (ModuleNotFoundError(\"No module named 'shard_tool'\")); install" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_worker_that_does_not_see_source_or_out(nobody: LocalCluster, kaggle: Path, tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    hide = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    mount = f'mount -t tmpfs tmpfs {hidden} && exec "$@"'
    if subprocess.run([*hide, mount, "sh", "true"], capture_output=True, check=False).returncode:
        pytest.skip("hiding a folder from a process needs the right to make namespaces")
    shutil.copytree(kaggle, hidden / "source")
    with worker_of(nobody, tmp_path, *hide, mount, "sh"):
        source_hidden = pack_on(nobody, hidden / "source", tmp_path / "out")
        out_hidden = pack_on(nobody, kaggle, hidden / "out")
    for result, path in ((source_hidden, hidden / "source"), (out_hidden, hidden / "out")):
        assert result.exit_code == 1
        assert f"{path} is not there on worker tcp://" in result.stderr
        assert "must be on a file system that all workers share" in result.stderr
    assert not (tmp_path / "out").exists()
    assert not list(hidden.glob("out/*.tar"))


def test_dask_not_installed(kaggle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    result = run("pack", kaggle, tmp_path / "out", "--scheduler", "tcp://127.0.0.1:8786")
    assert result.exit_code == 1
    assert "--scheduler needs Dask; install it with: pip install distributed" in result.stderr


def test_workers_are_those_of_the_cluster(subtests: pytest.Subtests) -> None:
    for command in (("pack", "a", "b"), ("append", "a", "b"), ("lint", "a")):
        with subtests.test(command[0]):
            result = run(*command, "--scheduler", "tcp://127.0.0.1:8786", "--workers", 2)
            assert (result.exit_code, "exclude each other" in result.stderr) == (2, True)


def test_the_script_for_slurm_asks_for_what_it_says() -> None:
    jobqueue = pytest.importorskip("dask_jobqueue")
    page = (ROOT / "docs" / "scaling.md").read_text()
    script = ast.parse(page.split("```python\n")[1].split("```")[0])
    call = next(
        node
        for node in ast.walk(script)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "SLURMCluster"
    )
    made = compile(ast.fix_missing_locations(ast.Expression(call)), "docs/scaling.md", "eval")
    names = {"SLURMCluster": jobqueue.SLURMCluster, "BIN": "/shared/galaxy-zoo/.venv/bin"}
    with eval(made, names) as cluster:
        job = cluster.job_script()
    for line in ("#SBATCH -p cpu", "#SBATCH --cpus-per-task=32", "#SBATCH -t 12:00:00"):
        assert line in job
    worker = "/shared/galaxy-zoo/.venv/bin/python -m distributed.cli.dask_worker"
    assert worker in job
    assert "--nthreads 1" in job
    assert "--nworkers 32" in job
    assert "--lifetime 11h" in job
