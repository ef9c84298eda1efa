"""The folder `pack` writes to: who may write there, what is finished already, and what may be deleted.

While a pack runs, OUT/.pack/ holds

    lock                  locked by the running pack
    plan.json             what the shards depend on
    train-000003.json     what came of a finished shard

A shard's tar and index are renamed into place before its entry appears, so an entry stands for a whole shard.
`manifest.json` comes last, then the journal goes.
"""

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from galaxy_zoo.errors import OutputError
from galaxy_zoo.files import sha256_of, write_text
from galaxy_zoo.index import index_path
from galaxy_zoo.manifest import MANIFEST_NAME, Shard, Statistics
from shard_tool.samples import Rejected

JOURNAL_NAME = ".pack"
PLAN_NAME = "plan.json"
REJECTED_NAME = "rejected.csv"
OWN_NAME = re.compile(r"(?:(?:train|test)-\d{6}\.(?:tar|idx)|manifest\.json|rejected\.csv)(?:\.part)?")
OWN_JOURNAL_NAME = re.compile(r"(?:lock|plan\.json|(?:train|test)-\d{6}\.json)(?:\.part)?")


@dataclass(frozen=True)
class PackedShard:
    """What came of a shard."""

    shard: Shard
    rejected: tuple[Rejected, ...]
    statistics: Statistics


def check_out(out: Path, *, overwrite: bool, resume: bool) -> None:
    """Refuse a folder that may not be written to; writes nothing.

    Raises:
        OutputError: it is no folder, or has something in it that neither option allows.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise OutputError(f"{out}: not a folder; name a new one")
    names = sorted(entry.name for entry in out.iterdir())
    foreign = [name for name in names if not _is_own(out / name)]
    if foreign and (overwrite or resume):
        raise OutputError(
            f"{out}: holds {foreign[0]}{' and others' if len(foreign) > 1 else ''}, which pack did not make; "
            "name another folder, or take that out of it"
        )
    if names and not (overwrite or resume):
        raise OutputError(
            f"{out}: not empty; name a new folder, or pass --resume to finish an interrupted pack "
            "or --overwrite to replace an old one"
        )
    if resume and set(names) - {JOURNAL_NAME} and not (out / JOURNAL_NAME / PLAN_NAME).exists():
        raise OutputError(f"{out}: no journal of an interrupted pack; pass --overwrite to pack again")


def is_finished(out: Path) -> bool:
    """Whether the folder holds a finished pack: a manifest, and no plan of one that is under way."""
    return (out / MANIFEST_NAME).exists() and not (out / JOURNAL_NAME / PLAN_NAME).exists()


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Turn an `OSError` of writing into an `OutputError` that names `path` and the way on."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{error.filename or path}: {error.strerror or error}; mend that, then run the same command with "
            "--resume: what is finished is kept"
        ) from error


class Journal:
    """The journal of one pack, of which there is one at a time in a folder."""

    def __init__(self, out: Path) -> None:
        """Name the journal of `out`; touches nothing."""
        self.out = out
        self._folder = out / JOURNAL_NAME
        self._plan = self._folder / PLAN_NAME

    @contextmanager
    def locked(self, *, overwrite: bool, resume: bool) -> Iterator[None]:
        """Make the folder, keep every other pack out of it, and check again what is in it.

        Raises:
            OutputError: another pack is writing to it, or `check_out` says so.
        """
        lock = self._folder / "lock"
        with output_errors(self.out):
            self._folder.mkdir(parents=True, exist_ok=True)
            file = lock.open("w")
        with file:
            self._lock(file.fileno(), lock)
            if self._plan.exists() or any(entry.name != JOURNAL_NAME for entry in self.out.iterdir()):
                check_out(self.out, overwrite=overwrite, resume=resume)
            yield

    def begin(self, identity: dict[str, str], *, resume: bool) -> None:
        """Write down what the shards depend on, or on resuming compare it; otherwise delete an old pack.

        Raises:
            OutputError: the interrupted pack was made from something else.
        """
        with output_errors(self.out):
            if resume and self._plan.exists():
                self._compare(identity)
                self._delete(only_temporary=True)
                return
            self._delete(only_temporary=False)
            write_text(self._plan, json.dumps(identity, indent=1) + "\n")

    def finished_shard(self, name: str) -> PackedShard | None:
        """What came of a shard, if it is finished and its files are still what they were."""
        try:
            packed = _packed_from_dict(json.loads(self._entry(name).read_text()))
            tar = self.out / name
            is_whole = sha256_of(tar) == packed.shard.sha256
            is_whole = is_whole and sha256_of(index_path(tar)) == packed.shard.index_sha256
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return packed if is_whole else None

    def finish_shard(self, packed: PackedShard) -> None:
        """Write down what came of a shard."""
        write_text(self._entry(packed.shard.name), json.dumps(asdict(packed)) + "\n")

    def end(self) -> None:
        """Remove the journal: the plan first, for without it the pack counts as finished, whatever is left."""
        with output_errors(self.out):
            self._plan.unlink()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _entry(self, name: str) -> Path:
        return self._folder / Path(name).with_suffix(".json").name

    def _lock(self, descriptor: int, lock: Path) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(f"{self.out}: another pack is writing to it; wait for its end") from error
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), lock.stat()):
                return
        raise OutputError(f"{self.out}: another pack was just ending there; run the command again")

    def _compare(self, identity: dict[str, str]) -> None:
        try:
            before = json.loads(self._plan.read_text())
        except ValueError:
            before = {}
        changed = [name for name in identity if before.get(name) != identity[name]]
        if changed:
            raise OutputError(
                f"{self.out}: cannot resume, since the interrupted pack this has changed: {', '.join(changed)}; "
                "restore that, or pass --overwrite to pack again"
            )

    def _delete(self, *, only_temporary: bool) -> None:
        """Delete what a pack makes, the manifest first: without it the folder no longer counts as finished."""
        own = sorted(self.out.iterdir(), key=lambda path: (path.name != MANIFEST_NAME, path.name))
        for path in [*own, *self._folder.iterdir()]:
            is_kept = path.is_dir() or path.name == "lock"
            if not is_kept and (path.suffix == ".part" or not only_temporary):
                path.unlink()


def _is_own(path: Path) -> bool:
    if path.name == JOURNAL_NAME and path.is_dir() and not path.is_symlink():
        return all(OWN_JOURNAL_NAME.fullmatch(entry.name) and entry.is_file() for entry in path.iterdir())
    return bool(OWN_NAME.fullmatch(path.name)) and path.is_file()


def _packed_from_dict(data: dict[str, Any]) -> PackedShard:
    statistics: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in data["statistics"].items()
    }
    return PackedShard(
        Shard(**data["shard"]),
        tuple(Rejected(**rejected) for rejected in data["rejected"]),
        Statistics(**statistics),
    )
