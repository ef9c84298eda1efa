"""When checkpoints are saved, and what happens while they are."""

import errno
import re
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from dying import train_and_die_writing
from starting import start
from trained import run, same, weights

from training import loop
from training.checkpoint import Position, Snapshot, checkpoint_path
from training.meter import Meter


@pytest.mark.slow
def test_checkpoints_come_also_after_so_many_steps_and_minutes(
    shards: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[Position] = []
    monkeypatch.setattr(loop, "save_checkpoint", lambda folder, position, state: saved.append(position))
    arguments = (shards, "--recipe", recipe, "--fold", "1/5", "--epochs", 2)
    assert run(*arguments, "--out", tmp_path / "a", "--save-steps", 2).exit_code == 0
    assert saved == [(0, 2), (0, 4), (1, 0), (1, 2), (1, 4), (2, 0)]
    saved.clear()
    assert run(*arguments, "--out", tmp_path / "b", "--save-minutes", 1e-9).exit_code == 0
    assert saved[-6:] == [(1, step) for step in range(5)] + [(2, 0)]
    saved.clear()
    assert run(*arguments, "--out", tmp_path / "c").exit_code == 0
    assert saved == [(1, 0), (2, 0)]


@pytest.mark.slow
def test_training_goes_on_while_a_checkpoint_is_written_and_waits_before_the_next(
    two_epochs: Path, shards: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first checkpoint takes until the second epoch has begun, and the log of that epoch waits for it."""
    out, has_gone_on, add, save = tmp_path / "run", threading.Event(), Meter.add, loop.save_checkpoint
    logged = []

    def adding(self: Meter, *args: Any) -> None:
        add(self, *args)
        if (out / "member-00" / "metrics.jsonl").stat().st_size:
            has_gone_on.set()

    def saving(folder: Path, *args: Any) -> None:
        assert has_gone_on.wait(60)
        logged.append(len((folder / "metrics.jsonl").read_text().splitlines()))
        save(folder, *args)

    monkeypatch.setattr(Meter, "add", adding)
    monkeypatch.setattr(loop, "save_checkpoint", saving)
    result = run(shards, "--recipe", recipe, "--epochs", 2, "--fold", "1/5", "--out", out)
    assert result.exit_code == 0, result.output
    assert logged == [1, 2]
    assert same(weights(two_epochs), weights(out))


@pytest.mark.slow
def test_a_checkpoint_that_cannot_be_written_ends_the_training_with_one_message(
    two_epochs: Path,
    shards: Path,
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    subtests: pytest.Subtests,
) -> None:
    whole = Snapshot.write
    for where, position in (("in an epoch", Position(0, 2)), ("the last", Position(2, 0))):
        with subtests.test(where):
            out = tmp_path / where
            full = checkpoint_path(out / "member-00", position)

            def write(self: Snapshot, path: Path, full: Path = full) -> None:
                if path == full:
                    raise OSError(errno.ENOSPC, "No space left on device", str(path))
                whole(self, path)

            options = ("--epochs", 2, "--fold", "1/5", "--save-steps", 2, "--out", out)
            arguments = (shards, "--recipe", recipe, *options)
            with monkeypatch.context() as patch:
                patch.setattr(Snapshot, "write", write)
                result = run(*arguments)
            assert result.exit_code == 1
            assert re.search(rf"^Error: {full}.*No space left.*$", result.output, re.M)
            assert "Traceback" not in result.output
            resumed = run(*arguments, "--resume")
            assert resumed.exit_code == 0, resumed.output
            assert same(weights(two_epochs), weights(out))


@pytest.mark.slow
@pytest.mark.parametrize("file", ["run.json", "metrics.jsonl", "last-00002-0000000.safetensors", "curves.png"])
def test_a_run_killed_just_before_or_after_a_file_gets_its_name_ends_with_the_same_weights(
    file: str, shards: Path, recipe: Path, two_epochs: Path, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    """Files of the first and of the last moments of a run."""
    for is_done in (False, True):
        with subtests.test(is_done=is_done):
            out = tmp_path / ("after" if is_done else "before") / "run"
            options = ("--recipe", recipe, "--epochs", 2, "--fold", "1/5", "--out", out)
            arguments = [str(each) for each in (shards, *options, "--device", "cpu", "--workers", 1)]
            process = start(train_and_die_writing, arguments, file, is_done)
            process.join(120)
            assert process.exitcode == -signal.SIGKILL
            resumed = run(shards, *options, "--resume")
            assert resumed.exit_code == 0, resumed.output
            assert same(weights(two_epochs), weights(out))
            assert names_in(out) == names_in(two_epochs)


def names_in(run_folder: Path) -> list[str]:
    return sorted(path.name for path in run_folder.rglob("*") if "tfevents" not in path.name)
