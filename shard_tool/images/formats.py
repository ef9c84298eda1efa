"""Detect the format of a file by its first bytes, whatever its name."""

JPEG, PNG, FITS = "a JPEG", "a PNG", "a FITS image"

SIGNATURES = (
    (b"\xff\xd8", JPEG),
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"SIMPLE  =", FITS),
    (b"GIF8", "a GIF"),
    (b"BM", "a BMP"),
    (b"II*\0", "a TIFF"),
    (b"MM\0*", "a TIFF"),
    (b"\xff\x0a", "a JPEG XL"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000"),
    (b"\x1f\x8b", "compressed by gzip"),
    (b"PK\3\4", "a zip"),
    (b"<", "a web page or XML"),
    (b"version https://git-lfs", "a pointer to a file in Git LFS"),
)


def format_of(data: bytes) -> str:
    """Return the format of a file, such as "a PNG"; "" if its first bytes are not known."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "a WebP"
    if data[4:8] == b"ftyp":
        return "an AVIF, HEIC or video"
    return next((name for signature, name in SIGNATURES if data.startswith(signature)), "")


def told(data: bytes) -> str:
    """Return text about the format of a file, for a message that says what it is not."""
    name = format_of(data)
    return f"it is {name}" if name else f"it begins with {data[:4].hex(' ')}"
