"""Check JPEGs before DALI decodes them: a damaged one may crash it, and it does not name the image.

If the header of an image is damaged, DALI 2.4 often ends the process with signal 11 and no message, so every header is
read first. For damage behind the header DALI raises an ordinary error; only then is the damaged image searched for.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from galaxy_zoo.errors import ImageError, ShardError
from galaxy_zoo.image_size import check_decodable
from galaxy_zoo.jpeg_header import read_jpeg_header
from pipeline.shards import Bytes, Samples


def check_headers(samples: Samples, numbers: NDArray[np.int64], jpegs: Sequence[Bytes]) -> None:
    """Check the JPEG headers of the samples with these `numbers`.

    Raises:
        ShardError: a header is damaged, not of a colour image, or gives another size than the manifest.
    """
    proven = b""  # in most sets all images have the same header
    for number, jpeg in zip(numbers.tolist(), jpegs, strict=True):
        if proven and jpeg[: len(proven)].tobytes() == proven:
            continue
        try:
            header = read_jpeg_header(jpeg.data)
            check_decodable((header.height, header.width), len(jpeg))
        except ImageError as error:
            raise _damaged(samples, number, f"does not decode: {error}") from error
        if (header.height, header.width) != samples.image_px:
            size = f"{samples.image_px[1]} x {samples.image_px[0]}"
            raise _damaged(
                samples, number, f"has {header.width} x {header.height} pixels, the manifest says {size}"
            )
        if header.num_components != 3:
            raise _damaged(samples, number, "is not a colour JPEG")
        proven = jpeg[: header.end].tobytes()


def decode(samples: Samples, number: int) -> NDArray[np.uint8]:
    """Decode a whole image with libjpeg; return uint8, shape (height, width, 3).

    Raises:
        ShardError: the image is damaged anywhere.
    """
    jpegs = samples.jpegs(np.array([number]))
    check_headers(samples, np.array([number]), jpegs)
    try:
        return np.asarray(simplejpeg.decode_jpeg(jpegs[0], strict=True), np.uint8)
    except ValueError as error:
        raise _damaged(samples, number, f"does not decode: {error}") from error


def find_damaged(samples: Samples, numbers: Iterable[int]) -> ShardError | None:
    """Return the error for the first of these samples that does not decode, None if all do."""
    for number in numbers:
        try:
            decode(samples, number)
        except ShardError as error:
            return error
    return None


def _damaged(samples: Samples, number: int, problem: str) -> ShardError:
    return ShardError(
        f"{samples.describe(number)} {problem}; list all such samples with: shard_tool lint --deep, "
        "then copy the shard again or pack again"
    )
