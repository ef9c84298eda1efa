"""What the strict check of a JPEG catches; the docstring of `shard_tool.images.jpeg` has the rates."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kaggle_download import jpeg

from galaxy_zoo.errors import ImageError
from galaxy_zoo.image_size import common_size
from shard_tool.images.jpeg import check_strictly, decode_strictly, jpeg_size

WHOLE = jpeg(0)
SIZE = (64, 64)


def test_a_whole_jpeg_is_decoded_whatever_follows_its_end_marker() -> None:
    for data in (WHOLE, WHOLE + b"garbage"):
        assert decode_strictly(data, SIZE).shape == (64, 64, 3)


@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 7)), min_size=1, max_size=8))
def test_the_quick_check_finds_what_the_full_decode_finds(flips: list[tuple[int, int]]) -> None:
    damaged = bytearray(WHOLE)
    for at, bit in flips:
        damaged[at] ^= 1 << bit
    assert is_caught(check_strictly, bytes(damaged)) == is_caught(decode_strictly, bytes(damaged))


def is_caught(check: Callable[[bytes, tuple[int, int]], object], data: bytes) -> bool:
    try:
        check(data, SIZE)
    except ImageError:
        return True
    return False


@given(st.integers(0, len(WHOLE) - 1))
def test_a_cut_at_any_place_is_caught(at: int) -> None:
    assert is_caught(decode_strictly, WHOLE[:at])
    assert is_caught(check_strictly, WHOLE[:at])


@given(st.integers(len(WHOLE) // 2, len(WHOLE) - 600), st.binary(min_size=512, max_size=512))
def test_512_zeroed_or_dropped_bytes_are_caught(at: int, noise: bytes) -> None:
    for damaged in (WHOLE[:at] + bytes(512) + WHOLE[at + 512 :], WHOLE[:at] + WHOLE[at + 512 :]):
        with pytest.raises(ImageError):
            decode_strictly(damaged, SIZE)


def test_a_missing_end_marker_is_caught_whatever_follows() -> None:
    with pytest.raises(ImageError, match="Premature end"):
        decode_strictly(WHOLE[:-2] + b"garbage", SIZE)


def test_the_common_size_is_that_of_most_headers() -> None:
    small, large = jpeg_size(jpeg(1, size=48)), jpeg_size(WHOLE)
    assert (small, large) == ((48, 48), SIZE)
    assert common_size([small, large, large]) == large
    assert common_size([small, large]) == large
    assert common_size([]) is None
