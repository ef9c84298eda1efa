"""`shard_tool fetch`: download the challenge from Kaggle with the user's own token, each file whole or not at all.

kagglehub does the work: it finds the token, follows the redirect to the store, continues an interrupted download and
compares the checksum that the store gives. It keeps unfinished files in OUT/.fetch, where `source.files` does not look.
Neither it nor this file writes the token anywhere. The output of kagglehub is discarded, since in one of its
environments it prints requests with their headers.

Source: kagglehub 1.0.2 and kagglesdk 0.1.37, as installed.
"""

import io
import logging
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from typing import TypeVar

import click

from galaxy_zoo.console import Command, local_path
from galaxy_zoo.errors import GalaxyZooError, OutputError, SourceError
from galaxy_zoo.files import exclusive
from shard_tool.commands.options import echo
from shard_tool.source.files import UNFINISHED_NAME

COMPETITION = "galaxy-zoo-the-galaxy-challenge"
URL = f"https://www.kaggle.com/competitions/{COMPETITION}"
FILES = (
    "training_solutions_rev1.zip",
    "central_pixel_benchmark.zip",
    "images_training_rev1.zip",
    "images_test_rev1.zip",
)
"""Files of the votes, Kaggle's sample submission, and the images: 5 MB, 1 MB, 0.79 GB and 1.01 GB."""
TOKEN = (
    "create one at https://www.kaggle.com/settings and put it into the variable KAGGLE_API_TOKEN or the file "
    "~/.kaggle/access_token"
)

MARGIN_BYTES = 50_000_000
"""Free space required beyond the files, for other programs that write to the disk meanwhile."""

T = TypeVar("T")


@click.command(cls=Command)
@click.argument("out", type=local_path)
def fetch(out: Path) -> None:
    """Download the Galaxy Zoo challenge from Kaggle into the folder OUT.

    The download is 2 GB in four zips, which pack reads. You need a Kaggle account: accept the rules of the competition,
    create a token at https://www.kaggle.com/settings and put it into the variable KAGGLE_API_TOKEN or the file
    ~/.kaggle/access_token; an older kaggle.json works too. The token is only read. Complete files in OUT stay; run the
    command again after an interruption to go on.

    \b
    Example:
      shard_tool fetch kaggle
    """
    fetch_files(out, lambda line: echo(line, err=True))
    echo(f"All files are in {out}. Next: shard_tool pack {out} shards")


def by_hand(out: Path) -> str:
    """Return instructions to download the files without this command."""
    return (
        f"By hand: sign in at https://www.kaggle.com, accept the rules at {URL}/rules, download from {URL}/data the "
        f"files {', '.join(FILES)} (2 GB; or all as one zip), put them into {out} as they are, not unzipped, and go "
        f"on with: shard_tool pack {out} shards"
    )


def fetch_files(out: Path, say: Callable[[str], None]) -> None:
    """Download the files that `out` lacks; call `say` with a line about each file.

    Raises:
        SourceError: Kaggle cannot be reached, has no such file or sends a damaged one, or there is no valid token.
        OutputError: `out` cannot be written to or is full, or another fetch is running there.
    """
    unfinished, is_new = out / UNFINISHED_NAME, not out.exists()
    try:
        unfinished.mkdir(parents=True, exist_ok=True)
        with exclusive(unfinished / "lock", busy=f"{out}: another fetch is writing to it; wait for its end"):
            try:
                _fetch_files(out, unfinished, say)
            finally:
                if not any(unfinished.rglob("*.zip")):
                    shutil.rmtree(unfinished, ignore_errors=True)
                    if is_new and not any(out.iterdir()):
                        out.rmdir()
    except OSError as error:
        raise OutputError(
            f"{error.filename or out}: {error.strerror or error}; fix this or name another folder, and run the "
            "same command again: it goes on from there"
        ) from error


def _fetch_files(out: Path, unfinished: Path, say: Callable[[str], None]) -> None:
    with _kagglehub(unfinished):
        sizes = _asking(out, partial(_list_sizes, out))
        missing = [name for name in FILES if not _is_whole(out / name, sizes[name])]
        _check_space(out, sum(sizes[name] for name in missing), unfinished)
        for name in FILES:
            if name not in missing:
                say(f"{out / name}: there already, {sizes[name]:,} bytes")
                continue
            say(f"{out / name}: downloading {sizes[name]:,} bytes")
            _asking(out, partial(_fetch, name, sizes[name], out))


