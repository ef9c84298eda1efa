"""Read the header of a JPEG, marker by marker, without decoding pixels."""

from typing import NamedTuple

from galaxy_zoo.errors import ImageError

START = b"\xff\xd8"
FILL = 0xFF
"""First byte of a marker; it may be repeated."""
MOST_MARKERS = 10_000
"""Limit on markers and fill bytes, far above any real header: a file of nothing else would take minutes."""
START_OF_SCAN = 0xDA
FRAMES = frozenset({0xC0, 0xC1, 0xC2})
"""Markers of a frame that libjpeg decodes: baseline, extended and progressive, all Huffman-coded."""
SEGMENTS = FRAMES | {0xC4, 0xDB, 0xDD, 0xDA, 0xFE} | set(range(0xE0, 0xF0))
"""Markers that may stand in a header, each followed by the length of its segment. Source: ITU-T T.81, table B.1."""


class JpegHeader(NamedTuple):
    """Header of a JPEG. num_components: 3 in a colour image; end: offset of the coded pixels, in bytes."""

    height: int
    width: int
    num_components: int
    end: int


def read_jpeg_header(data: bytes | memoryview) -> JpegHeader:
    """Read the header of a JPEG, up to where its coded pixels begin; `data` may end there.

    It refuses what any decoder refuses: DALI takes some markers for segments, which libjpeg skips.

    Raises:
        ImageError: `data` is empty, not a JPEG, or the header is damaged; the message gives only the reason.
    """
    if data[:2] != START:
        raise ImageError(f"not a JPEG: it begins with {data[:4].hex(' ')}" if len(data) else "empty file")
    frame, at, end = None, 2, len(data) - 3
    for _ in range(MOST_MARKERS):
        if at >= end:
            break
        marker = data[at + 1]
        if data[at] == marker == FILL:
            at += 1
            continue
        if data[at] != FILL or marker not in SEGMENTS:
            raise ImageError(f"damaged JPEG: no marker of a segment at byte {at} of its header")
        length = data[at + 2] << 8 | data[at + 3]
        if marker == START_OF_SCAN:
            if frame is None or length < 6 or at + 2 + length > len(data):
                break
            return JpegHeader(*frame, at + 2 + length)
        if marker in FRAMES:
            segment = data[at + 4 : at + 2 + length]
            if frame is not None or len(segment) < 6 or len(segment) != 6 + 3 * segment[5] or segment[0] != 8:
                raise ImageError(f"damaged JPEG: its frame at byte {at} is not that of one image of 8 bits")
            frame = segment[1] << 8 | segment[2], segment[3] << 8 | segment[4], segment[5]
        if length < 2:
            break
        at += 2 + length
    raise ImageError("damaged JPEG: its header is cut off or does not end")
