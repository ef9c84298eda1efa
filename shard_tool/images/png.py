"""Check that a PNG is whole and in colour, and decode it.

Every chunk has a checksum, and the number of pixels must match the header, so damage is always found. PNGs of red,
green and blue with eight bits a channel are read; an alpha channel that is opaque everywhere is dropped. Everything
else needs a decision by the owner of the images and is rejected: 16 bits (which stretch?), grey and palettes (which
colours?), transparency (in front of what?).

Source: PNG Specification (Third Edition), W3C 2025: chunks in section 5, IHDR in 11.2.1, Adam7 in 8.1.
"""

import struct
import zlib
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from galaxy_zoo.errors import ImageError
from galaxy_zoo.image_size import Size, check_decodable
from shard_tool.images.formats import told

SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEADER = struct.Struct(">IIBBBBB")
"""Width, height, bits a channel, colour type, compression, filter, interlacing."""
COLOUR_TYPES = {0: "grey", 2: "colour", 3: "a palette", 4: "grey with alpha", 6: "colour with alpha"}
CHANNELS = {2: 3, 6: 4}
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""First column and row, step between columns and rows, of each of the seven passes."""


def png_size(data: bytes) -> Size:
    """Return the (height, width) in the header; raise ImageError if it is not a PNG or not safe to decode."""
    if not data:
        raise ImageError("empty file")
    if not data.startswith(SIGNATURE):
        raise ImageError(f"not a PNG: {told(data)}")
    _, body = next(_chunks(data))
    if len(body) != HEADER.size:
        raise ImageError("damaged PNG: its header is not readable")
    width, height = HEADER.unpack(body)[:2]
    return check_decodable((height, width), len(data))


def decode_png(data: bytes) -> NDArray[np.uint8]:
    """Decode a PNG, and check that it is whole.

    Returns:
        uint8, shape (height, width, 3): red, green, blue.

    Raises:
        ImageError: the file is empty, not a PNG, damaged, too large, or not in colour with 8 bits a channel.
    """
    height, width = png_size(data)
    chunks = list(_chunks(data))
    _, _, bits, colour, *_, interlaced = HEADER.unpack(chunks[0][1])
    _check_kind(bits, colour, {name for name, _ in chunks})
    lines = _lines(height, width, is_interlaced=bool(interlaced))
    expected = sum(rows * (1 + columns * CHANNELS[colour]) for rows, columns in lines)
    _check_pixels(b"".join(body for name, body in chunks if name == b"IDAT"), expected)
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.shape != (height, width, CHANNELS[colour]):
        raise ImageError("damaged PNG: it does not decode")
    if colour == 6 and pixels[..., 3].min() < 255:
        raise ImageError("not opaque: its alpha channel is not 255 everywhere; paint it on a background")
    conversion = cv2.COLOR_BGRA2RGB if colour == 6 else cv2.COLOR_BGR2RGB
    return np.asarray(cv2.cvtColor(pixels, conversion), np.uint8)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and body of every chunk, up to the end of the image."""
    at, name = len(SIGNATURE), b""
    while name != b"IEND":
        size = int.from_bytes(data[at : at + 4])
        name, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        checksum = data[at + 8 + size : at + 12 + size]
        if len(checksum) < 4:
            raise ImageError("damaged PNG: it is cut off")
        if zlib.crc32(body, zlib.crc32(name)) != int.from_bytes(checksum):
            raise ImageError("damaged PNG: a checksum differs")
        if at == len(SIGNATURE) and name != b"IHDR":
            raise ImageError("damaged PNG: its header does not come first")
        yield name, body
        at += 12 + size


def _check_kind(bits: int, colour: int, chunks: set[bytes]) -> None:
    if bits != 8 and colour in COLOUR_TYPES:
        raise ImageError(f"{bits} bits a channel; convert it to 8")
    if colour not in CHANNELS:
        raise ImageError(f"not a colour PNG: it has {COLOUR_TYPES.get(colour, f'colour type {colour}')}")
    if b"tRNS" in chunks:
        raise ImageError("not opaque: it has a transparent colour; paint it on a background")


def _lines(height: int, width: int, *, is_interlaced: bool) -> list[Size]:
    """Return the rows and columns of each pass."""
    passes = ADAM7 if is_interlaced else ((0, 0, 1, 1),)
    sizes = [(-(-(height - y) // dy), -(-(width - x) // dx)) for x, y, dx, dy in passes]
    return [(rows, columns) for rows, columns in sizes if rows > 0 and columns > 0]


def _check_pixels(stored: bytes, expected: int) -> None:
    inflater = zlib.decompressobj()
    try:
        found = len(inflater.decompress(stored, expected + 1))
    except zlib.error as error:
        raise ImageError(f"damaged PNG: {error}") from error
    if found != expected or not inflater.eof:
        raise ImageError("damaged PNG: it holds more or fewer pixels than its header says")
