import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from galaxy_zoo.errors import ImageError
from galaxy_zoo.jpeg_header import read_jpeg_header

PIXELS = np.random.default_rng(0).integers(0, 256, (48, 56, 3), np.uint8)
WAYS = {
    "plain": {},
    "progressive": {"progressive": True},
    "optimised": {"optimize": True},
    "all colours": {"subsampling": 0},
    "restarts": {"restart_marker_rows": 1},
    "comment": {"comment": b"a galaxy"},
    "profile": {"icc_profile": bytes(70_000)},
}


def encoded(**options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "JPEG", quality=80, **options)
    return file.getvalue()


def test_the_header_says_size_and_components_however_it_was_written(subtests: pytest.Subtests) -> None:
    for way, options in WAYS.items():
        with subtests.test(way=way):
            data = encoded(**options)
            header = read_jpeg_header(data)
            assert header[:3] == (48, 56, 3)
            assert read_jpeg_header(memoryview(data)[: header.end]) == header
            with pytest.raises(ImageError, match="cut off"):
                read_jpeg_header(data[: header.end - 1])


def test_what_is_no_jpeg_is_called_so() -> None:
    for data, reason in ((b"", "empty file"), (b"GIF89a", "not a JPEG: it begins with 47 49 46")):
        with pytest.raises(ImageError, match=reason):
            read_jpeg_header(data)


def test_markers_may_be_filled_up() -> None:
    data = encoded()
    header = read_jpeg_header(data[:2] + b"\xff\xff" + data[2:])
    assert header == read_jpeg_header(data)._replace(end=header.end)
    with pytest.raises(ImageError, match="does not end"):
        read_jpeg_header(data[:2] + b"\xff" * 20_000 + data[2:])


def test_a_marker_that_decoders_take_differently_is_damage(subtests: pytest.Subtests) -> None:
    for marker in [b"\xff\xd0", b"\xff\x01", b"\xff\xc3\x00\x08", b"\x00\x00"]:
        with subtests.test(marker=marker):
            data = encoded()
            with pytest.raises(ImageError, match="no marker of a segment at byte 2 "):
                read_jpeg_header(data[:2] + marker + data[2:])


@given(at=st.integers(0, 640), damage=st.binary(max_size=40), dropped=st.integers(0, 40))
def test_any_damage_gives_a_header_or_an_image_error(at: int, damage: bytes, dropped: int) -> None:
    data = encoded()
    try:
        header = read_jpeg_header(data[:at] + damage + data[at + dropped :])
    except ImageError as error:
        assert "\n" not in str(error)
    else:
        assert header.end <= len(data) + len(damage)
