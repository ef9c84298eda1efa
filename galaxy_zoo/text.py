"""Names and numbers as text for people."""


def shown(name: object) -> str:
    """Return a name that is safe to print: on one line, with control characters escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(name))


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun, as in "1 view" and "1,000 galaxies". plural: where it is not the noun and an s."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def gigabytes(num_bytes: float) -> str:
    """Return a number of bytes as text, as in "1.52 GB"."""
    return f"{num_bytes / 1e9:.2f} GB"
