"""Finished parts of a prediction."""

from pathlib import Path

import pytest
import torch

from galaxy_zoo.errors import OutputError
from prediction.parts import Parts


def test_parts_go_on_by_the_same_key_only_and_their_folder_goes_with_the_last_one(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "out.csv")
    with parts.locked():
        assert parts.begin({"views": 1, "seed": [2]}) == 0
        parts.write("a", {"ids": ["7"], "votes": torch.ones(2)})
        assert parts.is_whole("a")
        assert not parts.is_whole("b")
    with parts.locked():
        with pytest.raises(OutputError, match=r"1 finished parts .* \(of another seed\)"):
            parts.begin({"views": 1, "seed": [3]})
        assert parts.begin({"views": 1, "seed": [2]}) == 1
        assert parts.read("a")["ids"] == ["7"]
        parts.end()
    assert not parts.folder.exists()
