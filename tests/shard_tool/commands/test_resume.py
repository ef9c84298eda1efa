"""A pack that ends too early: what is finished stays, and resuming gives the bytes of an unbroken run."""

import fcntl
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import psutil
import pytest
from kaggle_download import Download, contents, jpeg, pack, write_slow_source

ROOT = Path(__file__).parents[3]
NUM_IMAGES = 1500


@pytest.fixture(scope="session")
def slow_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slow_source(tmp_path_factory.mktemp("slow"), NUM_IMAGES)


@pytest.fixture(scope="session")
def slow_packed(slow_source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("unbroken") / "out"
    assert pack(slow_source, out, "--workers", 2).exit_code == 0
    return contents(out)


def start(source: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    """Run `shard_tool pack` as a process of its own, in a process group of its own."""
    command = [sys.executable, "-m", "shard_tool", "pack", str(source), str(out), "--workers", "2", *options]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)


@pytest.fixture
def running(slow_source: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A pack into `tmp_path / "out"` that has finished a shard or two and is at work on others."""
    process = start(slow_source, tmp_path / "out")
    deadline = time.monotonic() + 30
    while not list((tmp_path / "out" / ".pack").glob("test-*.json")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    yield process
    process.kill()
    process.wait()
    if process.stderr is not None:
        process.stderr.close()


@pytest.mark.slow
def test_a_killed_pack_resumes_to_the_same_bytes(
    running: subprocess.Popen[str], slow_source: Path, slow_packed: dict[str, bytes], tmp_path: Path
) -> None:
    running.kill()
    running.communicate()
    out = tmp_path / "out"
    assert not (out / "manifest.json").exists()
    finished = {path.stem: (out / f"{path.stem}.tar").stat().st_ino for path in out.glob(".pack/test-*.json")}
    result = pack(slow_source, out, "--resume")
    assert result.exit_code == 0, result.stderr
    assert contents(out) == slow_packed
    kept = {name for name, inode in finished.items() if (out / f"{name}.tar").stat().st_ino == inode}
    assert kept == set(finished)


@pytest.mark.slow
def test_ctrl_c_exits_130_and_says_how_to_resume(
    running: subprocess.Popen[str], slow_source: Path, slow_packed: dict[str, bytes], tmp_path: Path
) -> None:
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does: to the parent and its workers
    _, errors = running.communicate(timeout=20)
    assert running.returncode == 130
    assert "--resume" in errors
    assert "Traceback" not in errors
    out = tmp_path / "out"
    assert not list(out.rglob("*.part"))
    assert not (out / "manifest.json").exists()
    assert pack(slow_source, out, "--resume", "--workers", 2).exit_code == 0
    assert contents(out) == slow_packed


@pytest.mark.slow
def test_a_killed_worker_is_one_message_and_what_is_finished_is_kept(
    running: subprocess.Popen[str], slow_source: Path, slow_packed: dict[str, bytes], tmp_path: Path
) -> None:
    """As the system does where memory runs out."""
    workers = [each for child in psutil.Process(running.pid).children() for each in child.children()]
    assert len(workers) == 2
    workers[0].kill()
    _, errors = running.communicate(timeout=20)
    assert running.returncode == 1
    assert "a worker process was killed, perhaps out of memory" in errors
    assert "Traceback" not in errors
    assert pack(slow_source, tmp_path / "out", "--resume", "--workers", 2).exit_code == 0
    assert contents(tmp_path / "out") == slow_packed


@pytest.mark.slow
def test_a_second_pack_into_the_same_folder_refuses(
    running: subprocess.Popen[str], slow_source: Path, slow_packed: dict[str, bytes], tmp_path: Path
) -> None:
    for option in ("--resume", "--overwrite"):
        result = pack(slow_source, tmp_path / "out", option)
        assert result.exit_code == 1
        assert "another pack is writing to it" in result.stderr
    running.communicate(timeout=60)
    assert running.returncode == 0
    assert contents(tmp_path / "out") == slow_packed


def test_a_lock_is_enough_to_refuse(kaggle: Path, tmp_path: Path) -> None:
    """Whoever does not hold it does not look: a temporary file of a running pack is never called foreign."""
    (tmp_path / ".pack").mkdir()
    (tmp_path / "of-somebody-else.txt").touch()
    with (tmp_path / ".pack" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for option in ("--resume", "--overwrite"):
            result = pack(kaggle, tmp_path, option)
            assert (result.exit_code, "another pack is writing to it" in result.stderr) == (1, True)


@pytest.fixture
def interrupted(kaggle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pack that ended before its manifest, every shard finished."""
    with monkeypatch.context() as patch:
        patch.setattr("shard_tool.shards.packing._manifest", _interrupt)
        result = pack(kaggle, tmp_path / "out")
    assert result.exit_code == 130
    return tmp_path / "out"


def _interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_damaged_shard_and_leftovers_are_made_again(interrupted: Path, kaggle: Path, packed: Path) -> None:
    (interrupted / "train-000003.tar").write_bytes(b"damaged")
    (interrupted / "train-000004.idx").unlink()
    (interrupted / ".pack" / "train-000005.json").write_text("{")
    (interrupted / "train-000006.tar.part").write_bytes(b"half")
    result = pack(kaggle, interrupted, "--resume")
    assert result.exit_code == 0, result.stderr
    assert contents(interrupted) == contents(packed)


def test_an_entry_of_an_older_version_is_made_again_with_its_shard(
    interrupted: Path, kaggle: Path, packed: Path
) -> None:
    for entry in (interrupted / ".pack").glob("t*-*.json"):
        values = json.loads(entry.read_text().splitlines()[0])
        del values["fingerprints"]
        text = json.dumps(values)
        entry.write_text(f"{text}\n{sha256(text.encode()).hexdigest()}\n")
    result = pack(kaggle, interrupted, "--resume")
    assert result.exit_code == 0, result.stderr
    assert contents(interrupted) == contents(packed)


def test_an_image_in_train_and_test_is_warned_about_after_resuming_too(
    download: Download, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    download.test["200018"] = download.train["100008"]
    source = download.write_folder(tmp_path / "in")
    with monkeypatch.context() as patch:
        patch.setattr("shard_tool.shards.packing._manifest", _interrupt)
        assert pack(source, tmp_path / "out").exit_code == 130
    assert "as test 200018 and train 100008" in pack(source, tmp_path / "out", "--resume").stderr


CHANGED = [(("--seed", 5), "--seed"), (("--shards", 3), "number of shards"), (("--labels", "half.csv"), "votes")]


def test_a_changed_option_is_named_and_refused(
    interrupted: Path, kaggle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = (kaggle / "training_solutions_rev1.csv").read_text().splitlines()
    (tmp_path / "half.csv").write_text("\n".join(rows[:15]))
    before = contents(interrupted)
    for options, changed in CHANGED:
        with subtests.test(changed):
            result = pack(kaggle, interrupted, "--resume", *options)
            assert result.exit_code == 1
            assert re.search(f"(has changed: |, ){changed}", result.stderr)
            assert {**contents(interrupted), ".pack/lock": b""} == {**before, ".pack/lock": b""}


def test_a_changed_image_is_refused(download: Download, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = download.write_folder(tmp_path / "source")
    with monkeypatch.context() as patch:
        patch.setattr("shard_tool.shards.packing._manifest", _interrupt)
        assert pack(source, tmp_path / "out").exit_code == 130
    (source / "images_training_rev1" / "100008.jpg").write_bytes(jpeg(5))
    result = pack(source, tmp_path / "out", "--resume")
    assert result.exit_code == 1
    assert "has changed: images" in result.stderr


def test_resuming_what_is_finished_does_nothing_whatever_the_layout(
    kaggle: Path, whole_download: Download, packed: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(packed, tmp_path / "out"))
    for source in (kaggle, whole_download.write_zips(tmp_path / "zips")):
        result = pack(source, out, "--resume")
        assert (result.exit_code, "finished already" in result.stderr) == (0, True), result.stderr
        assert contents(out) == contents(packed)
    other = pack(kaggle, out, "--resume", "--seed", 3)
    assert (other.exit_code, "finished with tree gz2-kaggle and seed 0" in other.stderr) == (1, True)


def test_resume_starts_anew_where_nothing_was_begun(kaggle: Path, packed: Path, tmp_path: Path) -> None:
    assert pack(kaggle, tmp_path / "out", "--resume").exit_code == 0
    assert contents(tmp_path / "out") == contents(packed)


@pytest.mark.slow
def test_a_full_disk_is_one_message_and_loses_nothing(
    slow_source: Path, slow_packed: dict[str, bytes], tmp_path: Path
) -> None:
    largest = max(map(len, slow_packed.values()))
    command = [
        sys.executable,
        "-m",
        "shard_tool",
        "pack",
        str(slow_source),
        str(tmp_path / "out"),
        "--workers",
        "1",
    ]
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest - 1, largest - 1)),
    )
    assert done.returncode == 1
    assert "File too large" in done.stderr
    assert "--resume" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "out").rglob("*.part"))
    assert pack(slow_source, tmp_path / "out", "--resume", "--workers", 2).exit_code == 0
    assert contents(tmp_path / "out") == slow_packed


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small disk needs root and the right to mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_small_disk_that_fills_up_is_one_message(workers: int, kaggle: Path, mounted: Path) -> None:
    result = pack(kaggle, mounted / "out", "--workers", workers)
    assert result.exit_code == 1
    assert "No space left on device" in result.stderr
    assert "--resume" in result.stderr
    subprocess.run(["mount", "-o", "remount,size=8m", str(mounted)], check=True)
    assert pack(kaggle, mounted / "out", "--resume", "--workers", workers).exit_code == 0


