"""A command whose standard streams are closed (`2>&-`, as services do) works as any other."""

import subprocess
import sys
from pathlib import Path

import pytest
from kaggle_download import contents, run

COMMANDS = [
    ("pack", "{kaggle}", "out", "--workers", "2"),
    ("append", "more", "shards", "--workers", "2"),
    ("lint", "{packed}", "--deep", "--workers", "2"),
    ("info", "{packed}"),
    ("duplicates", "{packed}", "--workers", "2"),
    ("preview", "{packed}", "sheet.png"),
    ("unpack", "{packed}", "out", "--workers", "2"),
    ("index", "tars", "--workers", "2"),
    ("synth", "out", "--count", "70", "--workers", "2"),
    ("check", "submission.csv"),
]


def prepare(folder: Path, kaggle: Path, packed: Path) -> None:
    (folder / "tars").mkdir(parents=True)
    (folder / "more").mkdir()
    for number, image in enumerate((kaggle / "images_test_rev1").iterdir()):
        (folder / "more" / f"{9000 + number}.jpg").write_bytes(image.read_bytes())
    (folder / "shards").mkdir()
    for path in packed.iterdir():
        (folder / "shards" / path.name).write_bytes(path.read_bytes())
        if path.name.startswith("train") and path.suffix == ".tar":
            (folder / "tars" / path.name).write_bytes(path.read_bytes())
    (folder / "submission.csv").write_bytes((kaggle / "training_solutions_rev1.csv").read_bytes())


@pytest.mark.slow
def test_closed_streams_change_nothing(
    kaggle: Path, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests
) -> None:
    script = 'exec "$0" -m shard_tool "$@" 0<&- 1>&- 2>&-'
    for command, *options in COMMANDS:
        with subtests.test(command):
            arguments = [command, *(each.format(kaggle=kaggle, packed=packed) for each in options)]
            left_open, closed = tmp_path / command / "open", tmp_path / command / "closed"
            for folder in (left_open, closed):
                prepare(folder, kaggle, packed)
            monkeypatch.chdir(left_open)
            assert run(*arguments).exit_code == 0
            done = subprocess.run(["sh", "-c", script, sys.executable, *arguments], cwd=closed, check=False)
            assert done.returncode == 0
            assert contents(closed) == contents(left_open)
