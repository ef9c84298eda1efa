import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from galaxy_zoo.errors import RunError
from training import checkpoint
from training.checkpoint import (
    KEPT,
    Position,
    Snapshot,
    load_header,
    load_state,
    load_weights,
    positions,
    save_checkpoint,
)

STATE: dict[str, Any] = {
    "weights": {"a.b": torch.arange(6.0).reshape(2, 3), "scalar": torch.tensor(7)},
    "filters": torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "optimiser": {
        "state": {0: {"step": torch.tensor(3.0)}, 1: {}},
        "groups": [{"lr": 0.1 + 0.2, "betas": [0.9, 0.99]}],
    },
    "nothing": None,
    "text": "tensor",
    "best": float("inf"),
}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def test_a_state_comes_back_exactly_with_numbers_as_keys_and_from_any_memory_format(tmp_path: Path) -> None:
    Snapshot.of(STATE).write(tmp_path / "c.safetensors")
    assert same(STATE, load_state(tmp_path / "c.safetensors"))


def test_a_snapshot_is_of_its_moment_whatever_changes_before_it_is_written(tmp_path: Path) -> None:
    state: dict[str, Any] = {"weights": torch.zeros(3, 2).t(), "groups": [{"lr": 0.5}]}
    snapshot = Snapshot.of(state)
    state["weights"] += 1
    state["groups"][0]["lr"] = 0.25
    snapshot.write(tmp_path / "c.safetensors")
    assert same(load_state(tmp_path / "c.safetensors"), {"weights": torch.zeros(2, 3), "groups": [{"lr": 0.5}]})


def flip_a_bit(data: bytes) -> bytes:
    return data[:-3] + bytes([data[-3] ^ 1]) + data[-2:]


def replace_once(before: bytes, after: bytes) -> Callable[[bytes], bytes]:
    def replaced(data: bytes) -> bytes:
        assert data.count(before) == 1
        return data.replace(before, after)

    return replaced


DAMAGES: list[tuple[Callable[[bytes], bytes], str]] = [
    *((lambda data, size=size: data[:size], "the checkpoint is damaged") for size in (0, 5, 100, 400)),
    (flip_a_bit, "its checksum differs"),
    (replace_once(b'"F32","shape":[2,3]', b'"I32","shape":[2,3]'), "its checksum differs"),  # of the same bytes
    (replace_once(b"[2,3]", b"[3,2]"), "its checksum differs"),
]


def test_a_damaged_or_missing_checkpoint_is_named(tmp_path: Path, subtests: pytest.Subtests) -> None:
    path = tmp_path / "c.safetensors"
    with pytest.raises(RunError, match="no such checkpoint"):
        load_state(path)
    Snapshot.of(STATE).write(path)
    whole = path.read_bytes()
    for number, (damaged, message) in enumerate(DAMAGES):
        with subtests.test(message, number=number):
            path.write_bytes(damaged(whole))
            with pytest.raises(RunError, match=rf"c\.safetensors: .*{message}"):
                load_state(path)


def test_the_newest_checkpoints_are_kept_and_found_in_order(tmp_path: Path) -> None:
    saved = [Position(0, 3), Position(1, 0), Position(1, 20), Position(11, 0)]
    for position in saved:
        save_checkpoint(tmp_path, position, Snapshot.of({"x": torch.zeros(1)}))
    assert len(list(tmp_path.iterdir())) == KEPT
    (tmp_path / "last-1-5.safetensors").touch()  # nothing of ours
    assert positions(tmp_path) == saved[-KEPT:]


def test_the_same_state_makes_the_same_bytes(tmp_path: Path) -> None:
    for name in "abcdefgh":  # a header of several entries would be in one of two orders
        Snapshot.of(STATE).write(tmp_path / name)
        assert (tmp_path / name).read_bytes() == (tmp_path / "a").read_bytes()


def test_the_header_has_everything_but_the_tensors(tmp_path: Path) -> None:
    Snapshot.of(STATE).write(tmp_path / "c.safetensors")
    header = load_header(tmp_path / "c.safetensors")
    assert header.keys() == STATE.keys()
    assert header["optimiser"]["groups"] == STATE["optimiser"]["groups"]


def forge(path: Path, rest: str) -> None:
    """Write a checkpoint with this JSON as its state, and the checksum that belongs to it."""
    whole = json.dumps({"state": rest, "sha256": checkpoint._sha256({}, rest)})
    path.write_bytes(save({}, metadata={"whole": whole}))


WRONG_STATES = [
    *("null", "[]", "3", '"tensor:x"', "", "{", "{}", '{"pairs": 3}', '{"pairs": [[1]]}'),
    *('{"pairs": [[[], 1]]}', '{"pairs": [["weights", "tensor:lost"]]}', "[" * 5000, "9" * 5000),
    '{"pairs": ' * 900 + "[]" + "}" * 900,
]


def test_a_wrong_state_with_the_right_checksum_is_one_message(tmp_path: Path, subtests: pytest.Subtests) -> None:
    for rest in WRONG_STATES:
        with subtests.test(rest=rest):
            path = tmp_path / "c.safetensors"
            forge(path, rest)
            with pytest.raises(RunError, match=r"c\.safetensors: the checkpoint is damaged") as caught:
                load_state(path)
            assert "\n" not in str(caught.value)


HEADERS = [None, {}, {"whole": "null"}, {"whole": "[]"}, {"whole": '{"state": 1}'}]


def test_another_header_is_one_message(tmp_path: Path, subtests: pytest.Subtests) -> None:
    for metadata in HEADERS:
        with subtests.test(metadata=metadata):
            path = tmp_path / "c.safetensors"
            path.write_bytes(save({"x": torch.zeros(1)}, metadata=metadata))
            for load in (load_state, load_header):
                with pytest.raises(RunError, match="the checkpoint is damaged"):
                    load(path)


def test_weights_that_are_none_are_one_message(tmp_path: Path, subtests: pytest.Subtests) -> None:
    for weights in [None, [], [torch.zeros(1)], {"a": 1}, "x"]:
        with subtests.test(weights=weights):
            Snapshot.of({"weights": weights}).write(tmp_path / "c.safetensors")
            with pytest.raises(RunError, match="holds no weights"):
                load_weights(tmp_path / "c.safetensors")


def test_a_checkpoint_whose_path_is_not_utf_8_is_not_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "run\udcff" / "best.safetensors"
    path.parent.mkdir()
    Snapshot.of({"weights": torch.ones(2)}).write(path)
    with pytest.raises(RunError, match=r"a path that is not UTF-8, .*; rename it"):
        load_state(path)


def test_weights_that_are_not_finite_are_named_with_their_file(tmp_path: Path, subtests: pytest.Subtests) -> None:
    for value in (float("nan"), float("inf")):
        with subtests.test(value=value):
            Snapshot.of({"weights": {"a": torch.ones(2), "b": torch.tensor([1, value])}}).write(
                tmp_path / "best.safetensors"
            )
            with pytest.raises(RunError, match=r"best\.safetensors: tensor b holds values that are not finite"):
                load_weights(tmp_path / "best.safetensors")
