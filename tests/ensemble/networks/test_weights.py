import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ensemble.networks import weights
from ensemble.networks.weights import read_weights
from galaxy_zoo.errors import RunError

TENSORS = {"stem.weight": torch.arange(6.0).reshape(2, 3), "bn.num_batches_tracked": torch.tensor(7)}

WAYS: dict[str, Callable[[Path], object]] = {
    "a.safetensors": lambda path: save_file(TENSORS, path),
    "a.pth": lambda path: torch.save(TENSORS, path),
    "legacy.bin": lambda path: torch.save(TENSORS, path, _use_new_zipfile_serialization=False),
    "parallel.pt": lambda path: torch.save({f"module.{name}": each for name, each in TENSORS.items()}, path),
    "training.pth": lambda path: torch.save({"epoch": 3, "state_dict": TENSORS, "optimizer": {"lr": 0.1}}, path),
}


def test_weights_are_read_as_they_were_saved(tmp_path: Path, subtests: pytest.Subtests) -> None:
    for name, save in WAYS.items():
        with subtests.test(name):
            save(tmp_path / name)
            found = read_weights(tmp_path / name)
            assert found.path == tmp_path / name
            assert found.tensors.keys() == TENSORS.keys()
            assert all(torch.equal(each, TENSORS[key]) for key, each in found.tensors.items())


def truncated(path: Path) -> None:
    WAYS["a" + path.suffix](path)
    path.write_bytes(path.read_bytes()[:-8])


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "none.pth": (lambda _: None, "no such file"),
    "folder.pth": (Path.mkdir, "no such file"),
    "a.npz": (Path.touch, "weights come as"),
    "empty.safetensors": (Path.touch, "damaged"),
    "empty.pth": (Path.touch, "damaged"),
    "text.bin": (lambda path: path.write_text("version https://git-lfs"), "could run code"),
    "truncated.safetensors": (truncated, "damaged"),
    "truncated.pth": (truncated, "damaged"),
    "list.pth": (lambda path: torch.save([torch.ones(2)], path), "tensors by name"),
    "numbers.pth": (lambda path: torch.save({"lr": 0.1}, path), "tensors by name"),
    "nothing.pth": (lambda path: torch.save({}, path), "tensors by name"),
    "sparse.pth": (lambda path: torch.save({"a": torch.eye(2).to_sparse()}, path), "tensors by name"),
    "complex.pth": (lambda path: torch.save({"a": torch.ones(2, dtype=torch.complex64)}, path), "tensors by name"),
    "meta.pth": (lambda path: torch.save({"a": torch.ones(2, device="meta")}, path), "tensors by name"),
    "nan.pth": (lambda path: torch.save({"a": torch.tensor([0, torch.nan])}, path), "not finite"),
    "pipe.pth": (os.mkfifo, "no such file"),
    "network.pth": (lambda path: torch.save(torch.nn.Linear(2, 2), path), "could run code"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Validating sparse tensor", "ignore:Sparse invariant checks")
def test_what_is_not_weights_is_one_line_that_names_the_file(tmp_path: Path, subtests: pytest.Subtests) -> None:
    for name, (make, words) in BAD.items():
        with subtests.test(name):
            make(tmp_path / name)
            with pytest.raises(RunError, match=words) as raised:
                read_weights(tmp_path / name)
            assert str(raised.value).startswith(f"{tmp_path / name}: ")
            assert len(str(raised.value).splitlines()) == 1


def test_files_too_large_for_a_network_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "MOST_BYTES", 10_000)
    large, inflates = tmp_path / "large.safetensors", tmp_path / "inflates.pth"
    large.write_bytes(bytes(10_001))
    with zipfile.ZipFile(inflates, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data/0", bytes(10_001))
    assert inflates.stat().st_size < 10_000
    for path in (large, inflates):
        with pytest.raises(RunError, match="too many"):
            read_weights(path)