@contextmanager
def _kagglehub(unfinished: Path) -> Iterator[None]:
    """Import kagglehub; within the block keep it silent, and its cache in `unfinished` and nowhere else."""
    wanted = {"KAGGLEHUB_CACHE": str(unfinished), "DISABLE_KAGGLE_CACHE": "1"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _list_sizes(out: Path) -> dict[str, int]:
    """Return the size in bytes of each file that Kaggle has, by name."""
    from kagglehub.clients import build_kaggle_client  # an extra, which packing does not need
    from kagglehub.config import get_kaggle_credentials
    from kagglehub.exceptions import UnauthenticatedError, handle_call
    from kagglehub.handle import parse_competition_handle
    from kagglesdk.competitions.types.competition_api_service import ApiListDataFilesRequest

    logging.getLogger("kagglehub").handlers[:] = [logging.NullHandler()]
    if get_kaggle_credentials() is None:
        raise UnauthenticatedError
    request = ApiListDataFilesRequest()
    request.competition_name = COMPETITION
    request.page_size = 100
    with build_kaggle_client() as client:
        list_files = client.competitions.competition_api_client.list_data_files
        listed = handle_call(lambda: list_files(request), parse_competition_handle(COMPETITION))
    sizes = {file.name: int(file.total_bytes) for file in listed.files}
    if lacking := [name for name in FILES if name not in sizes]:
        raise SourceError(
            f"{URL}: has no {lacking[0]}, but {', '.join(sorted(sizes)) or 'nothing'}; {by_hand(out)}"
        )
    return sizes


def _is_whole(path: Path, num_bytes: int) -> bool:
    """Return whether a zip has that size and a table of contents, which is at its end."""
    return path.is_file() and path.stat().st_size == num_bytes and zipfile.is_zipfile(path)


def _check_space(out: Path, wanted: int, unfinished: Path) -> None:
    there = sum(path.stat().st_size for path in unfinished.rglob("*.zip"))
    free = shutil.disk_usage(out).free
    if wanted and wanted - there + MARGIN_BYTES > free:
        raise OutputError(
            f"{out}: {wanted - there + MARGIN_BYTES:,} bytes are needed there, {free:,} are free; make room or name "
            "another folder"
        )


def _fetch(name: str, num_bytes: int, out: Path) -> None:
    """Download a file, or the rest of it, and give it its final name when it is complete."""
    import kagglehub

    path = Path(kagglehub.competition_download(COMPETITION, name))
    if not _is_whole(path, num_bytes):
        found = path.stat().st_size
        path.unlink()
        raise SourceError(
            f"{name}: {found:,} bytes came that are no whole zip of the {num_bytes:,} that Kaggle lists; run the "
            "same command again"
        )
    with path.open("rb") as file:
        os.fsync(file.fileno())
    path.replace(out / name)


def _asking(out: Path, ask: Callable[[], T]) -> T:
    """Turn errors of requests to Kaggle in the block into ours, without quoting them: they may hold signed URLs.

    Raises:
        SourceError: Kaggle refuses or cannot be reached.
    """
    try:
        import requests
        from kagglehub.exceptions import DataCorruptionError, UnauthenticatedError
    except ImportError as error:
        raise SourceError(
            "fetch needs kagglehub; install it with: pip install kagglehub\n" + by_hand(out)
        ) from error
    try:
        return ask()
    except GalaxyZooError:
        raise
    except UnauthenticatedError:
        what = f"no Kaggle token found: {TOKEN}"
    except DataCorruptionError:
        raise SourceError("a file came damaged: its checksum differs; run the same command again") from None
    except requests.HTTPError as error:
        what = _refusal(None if error.response is None else error.response.status_code)
    except requests.RequestException as error:
        raise SourceError(
            f"{URL}: cannot be reached, or the connection was lost ({type(error).__name__}); run the same command "
            f"again when the network is there: it goes on from where it was\n{by_hand(out)}"
        ) from None
    except ValueError:
        what = f"kaggle.json, where the token should be, is damaged: {TOKEN}"
    raise SourceError(f"{what}\n{by_hand(out)}") from None


def _refusal(status: int | None) -> str:
    if status == 401:
        return f"Kaggle does not accept the token: {TOKEN}"
    if status == 403:
        return (
            f"Kaggle refuses (403): accept the rules at {URL}/rules with the account of the token, then run again"
        )
    return f"Kaggle answers with status {status}: try again later"
