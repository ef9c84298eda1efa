"""Disks that fill up, are read-only or hang, too little memory, a clock that jumps, shards that change, two at once."""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from harness import COMMANDS, EVALUATE, PACK, PREDICT, TRAIN, Bench, Command, Inputs, Process, disk, remount

EVERY = pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
DAY_S = 86400


def is_one_message(said: str) -> bool:
    """Whether a command that failed said so in one message."""
    return len(re.findall("^Error: ", said, re.MULTILINE)) == 1 and "Traceback" not in said


@EVERY
def test_a_full_disk_is_one_message_and_with_more_room_it_goes_on(
    command: Command, bench: Bench, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    needed = sum(map(len, bench.undisturbed(command).result.values()))
    for share in (0.1, 0.5, 0.9):
        with (
            subtests.test(share=share),
            disk(tmp_path / str(share), kib=4 * max(1, int(share * needed / 4096))) as out,
        ):
            code, said = bench.run(command, out)
            assert (code, "No space left on device" in said, is_one_message(said)) == (1, True, True), said
            assert not list(out.rglob("*.part"))
            remount(out, "size=64m")
            bench.finish(command, out)


def test_a_read_only_disk_is_one_message(bench: Bench, tmp_path: Path, subtests: pytest.Subtests) -> None:
    for command in COMMANDS:
        with subtests.test(command.name), disk(tmp_path / command.name, kib=65536) as out:
            remount(out, "ro")
            code, said = bench.run(command, out)
            assert (code, "ead-only" in said, is_one_message(said)) == (1, True, True), said
            remount(out, "rw")
            bench.finish(command, out)


def test_what_is_read_may_lie_on_a_read_only_disk(bench: Bench, tmp_path: Path) -> None:
    on = bench.inputs
    with disk(tmp_path / "disk", kib=65536) as inputs:
        there = replace(on, kaggle=inputs / "kaggle", shards=inputs / "shards", run=inputs / "run")
        for before, after in ((on.kaggle, there.kaggle), (on.shards, there.shards), (on.run, there.run)):
            shutil.copytree(before, after)
        remount(inputs, "ro")
        for command in COMMANDS:
            out = tmp_path / command.name
            out.mkdir()
            code, said = bench.starter.run(command.line(there, out), tmp_path)
            assert code == 0, said
            bench.check(command, out)


@EVERY
def test_with_too_little_memory_it_ends_and_with_more_it_goes_on(
    command: Command, bench: Bench, tmp_path: Path
) -> None:
    codes = []
    for more_mb in (2, 30, 100):
        code, said = bench.run(ALONE if command is PACK else command, tmp_path, limit_memory=more_mb)
        assert code == 0 or (is_one_message(said) and "out of memory" in said), said
        codes.append(code)
    assert command is PACK or codes[0] == 1  # what the process has may be enough for so small a pack
    bench.finish(command, tmp_path)


def test_a_clock_that_jumps_changes_nothing(bench: Bench, tmp_path: Path, subtests: pytest.Subtests) -> None:
    for command, jump_s in product(COMMANDS, (-DAY_S, DAY_S)):
        with subtests.test(command.name, jump_s=jump_s):
            (out := tmp_path / f"{command.name} {jump_s}").mkdir()
            code, said = bench.run(command, out, jumping_clock=jump_s)
            assert code == 0, said
            bench.check(command, out)


def test_files_of_the_future_are_files(bench: Bench, tmp_path: Path) -> None:
    kaggle = shutil.copytree(bench.inputs.kaggle, tmp_path / "kaggle")
    for number, path in enumerate(kaggle.rglob("*")):
        os.utime(path, (time.time() + DAY_S * number,) * 2)
    out = tmp_path / "out"
    out.mkdir()
    code, said = bench.starter.run(PACK.line(replace(bench.inputs, kaggle=kaggle), out), tmp_path)
    assert code == 0, said
    bench.check(PACK, out)


@EVERY
def test_a_disk_that_hangs_delays_and_nothing_else(command: Command, bench: Bench, tmp_path: Path) -> None:
    if missing := [tool for tool in ("mkfs.ext4", "fsfreeze") if shutil.which(tool) is None]:
        pytest.skip(f"a disk that hangs needs {missing[0]}")
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    with disk(tmp_path / "disk", image=image) as out:
        (out / "lost+found").rmdir()
        with bench.started(command, out) as process:
            wait_until(process, lambda: any(path.stat().st_size for path in out.rglob("*") if path.is_file()))
            subprocess.run(["fsfreeze", "--freeze", out], check=True)
            try:
                assert not process.ends_within(1)
            finally:
                subprocess.run(["fsfreeze", "--unfreeze", out], check=True)
            assert process.code() == 0, process.said
        bench.check(command, out)


@EVERY
def test_of_two_at_once_one_refuses_or_finds_it_done(command: Command, bench: Bench, tmp_path: Path) -> None:
    with bench.started(command, tmp_path) as first, bench.started(command, tmp_path) as second:
        ended = [(process.code(), process.said) for process in (first, second)]
    codes = sorted(code for code, _ in ended)
    assert codes in ([0, 0], [0, 1]), ended
    assert all(code == 0 or is_one_message(said) for code, said in ended), ended
    bench.check(command, tmp_path)


READS = ("shards/.pack/plan.json", "run/run.json", "*.parts/*.safetensors")
"""What is there as soon as pack, train and predict are reading images; evaluate shows progress."""

ALONE = replace(PACK, again=lambda out: ["--workers", "1"])
STREAMED = replace(TRAIN, again=lambda out: [*TRAIN.again(out), "--stamps", "stream"])
"""A training that reads its shards in every epoch."""


@contextmanager
def stopped(command: Command, inputs: Inputs, bench: Bench, out: Path) -> Iterator[Process]:
    """A command that is reading its images, and at a stop (SIGSTOP); it goes on after the block, to its end."""
    with bench.starter.started(command.line(inputs, out), out) as process:
        wait_until(process, lambda: any(any(out.glob(sign)) for sign in READS) or "validation" in process.said)
        process.send(signal.SIGSTOP)
        yield process
        process.send(signal.SIGCONT)
        process.code()


def on_a_copy(bench: Bench, folder: Path) -> tuple[Inputs, Path]:
    """The same inputs, their shards and images in a copy that may be spoilt, and an empty folder for the output."""
    on, out = bench.inputs, folder / "out"
    out.mkdir(parents=True)
    shards, kaggle = (shutil.copytree(each, folder / each.name) for each in (on.shards, on.kaggle))
    return replace(on, shards=shards, kaggle=kaggle), out


def test_shards_that_are_deleted_meanwhile_are_read_to_the_end(
    bench: Bench, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    for command in (STREAMED, PREDICT):
        with subtests.test(command.name):
            on, out = on_a_copy(bench, tmp_path / command.name)
            with stopped(command, on, bench, out) as process:
                for path in on.shards.glob("*.tar"):
                    path.unlink()
            assert process.code() == 0, process.said
            bench.check(command, out)


@pytest.mark.parametrize(
    ("command", "damage", "message"),
    [
        (STREAMED, "overwritten", "does not decode"),
        (PREDICT, "overwritten", "does not decode"),
        (STREAMED, "truncated", None),
        (PREDICT, "truncated", None),
        (EVALUATE, "deleted", "the shard is missing"),
    ],
    ids=lambda each: each.name if isinstance(each, Command) else None,
)
def test_shards_that_change_meanwhile_end_the_command_and_when_they_are_restored_it_goes_on(
    command: Command, damage: str, message: str | None, bench: Bench, tmp_path: Path
) -> None:
    """Without a message: a page of a mapped file that is not there any more is a SIGBUS, which nobody can catch."""
    on, out = on_a_copy(bench, tmp_path)
    with stopped(command, on, bench, out) as process:
        for path in on.shards.glob("*.tar"):
            spoil(path, damage)
    if message is None:
        assert process.code() == -signal.SIGBUS, process.said
    else:
        assert (process.code(), is_one_message(process.said), message in process.said) == (1, True, True)
    restored = replace(on, shards=bench.inputs.shards)
    code, said = bench.starter.run(command.line(restored, out), out)
    assert code == 0, said
    bench.check(command, out)


def test_images_that_change_while_they_are_packed_end_it_and_when_they_are_restored_it_goes_on(
    bench: Bench, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    for damage in ("deleted", "overwritten", "truncated", "longer"):
        with subtests.test(damage=damage):
            on, out = on_a_copy(bench, tmp_path / damage)
            with stopped(ALONE, on, bench, out) as process:
                for path in on.kaggle.rglob("*.jpg"):
                    spoil(path, damage)
            assert (process.code(), is_one_message(process.said)) == (1, True), process.said
            assert ("cannot be read" if damage == "deleted" else "has changed since it was listed") in process.said
            assert not (out / "shards" / "manifest.json").exists()
            bench.finish(PACK, out)


def test_a_truncated_checkpoint_is_one_message_and_when_it_is_restored_the_result_is_the_same(
    bench: Bench, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    run = shutil.copytree(bench.inputs.run, tmp_path / "run")
    best = run / "member-01" / "best.safetensors"
    os.truncate(best, best.stat().st_size // 2)
    says = f"{best}: the checkpoint is damaged"
    for command in (PREDICT, EVALUATE):
        with subtests.test(command.name):
            (out := tmp_path / command.name).mkdir()
            code, said = bench.starter.run(command.line(replace(bench.inputs, run=run), out), out)
            assert (code, is_one_message(said), says in said) == (1, True, True), said
            bench.finish(command, out)


def spoil(path: Path, damage: str) -> None:
    """Delete a file, write zeros over it, or make it longer or empty."""
    if damage == "deleted":
        path.unlink()
        return
    with path.open("r+b") as file:
        size = path.stat().st_size
        file.write(bytes(size)) if damage == "overwritten" else file.truncate(
            size + 9 if damage == "longer" else 0
        )


def wait_until(process: Process, is_true: Callable[[], bool]) -> None:
    """Wait for something that a running command does."""
    deadline = time.monotonic() + 60
    while not is_true():
        assert not process.ends_within(0.001), process.said
        assert time.monotonic() < deadline
