"""Trainings of several processes under torchrun, on the CPU."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import torch
from click.testing import CliRunner
from starting import run_script, start
from torch.distributed import TCPStore
from trained import RECIPE, metrics, run, run_and_interrupt, same, weights

import predict
from galaxy_zoo.errors import RunError
from galaxy_zoo.fold import Fold
from pipeline.cache import ShardSet
from pipeline.groups import open_groups
from training.checkpoint import Snapshot, load_state, positions
from training.ranks import Ranks
from training.run import load_run
from training.samples import open_samples

ROOT = Path(__file__).parents[1]


def torchrun(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run train.py in two processes, each with as many threads as this one: sums depend on it."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = [ROOT / "train.py", *arguments, "--device", "cpu", "--workers", "1"]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads()), "PYTHONPATH": str(ROOT)}
    everything = [*command, *map(str, script)]
    return subprocess.run(everything, env=os.environ | threads, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe whose result does not depend on how a batch is cut: no batch norm, no dropout."""
    path = tmp_path_factory.mktemp("recipe") / "plain.toml"
    text = RECIPE.replace("batch_norm = true", "batch_norm = false").replace("dropout = 0.1", "dropout = 0.0")
    path.write_text(text.replace("epochs = 4", "epochs = 2"))
    return path


@pytest.mark.slow
def test_members_on_ranks_of_their_own_are_the_same_as_in_one_process(
    shards: Path, plain: Path, tmp_path: Path
) -> None:
    arguments = (shards, "--recipe", plain, "--members", 3, "--fold", "1/5")
    alone = run(*arguments, "--out", tmp_path / "alone")
    assert alone.exit_code == 0, alone.output
    spread = torchrun(*arguments, "--out", tmp_path / "spread", "--parallel", "members")
    assert spread.returncode == 0, spread.stderr
    for member in range(3):
        assert same(weights(tmp_path / "alone", member), weights(tmp_path / "spread", member))
        scores = [[line["rmse"] for line in metrics(tmp_path / name, member)] for name in ("alone", "spread")]
        assert scores[0] == scores[1]


