"""A command whose standard streams are closed (`2>&-`, as services do) works as any other."""

import subprocess
import sys
from pathlib import Path

import pytest
from kaggle_download import contents, run

COMMANDS = {
    "pack": ("pack", "{kaggle}", "out", "--workers", "2"),
    "append": ("append", "more", "shards", "--workers", "2"),
    "lint": ("lint", "{packed}", "--deep", "--workers", "2"),
    "info": ("info", "{packed}"),
    "duplicates": ("duplicates", "{packed}", "--workers", "2"),
    "preview": ("preview", "{packed}", "sheet.png"),
    "unpack": ("unpack", "{packed}", "out", "--workers", "2"),
    "index": ("index", "tars", "--workers", "2"),
    "synth": ("synth", "out", "--count", "70", "--workers", "2"),
    "check": ("check", "submission.csv"),
}


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
@pytest.mark.parametrize("name", COMMANDS)
def test_closed_streams_change_nothing(
    name: str, kaggle: Path, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [each.format(kaggle=kaggle, packed=packed) for each in COMMANDS[name]]
    script = 'exec "$0" -m shard_tool "$@" 0<&- 1>&- 2>&-'
    for folder in ("open", "closed"):
        prepare(tmp_path / folder, kaggle, packed)
    monkeypatch.chdir(tmp_path / "open")
    assert run(*arguments).exit_code == 0
    closed = subprocess.run(["sh", "-c", script, sys.executable, *arguments], cwd=tmp_path / "closed", check=False)
    assert closed.returncode == 0
    assert contents(tmp_path / "closed") == contents(tmp_path / "open")
