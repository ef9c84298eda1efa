"""The folder that is written to: nothing that no pack made is deleted in it, nor where a link in it leads."""

import os
import shutil
from pathlib import Path

import pytest
from kaggle_download import contents, pack, run

from shard_tool.shards import packing

OPTIONS = [(), ("--overwrite",), ("--resume",)]


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    folder = tmp_path / "precious"
    folder.mkdir()
    for name in ("plan.json", "train-000000.json", "thesis.tex", "lock"):
        (folder / name).write_text(f"{name} of somebody")
    return folder


def test_a_journal_that_is_a_link_is_refused_and_what_it_leads_to_stays(
    precious: Path, kaggle: Path, packed: Path, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    before = contents(precious)
    (tmp_path / "pack").mkdir()
    shutil.copytree(packed, tmp_path / "append")
    for command in ("pack", "append"):
        (tmp_path / command / f".{command}").symlink_to(precious)
        for options in OPTIONS:
            with subtests.test(command=command, options=options):
                result = run(command, kaggle, tmp_path / command, *options)
                assert (result.exit_code, f".{command} is a symbolic link" in result.stderr) == (1, True)
                assert contents(precious) == before


def test_a_link_in_the_journal_is_not_followed(
    precious: Path, kaggle: Path, tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for options in OPTIONS:
        for name in ["lock", "plan.json", "train-000000.json"]:
            with subtests.test(options=options, name=name):
                folder = tmp_path_factory.mktemp("case")
                before, out = contents(precious), folder / "out"
                (out / ".pack").mkdir(parents=True)
                (out / ".pack" / name).symlink_to(precious / name)
                assert pack(kaggle, out, *options, "--shards", 3).exit_code in (0, 1)
                assert contents(precious) == before


def test_a_file_that_no_pack_made_stays_in_the_journals_folder(
    kaggle: Path, tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for options in OPTIONS:
        with subtests.test(options=options):
            folder = tmp_path_factory.mktemp("case")
            notes = folder / "out" / ".pack" / "notes.txt"
            notes.parent.mkdir(parents=True)
            notes.write_text("mine")
            assert pack(kaggle, folder / "out", *options).exit_code == 1
            assert notes.read_text() == "mine"


DAMAGES = {
    "empty": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "twice": lambda data: data + data,
    "zeros": lambda data: bytes(len(data)),
    "nested": lambda data: b"[" * 100_000,
    "bytes": lambda data: b"\xff\xfe\0" * 50,
    "null": lambda data: b"null",
    "another value": lambda data: data.replace(b'"measured": ', b'"measured": 1', 1),
    "another type": lambda data: data.replace(b'"labelled": ', b'"labelled": null, "x": ', 1),
    "infinity": lambda data: data.replace(b'"samples": ', b'"samples": Infinity, "x": ', 1),
}


def test_a_damaged_entry_costs_no_more_than_its_shard(
    kaggle: Path, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(packing, "stated_encoding", interrupt)
        assert pack(kaggle, tmp_path / "interrupted", "--workers", 1).exit_code == 130
    for name, damage in DAMAGES.items():
        with subtests.test(name):
            out = Path(shutil.copytree(tmp_path / "interrupted", tmp_path / name))
            entry = out / ".pack" / "train-000003.json"
            before = entry.read_bytes()
            entry.write_bytes(damage(before))
            assert entry.read_bytes() != before
            result = pack(kaggle, out, "--workers", 1, "--resume")
            assert result.exit_code == 0, result.stderr
            assert contents(out) == contents(packed)


COMMANDS = [("info",), ("lint",), ("lint", "--deep"), ("preview", "sheet.png"), ("duplicates",), ("objects",)]


def test_nothing_waits_for_a_pipe_in_the_place_of_a_file(
    packed: Path, tmp_path: Path, subtests: pytest.Subtests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("manifest.json", "train-000002.idx", "train-000002.tar", "rejected.csv"):
        out = Path(shutil.copytree(packed, tmp_path / name))
        (out / name).unlink()
        os.mkfifo(out / name)
        for command, *options in COMMANDS:
            with subtests.test(name=name, command=command, options=options):
                assert run(command, out, *options).exit_code in (0, 1)


def test_a_pipe_among_the_images_is_named(kaggle: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(kaggle, tmp_path / "source"))
    os.mkfifo(source / "images_test_rev1" / "1.jpg")
    result = pack(source, tmp_path / "out")
    assert (result.exit_code, "1.jpg: a pipe, socket or device" in result.stderr) == (1, True)