@pytest.mark.slow
def test_a_read_only_disk_is_one_message(kaggle: Path, mounted: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
    result = pack(kaggle, mounted / "out")
    assert result.exit_code == 1
    assert "Read-only file system" in result.stderr


def test_out_below_a_file_is_one_message(kaggle: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "out"):
        result = pack(kaggle, out)
        assert result.exit_code == 1
        assert "ot a " in result.stderr  # "not a folder" or "Not a directory"


def test_resuming_what_was_killed_while_it_removed_its_journal_removes_the_rest(
    kaggle: Path, packed: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(packed, tmp_path / "out")
    (out / ".pack").mkdir()
    for name in ("lock", "train-000000.json"):
        (out / ".pack" / name).touch()
    assert pack(kaggle, out, "--resume").exit_code == 0
    assert contents(out) == contents(packed)
    assert not (out / ".pack").exists()


def test_resuming_what_was_finished_from_something_else_is_refused(kaggle: Path, tmp_path: Path) -> None:
    assert pack(kaggle, tmp_path / "out").exit_code == 0
    before = contents(tmp_path / "out")
    fewer = shutil.copytree(kaggle, tmp_path / "fewer")
    next((fewer / "images_test_rev1").iterdir()).unlink()
    changed = shutil.copytree(kaggle, tmp_path / "changed")
    table = changed / "training_solutions_rev1.csv"
    lines = table.read_text().splitlines()
    table.write_text(
        "\n".join([lines[0], lines[2], lines[1].split(",")[0] + lines[2][lines[2].index(",") :], *lines[3:]])
    )
    for source, options in ((fewer, ()), (changed, ()), (kaggle, ("--shards", 3)), (tmp_path / "nowhere", ())):
        result = pack(source, tmp_path / "out", "--resume", *options)
        assert result.exit_code == 1, result.output
    assert contents(tmp_path / "out") == before


def test_a_pack_that_begins_nothing_leaves_no_trace(kaggle: Path, tmp_path: Path) -> None:
    (tmp_path / "of-somebody-else.txt").touch()
    assert "not empty" in pack(kaggle, tmp_path).stderr
    assert pack(tmp_path / "nothing", tmp_path / "out").exit_code == 1
    assert [path.name for path in tmp_path.iterdir()] == ["of-somebody-else.txt"]
