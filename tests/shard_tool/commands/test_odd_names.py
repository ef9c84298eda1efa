"""Names with markup, quotes, emoji or right-to-left text work in every command, and no terminal obeys a name."""

from pathlib import Path

import pytest
from kaggle_download import TEST_FOLDER, Download, contents, jpeg, pack, run

IDS = ("<b>&amp;", 'it\'s"quoted"', "שלום", "مجرة", "🌌", "👩", "%(id)s{0}", "é")
TREE = r"""
name = "tree\u001b[31m\nnext"
id_column = "GalaxyID"
[[question]]
name = "q"
columns = ["a", "b"]
answers = ["\u001b[2J", "b"]
"""


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    download = Download({}, {name: jpeg(number) for number, name in enumerate(IDS)})
    source = tmp_path / "in" / TEST_FOLDER
    source.mkdir(parents=True)
    for name, data in download.test.items():
        (source / f"{name}.jpg").write_bytes(data)
    (tmp_path / "tree.toml").write_text(TREE)
    result = pack(tmp_path / "in", tmp_path / "shards", "--tree", tmp_path / "tree.toml")
    assert result.exit_code == 0, result.output
    return tmp_path / "shards"


def test_images_of_any_name_come_back(odd: Path, tmp_path: Path) -> None:
    assert run("lint", odd, "--deep", "--workers", 1).exit_code == 0
    assert run("unpack", odd, tmp_path / "out", "--workers", 1).exit_code == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "in")


def test_a_sheet_of_any_names_is_drawn(odd: Path, tmp_path: Path) -> None:
    result = run("preview", odd, tmp_path / "sheet.png", "--count", len(IDS))
    assert result.exit_code == 0, result.output
    assert (tmp_path / "sheet.png").stat().st_size > 1000


def test_a_terminal_obeys_no_name(odd: Path, subtests: pytest.Subtests) -> None:
    evil = odd.rename(odd.with_name("sh\x1b[31m\nards"))
    (evil / "stranger\x1b]0;x\x07.tar").write_bytes(b"")
    (evil / "test-000000.idx").write_text("v1.2 0\n")
    for command, *options in (("info",), ("lint",), ("lint", "--deep"), ("duplicates",)):
        with subtests.test(command=command, options=options):
            result = run(command, evil, *options)
            assert "\x1b" not in result.output
            assert "\x07" not in result.output
            assert result.exit_code == (0 if command == "info" else 1)
            if command == "info":
                assert r"tree\x1b[31m\nnext" in result.stdout
