import json
from pathlib import Path
from typing import Any

import pytest

from ensemble.recipe import load_recipe
from galaxy_zoo.errors import OutputError, RecipeError, RunError
from galaxy_zoo.tree import load_tree
from training.run import Data, Run, load_run

KEY = "a" * 64


def make(folder: Path) -> Run:
    folder.mkdir(exist_ok=True)
    data = Data(tree=load_tree("gz2-kaggle"), image_px=(96, 96), manifest_sha256=KEY, vote_mean=(0.5,) * 37)
    run = Run(
        folder=folder,
        recipe=load_recipe("quick"),
        members=2,
        seed=3,
        fold="0/5",
        pretrained=True,
        data=data,
        versions={"python": "3"},
    )
    run.create()
    return run


def test_a_run_comes_back_as_it_was(tmp_path: Path) -> None:
    run = make(tmp_path)
    assert load_run(tmp_path) == run
    assert load_run(tmp_path).identity == run.identity


def edited(text: str, key: str, value: Any) -> str:
    saved = json.loads(text)
    *path, last = key.split(".")
    part = saved
    for each in path:
        part = part[each]
    part[last] = value
    return json.dumps(saved)


IMPOSSIBLE = [
    *[("members", each) for each in (0, -1, 100, 10**9, 1.5, "2", None, True, float("inf"))],
    *[("seed", each) for each in (-1, 2**32, 10**40, "0")],
    *[("fold", each) for each in ("5/5", "1", "", None, ["0/5"])],
    *[("pretrained", each) for each in (1, "yes", None)],
    *[("shard_groups", each) for each in (-1, 10**20, "1")],
    *[("data", each) for each in (None, {}, [], "x")],
    *[("data.image_px", each) for each in ([0, 96], [96, 10**9], [96], [96, 96, 3], "96", [96.5, 96], 96)],
    *[("data.vote_mean", each) for each in ([0.5], ["x"] * 37, "x", [float("nan")] * 37)],
    *[("data.manifest_sha256", each) for each in (1, None)],
    *[("data.tree", each) for each in (None, {}, [], {"name": "x"})],
    *[("recipe", each) for each in (None, {}, [], "quick", {"view": None})],
    *[("versions", each) for each in (1, None, [1])],
    ("unknown", 1),
]


def test_a_run_that_says_something_impossible_is_one_message(tmp_path: Path, subtests: pytest.Subtests) -> None:
    make(tmp_path)
    whole = (tmp_path / "run.json").read_text()
    for key, value in IMPOSSIBLE:
        with subtests.test(key=key, value=value):
            (tmp_path / "run.json").write_text(edited(whole, key, value))
            with pytest.raises((RunError, RecipeError), match=r"run\.json") as caught:
                load_run(tmp_path)
            assert "\n" not in str(caught.value)


NO_RUNS = [
    *(b"", b"null", b"[]", b"3", b"{", b"{}", b"\0", b"\xff\xfe\xfd{}"),
    *(b"[" * 5000, b'{"members": ' + b"9" * 5000 + b"}", b'{"seed": Infinity}'),
]


def test_a_run_json_of_something_else_is_one_message(tmp_path: Path, subtests: pytest.Subtests) -> None:
    for number, data in enumerate(NO_RUNS):
        with subtests.test(data=data[:20], number=number):
            (tmp_path / "run.json").write_bytes(data)
            with pytest.raises(RunError, match=r"run\.json: damaged") as caught:
                load_run(tmp_path)
            assert "\n" not in str(caught.value)


def test_a_lock_that_is_a_link_is_refused_and_its_target_kept(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    (precious := tmp_path / "precious.txt").write_text("mine")
    (run.folder / "lock").symlink_to(precious)
    with pytest.raises(OutputError, match="lock is a symbolic link"), run.locked():
        pass
    assert precious.read_text() == "mine"


def test_a_lock_leaves_nothing_where_no_run_was_made(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    with run.locked():
        pass
    assert (run.folder / "lock").exists()
    (run.folder / "run.json").unlink()
    for folder in run.folder.glob("member-*"):
        folder.rmdir()
    with run.locked():
        run.check_free()
    assert (run.folder / "lock").exists()  # it was there before
    (run.folder / "lock").unlink()
    with run.locked():
        run.check_free()
    assert list(run.folder.iterdir()) == []
    run.folder.rmdir()
    with run.locked():
        run.check_free()
    assert not run.folder.exists()


def test_a_linked_folder_is_no_place_for_a_new_run(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    (run.folder / "run.json").unlink()
    (run.folder / "member-00").rmdir()
    (tmp_path / "elsewhere").mkdir()
    (run.folder / "member-00").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="is not empty"):
        run.check_free()
