"""PNGs: what is decoded, and that no damage is missed."""

import struct
import zlib

import cv2
import numpy as np
import pytest

from galaxy_zoo.errors import ImageError
from shard_tool.images.png import SIGNATURE, decode_png, png_size

PIXELS = np.random.default_rng(0).integers(0, 256, (21, 34, 3), np.uint8)
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(
    pixels: np.ndarray = PIXELS, *, bits: int = 8, colour: int = 2, extra: bytes = b"", interlaced: bool = False
) -> bytes:
    """A PNG by the letter of its specification, without filters."""
    passes = ADAM7 if interlaced else [(0, 0, 1, 1)]
    parts = [pixels[y::dy, x::dx] for x, y, dx, dy in passes]
    lines = b"".join(b"\0" + row.tobytes() for part in parts if part.size for row in part)
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], bits, colour, 0, 0, interlaced)
    body = chunk(b"IDAT", zlib.compress(lines))
    return SIGNATURE + chunk(b"IHDR", header) + extra + body + chunk(b"IEND", b"")


def opaque(alpha: int = 255) -> np.ndarray:
    return np.dstack([PIXELS, np.full(PIXELS.shape[:2], alpha, np.uint8)])


FORMS = [
    png(),
    png(interlaced=True),
    png(opaque(), colour=6),
    png(extra=chunk(b"tEXt", b"Software\0mine")),
    cv2.imencode(".png", PIXELS[..., ::-1])[1].tobytes(),
    png() + b"behind the end",
]


def test_every_form_of_a_colour_png_decodes_to_its_very_pixels(subtests: pytest.Subtests) -> None:
    for data in FORMS:
        with subtests.test(data=data):
            assert png_size(data) == (21, 34)
            np.testing.assert_array_equal(decode_png(data), PIXELS)


def test_every_cut_and_every_changed_byte_is_found() -> None:
    for data in (png(PIXELS[:5, :6], interlaced=interlaced) for interlaced in (False, True)):
        for at in range(len(data)):
            for damaged in (data[:at], data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]):
                with pytest.raises(ImageError):
                    decode_png(damaged)


REFUSED = [
    (b"", "empty file"),
    (b"\xff\xd8\xff\xe0", "not a PNG: it is a JPEG"),
    (SIGNATURE, "damaged PNG: it is cut off"),
    (SIGNATURE + chunk(b"IEND", b""), "damaged PNG: its header does not come first"),
    (SIGNATURE + chunk(b"IHDR", b"?"), "damaged PNG: its header is not readable"),
    (png(PIXELS.astype(">u2"), bits=16), "16 bits a channel; convert it to 8"),
    (png(PIXELS[..., 0], colour=0), "not a colour PNG: it has grey"),
    (png(PIXELS[..., 0], colour=3), "not a colour PNG: it has a palette"),
    (png(PIXELS[..., :2], colour=4), "not a colour PNG: it has grey with alpha"),
    (png(colour=9), "not a colour PNG: it has colour type 9"),
    (png(opaque(254), colour=6), "not opaque: its alpha channel"),
    (png(extra=chunk(b"tRNS", bytes(6))), "not opaque: it has a transparent colour"),
    (png(opaque()), "more or fewer pixels"),
    (png(colour=6), "more or fewer pixels"),
    (png().replace(b"IDAT", b"iDAT"), "a checksum differs"),
]


def test_what_is_no_whole_colour_png_is_refused_with_the_reason(subtests: pytest.Subtests) -> None:
    for data, reason in REFUSED:
        with subtests.test(data=data), pytest.raises(ImageError, match=reason):
            decode_png(data)


def test_a_png_that_says_it_is_huge_is_not_decoded() -> None:
    for width, height in ((60_000, 60_000), (9000, 1), (0, 10)):
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        bomb = SIGNATURE + header + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b"")
        with pytest.raises(ImageError, match=f"{width} x {height} pixels; a side may have"):
            decode_png(bomb)


def test_pixels_that_inflate_beyond_the_header_are_not_inflated_further() -> None:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
    bomb = SIGNATURE + header + chunk(b"IDAT", zlib.compress(bytes(10**8))) + chunk(b"IEND", b"")
    with pytest.raises(ImageError, match="more or fewer pixels"):
        decode_png(bomb)