@pytest.mark.slow
def test_ranks_that_share_batches_go_on_within_an_epoch_of_one_process_and_learn_what_it_learns(
    shards: Path, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last step of an epoch has fewer samples: every sample still counts once, and the same."""
    arguments = (shards, "--recipe", plain, "--fold", "1/5")
    assert run(*arguments, "--out", tmp_path / "alone").exit_code == 0
    with monkeypatch.context() as patch:
        run_and_interrupt(patch, 3, *arguments, "--out", tmp_path / "shared")
    parallel = ("--parallel", "data", "--save-steps", "2", "--resume")
    shared = torchrun(*arguments, "--out", tmp_path / "shared", *parallel)
    assert shared.returncode == 0, shared.stderr
    ours, theirs = (load_state(tmp_path / name / "member-00" / "best.safetensors") for name in ("alone", "shared"))
    assert ours["epoch"] == theirs["epoch"]
    for name, weight in ours["weights"].items():
        torch.testing.assert_close(theirs["weights"][name], weight, atol=1e-4, rtol=1e-3)
    for one, other in zip(metrics(tmp_path / "alone"), metrics(tmp_path / "shared"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert one["rmse"] == pytest.approx(other["rmse"], rel=1e-4)


@contextmanager
def elastic(folder: Path, *arguments: object, agents: int, ranks: int) -> Iterator[list[subprocess.Popen[str]]]:
    """A job of several torchruns, as of as many machines, that may lose all but one of them."""
    meeting_place = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # of no machine that is lost
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nnodes",
        f"1:{agents}",
        "--nproc-per-node",
        str(ranks),
    ]
    quickly = "is_host=false,last_call_timeout=5,keep_alive_interval=1,keep_alive_max_attempt=8"
    meeting = [
        "--rdzv-backend",
        "c10d",
        "--rdzv-endpoint",
        f"127.0.0.1:{meeting_place.port}",
        "--rdzv-conf",
        quickly,
    ]
    script = [ROOT / "train.py", *arguments, "--device", "cpu", "--workers", "1", "--resume"]
    everything = [*command, *meeting, "--rdzv-id", "job", "--max-restarts", "2", *map(str, script)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads()), "PYTHONPATH": str(ROOT)}
    environment["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"  # else a rank may look for one of before the restart
    with (folder / "log").open("w") as log:
        jobs = [subprocess.Popen(everything, env=environment, stderr=log, text=True) for _ in range(agents)]
        try:
            yield jobs
        finally:
            for job in jobs:
                lose(job)


def lose(job: subprocess.Popen[str]) -> None:
    """Kill a torchrun with its ranks, which are no processes of its group."""
    if job.poll() is None:
        for each in (psutil.Process(job.pid), *psutil.Process(job.pid).children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                each.kill()
        job.wait()


def workers(job: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes that a torchrun has started and that train."""
    return [each for each in psutil.Process(job.pid).children() if "train.py" in " ".join(each.cmdline())]


def wait_for_checkpoint(out: Path) -> None:
    """Wait until a step in the middle of an epoch is saved."""
    deadline = time.monotonic() + 120
    member = out / "member-00"
    while not (member.exists() and any(position.step for position in positions(member))):
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[list[str]]:
    """Two network namespaces, as hosts whose only way to each other is a cable; commands begin with these."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("needs root, and ip of iproute2")
    names = [f"{tmp_path.name[-6:]}{os.getpid()}{end}" for end in "ab"]
    steps = [f"ip netns add {name}" for name in names]
    steps += [f"ip link add eth0 netns {names[0]} type veth peer name eth0 netns {names[1]}"]
    for number, name in enumerate(names, start=1):
        steps += [f"ip -n {name} address add 10.77.0.{number}/24 dev eth0"]
        steps += [f"ip -n {name} link set {device} up" for device in ("lo", "eth0")]
    try:
        for step in steps:
            made = subprocess.run(step.split(), capture_output=True, text=True, check=False)
            if made.returncode:
                pytest.skip(f"{step}: {made.stderr}")
        yield [f"ip netns exec {name}" for name in names]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


@pytest.mark.slow
def test_hosts_that_have_but_a_cable_between_them_train_and_predict_together(
    shards: Path, plain: Path, hosts: list[str], tmp_path: Path
) -> None:
    def together(script: str, *arguments: object) -> None:
        meeting = [
            "--nnodes",
            "2",
            "--rdzv-backend",
            "c10d",
            "--rdzv-endpoint",
            "10.77.0.1:29500",
            "--rdzv-id",
            "job",
        ]
        command = [str(ROOT / script), *map(str, arguments), "--device", "cpu", "--workers", "1"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "eth0"}
        roles = [["--local-addr", "10.77.0.1", "--rdzv-conf", "is_host=1"], ["--local-addr", "10.77.0.2"]]
        torchrun = [sys.executable, "-m", "torch.distributed.run"]
        jobs = [
            subprocess.Popen(
                [*host.split(), *torchrun, *meeting, *role, *command],
                env=environment,
                stderr=subprocess.PIPE,
                text=True,
            )
            for host, role in zip(hosts, roles, strict=True)
        ]
        try:
            errors = [job.communicate(timeout=120)[1] for job in jobs]
        finally:
            for job in jobs:
                lose(job)
        assert [job.returncode for job in jobs] == [0, 0], "\n".join(errors)

    arguments = (shards, "--recipe", plain, "--fold", "1/5")
    assert run(*arguments, "--out", tmp_path / "alone").exit_code == 0
    together("train.py", *arguments, "--out", tmp_path / "hosts", "--parallel", "data")
    for one, other in zip(metrics(tmp_path / "alone"), metrics(tmp_path / "hosts"), strict=True):
        assert one["rmse"] == pytest.approx(other["rmse"], rel=1e-4)
    together("predict.py", tmp_path / "hosts", shards, "--out", tmp_path / "hosts.csv")
    options = ("--out", tmp_path / "alone.csv", "--device", "cpu", "--workers", "1")
    arguments = [str(each) for each in (tmp_path / "hosts", shards, *options)]
    assert CliRunner().invoke(predict.main, arguments).exit_code == 0
    assert (tmp_path / "hosts.csv").read_bytes() == (tmp_path / "alone.csv").read_bytes()


@pytest.mark.slow
def test_a_rank_that_loses_another_says_so(shards: Path, plain: Path, tmp_path: Path) -> None:
    """Without torchrun, which may end it before it has said anything."""
    out, meeting_place = tmp_path / "run", TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    options = ["--recipe", plain, "--epochs", 999, "--parallel", "data", "--save-steps", 1, "--out", out]
    command = [sys.executable, ROOT / "train.py", shards, *options, "--device", "cpu", "--workers", "1"]
    where = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(meeting_place.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }
    ranks = []
    for rank in ("0", "1"):
        who = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        environment = os.environ | where | who | {"OMP_NUM_THREADS": "1"}
        ranks.append(subprocess.Popen(list(map(str, command)), env=environment, stderr=subprocess.PIPE, text=True))
    try:
        wait_for_checkpoint(out)
        ranks[1].kill()
        _, errors = ranks[0].communicate(timeout=120)
        assert ranks[0].returncode == 1
        assert "Error: rank 0 lost contact with another rank" in errors
    finally:
        for each in ranks:
            each.kill()
            each.communicate()


@pytest.mark.slow
def test_a_rank_that_is_killed_has_all_started_again_and_go_on_to_the_same_weights(
    shards: Path, plain: Path, tmp_path: Path
) -> None:
    arguments = (
        shards,
        "--recipe",
        plain,
        "--fold",
        "1/5",
        "--epochs",
        8,
        "--parallel",
        "data",
        "--save-steps",
        1,
    )
    unbroken = torchrun(*arguments, "--out", tmp_path / "unbroken")
    assert unbroken.returncode == 0, unbroken.stderr
    out = tmp_path / "killed"
    with elastic(tmp_path, *arguments, "--out", out, agents=1, ranks=2) as (job,):
        wait_for_checkpoint(out)
        workers(job)[-1].kill()
        assert job.wait(120) == 0, (tmp_path / "log").read_text()
    assert "exitcode: -9" in (tmp_path / "log").read_text()
    assert same(weights(out, 0), weights(tmp_path / "unbroken", 0))
    assert [m["loss"] for m in metrics(out)] == [m["loss"] for m in metrics(tmp_path / "unbroken")]


def run_alone(run_of_ranks: Path, out: Path, *arguments: object) -> None:
    """Make the run of several ranks, which is remembered in its run.json, in one process."""
    (out / "member-00").mkdir(parents=True)
    shutil.copy(run_of_ranks / "run.json", out)
    result = run(*arguments, "--out", out, "--resume")
    assert result.exit_code == 0, result.output


def assert_learnt_the_same(one: Path, other: Path) -> None:
    for ours, theirs in zip(metrics(one), metrics(other), strict=True):
        for name in ("loss", "rmse", "baseline_rmse"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("stick", [(), ("--stick-to-shard",)], ids=["all shards", "own shards"])
def test_a_machine_that_is_lost_leaves_the_others_to_go_on_with_the_same_batches(
    shards: Path, plain: Path, tmp_path: Path, stick: tuple[str, ...]
) -> None:
    """Three machines of a rank each, then two, to which the shards of the third go where each sticks to its own."""
    arguments = (shards, "--recipe", plain, "--fold", "1/5", "--epochs", 8, "--parallel", "data", *stick)
    out = tmp_path / "lost"
    with elastic(tmp_path, *arguments, "--save-steps", 1, "--out", out, agents=3, ranks=1) as jobs:
        wait_for_checkpoint(out)
        last = max(jobs, key=lambda job: int(workers(job)[0].environ()["RANK"]))
        lose(last)
        for job in jobs:
            assert job is last or job.wait(120) == 0, (tmp_path / "log").read_text()
    assert load_run(out).shard_groups == (3 if stick else 0)
    run_alone(out, tmp_path / "alone", *arguments)
    assert_learnt_the_same(out, tmp_path / "alone")


@pytest.mark.slow
def test_hosts_that_stick_to_their_shards_need_no_others_and_learn_what_one_process_learns(
    shards: Path, plain: Path, tmp_path: Path
) -> None:
    """Each rank is started as torchrun does it, with a folder that has its own shards only."""
    out, said = tmp_path / "run", tmp_path / "said"
    with socket.create_server(("127.0.0.1", 0)) as free:
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    options = ("--recipe", plain, "--fold", "1/5", "--parallel", "data", "--stick-to-shard")
    processes = []
    for rank in range(2):
        part = open_groups(ShardSet(shards, shards), fold=Fold(1, 5), num_groups=2, rank=rank, world_size=2)
        assert part.held_out is not None
        names = [shard.name for some in (part.samples, part.held_out) for shard in some.shards]
        (folder := tmp_path / f"shards-{rank}").mkdir()
        for name in ("manifest.json", *names, *(str(Path(name).with_suffix(".idx")) for name in names)):
            shutil.copy(shards / name, folder)
        assert len(list(folder.glob("*.tar"))) == 5
        arguments = list(map(str, (folder, *options, "--out", out, "--device", "cpu", "--workers", "1")))
        place = {"RANK": str(rank), "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
        processes.append(start(run_script, "train", arguments, says=said, **where, **place))
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0], said.read_text()
    run_alone(out, tmp_path / "alone", shards, *options)
    assert_learnt_the_same(out, tmp_path / "alone")


def test_sticking_to_shards_needs_ranks_that_share_batches(shards: Path, plain: Path, tmp_path: Path) -> None:
    arguments = (shards, "--recipe", plain, "--stick-to-shard", "--out", tmp_path / "run")
    for more, says in (
        ((), "add --parallel data, under torchrun"),
        (("--parallel", "data"), "needs several ranks: torchrun --nproc-per-node 2"),
    ):
        refused = run(*arguments, *more)
        assert (refused.exit_code, says in refused.stderr) == (2, True), refused.output
    assert not (tmp_path / "run").exists()


def test_a_run_keeps_its_groups_of_shards(shards: Path, plain: Path, tmp_path: Path) -> None:
    balanced = tmp_path / "balanced.toml"
    balanced.write_text(plain.read_text().replace("[training]", '[training]\nbalance = "smooth or disk"'))
    out = tmp_path / "run"
    arguments = (shards, "--recipe", balanced, "--fold", "1/5", "--parallel", "data", "--out", out)
    assert run(*arguments).exit_code == 0
    resumed = run(*arguments, "--stick-to-shard", "--resume")
    assert "was started with shard_groups 0, not 1; resume with the same options" in resumed.stderr
    begun = json.loads((out / "run.json").read_text())
    assert begun.pop("shard_groups") == 0
    (out / "run.json").write_text(json.dumps(begun))
    assert run(*arguments, "--resume").exit_code == 0  # as before there were groups
    (out / "run.json").write_text(json.dumps(begun | {"shard_groups": 2}))
    assert "was started with shard_groups 2, not 0" in run(*arguments, "--resume").stderr
    edited = run(*arguments, "--stick-to-shard", "--resume")
    assert "run.json is not what" in edited.stderr
    assert "(shard_groups 0, not 2)" in edited.stderr
    for path in out.glob("member-*/last-*"):  # as if it had been begun so
        state = load_state(path)
        Snapshot.of({**state, "run": {**state["run"], "shard_groups": 2}}).write(path)
    resumed = run(*arguments, "--stick-to-shard", "--resume")
    assert "balance takes the votes of all galaxies, which no rank has" in resumed.stderr
    with pytest.raises(RunError, match="3 ranks for the 2 groups of shards that the run was begun with; start at"):
        open_samples(load_run(out), ShardSet(shards, shards), None, Ranks(0, 3))
