"""The fast tar header is the one `tarfile` writes, and the npy bytes are numpy's."""

import io
import tarfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shard_tool.shards.writer import encode_votes, tar_header


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=24), st.integers(0, 8**11 - 1))
def test_headers_are_those_of_tarfile(name: str, size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o444
    assert tar_header(name, size) == info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict")


def test_a_name_too_long_for_ustar_is_refused() -> None:
    with pytest.raises(ValueError, match="100 bytes"):
        tar_header("x" * 101, 1)


@given(st.integers(1, 500))
def test_votes_have_a_header_of_128_bytes(answers: int) -> None:
    votes = np.linspace(0, 1, answers, dtype=np.float32)
    data = encode_votes(votes)
    assert len(data) == 128 + 4 * answers
    np.testing.assert_array_equal(np.load(io.BytesIO(data)), votes, strict=True)
