"""Finished parts of a prediction."""

from pathlib import Path

import pytest
import torch

from galaxy_zoo.errors import OutputError
from prediction.parts import Parts
from training.checkpoint import Snapshot


def test_parts_go_on_by_the_same_key_only_and_their_folder_goes_with_the_last_one(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "out.csv")
    with parts.locked():
        assert parts.begin({"views": 1, "seed": [2]}) == 0
        parts.write("a", Snapshot.of({"ids": ["7"], "votes": torch.ones(2)}))
        assert parts.is_whole("a")
        assert not parts.is_whole("b")
    with parts.locked():
        with pytest.raises(OutputError, match=r"1 finished parts .* \(of another seed\)"):
            parts.begin({"views": 1, "seed": [3]})
        assert parts.begin({"views": 1, "seed": [2]}) == 1
        assert parts.read("a")["ids"] == ["7"]
        parts.end()
    assert not parts.folder.exists()


def test_links_that_somebody_planted_are_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.safetensors").write_text("years of work")
    parts = Parts(tmp_path / "out.csv")
    parts.folder.symlink_to(precious)
    with pytest.raises(OutputError, match=r"out\.csv\.parts is a symbolic link"), parts.locked():
        pass
    parts.folder.unlink()
    for name in ("images", "lock"):
        parts.folder.mkdir(exist_ok=True)
        (parts.folder / name).symlink_to(precious)
        with pytest.raises(OutputError, match=f"{name} is a symbolic link"), parts.locked():
            pass
        (parts.folder / name).unlink()
    for name in ("votes.npy", "key.json.part", "a.safetensors.part"):
        (parts.folder / name).symlink_to(precious / "thesis.safetensors")
    with parts.locked():
        parts.begin({})
        parts.write("a", Snapshot.of({}))
        parts.end()
    assert [path.read_text() for path in precious.iterdir()] == ["years of work"]
    assert not parts.folder.exists()


def test_what_is_not_of_a_prediction_stays(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "out.csv")
    parts.folder.mkdir()
    (parts.folder / "notes.txt").write_text("mine")
    with parts.locked():
        parts.begin({})
        parts.write("a", Snapshot.of({}))
        parts.end()
    assert [path.name for path in parts.folder.iterdir()] == ["notes.txt"]


KEYS = ["", "[]", "null", '{"views": NaN}', "[" * 10_000, '{"views": ' + "9" * 5000 + "}"]


def test_parts_with_a_damaged_key_are_those_of_another_prediction(
    tmp_path: Path, subtests: pytest.Subtests
) -> None:
    for number, damage in enumerate(KEYS):
        with subtests.test(damage=damage):
            parts = Parts(tmp_path / f"{number}.csv")
            with parts.locked():
                parts.begin({"views": 1})
                parts.write("a", Snapshot.of({}))
                (parts.folder / "key.json").write_text(damage)
                with pytest.raises(OutputError, match="of another unknown kind"):
                    parts.begin({"views": 1})
