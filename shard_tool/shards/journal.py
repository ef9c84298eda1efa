"""The journal of the folder `pack` writes to: who may write, what is finished, what may be deleted.

While a pack runs, OUT/.pack/ holds

    lock                  locked by the running pack; in a store: lock-* (see claims.py)
    plan.json             everything the shards depend on
    train-000003.json     the entry of a finished shard

A shard's tar and index are renamed into place before its entry appears, so an entry means a complete shard.
`manifest.json` comes last, then the journal is removed.

On a cluster a worker that counts as dead may still be writing a shard that was given to another one. Their temporary
names differ and their bytes are the same. Such a worker may even outlive the pack, so before it renames anything it
compares the plan with the one it was started for (`check_fence`).
"""

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from galaxy_zoo.errors import OutputError
from galaxy_zoo.files import TEMPORARY_SUFFIX, open_lock, sha256_of, write_text
from galaxy_zoo.index import index_path
from galaxy_zoo.manifest import MANIFEST_NAME, Shard, Statistics
from galaxy_zoo.remote import AnyPath, RemotePath, remove_files
from galaxy_zoo.strict import parse_json
from shard_tool.shards.claims import CLAIM_PREFIX, HeldClaim, claimed
from shard_tool.source.samples import Rejected

JOURNAL_NAME = ".pack"
PLAN_NAME = "plan.json"
REJECTED_NAME = "rejected.csv"
TEMPORARY = r"(?:(?:\.[0-9a-f]{8})?\.part)?"
OWN_NAME = re.compile(rf"(?:(?:train|test)-\d{{6}}\.(?:tar|idx)|manifest\.json|rejected\.csv){TEMPORARY}")
OWN_JOURNAL_NAME = re.compile(rf"(?:lock(?:-[0-9a-f]{{32}})?|plan\.json|(?:train|test)-\d{{6}}\.json){TEMPORARY}")


@dataclass(frozen=True, kw_only=True)
class PackedShard:
    """A finished shard, its rejected samples, the sums over its good ones, and whether any of these was encoded.

    fingerprints: id -> fingerprint of the JPEG as packed, see `repeated_images.fingerprint`.
    """

    shard: Shard
    rejected: tuple[Rejected, ...]
    statistics: Statistics
    is_encoded: bool
    fingerprints: dict[str, int]


def check_out(out: AnyPath, *, overwrite: bool, resume: bool) -> None:
    """Check that the options allow what a folder holds; raise OutputError if not.

    Call this only under the lock: a running pack renames its files.
    """
    entries: list[AnyPath] = sorted(out.iterdir(), key=lambda entry: entry.name)
    names = [entry.name for entry in entries]
    foreign = [entry.name for entry in entries if not _is_own(entry)]
    if foreign and (overwrite or resume):
        raise OutputError(
            f"{out}: holds {foreign[0]}{' and others' if len(foreign) > 1 else ''}, which pack did not make; "
            "name another folder, or move that elsewhere"
        )
    if names and not (overwrite or resume):
        raise OutputError(
            f"{out}: not empty; name a new folder, or pass --resume to finish an interrupted pack "
            "or --overwrite to replace an old one"
        )
    if resume and set(names) - {JOURNAL_NAME} and not (out / JOURNAL_NAME / PLAN_NAME).exists():
        raise OutputError(f"{out}: no journal of an interrupted pack; pass --overwrite to pack again")


def is_finished(out: AnyPath) -> bool:
    """Return whether the folder holds a finished pack: a manifest, and no plan of a running one."""
    return (out / MANIFEST_NAME).exists() and not (out / JOURNAL_NAME / PLAN_NAME).exists()


@contextmanager
def output_errors(path: AnyPath) -> Iterator[None]:
    """Turn an `OSError` in the block into an `OutputError` that names `path` and says how to go on."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{error.filename or path}: {error.strerror or error}; fix this and run the same command with --resume: "
            "finished shards are kept"
        ) from error


class Journal:
    """The journal of the one pack that may write to a folder."""

    def __init__(self, out: AnyPath) -> None:
        """Name the journal of `out`; read and write nothing."""
        self.out = out
        self._claim: HeldClaim | None = None
        self._folder = out / JOURNAL_NAME
        self._plan = self._folder / PLAN_NAME

    @contextmanager
    def locked(self, *, overwrite: bool, resume: bool) -> Iterator[None]:
        """Keep every other pack out of the folder, then check what is in it.

        Raises:
            OutputError: another pack is writing to it, or `check_out` refuses it.
        """
        with self.alone():
            with output_errors(self.out):
                own = {JOURNAL_NAME, REJECTED_NAME}  # REJECTED_NAME alone: left by a pack that had nothing to pack
                holds_more = any(entry.name not in own for entry in self.out.iterdir())
                if holds_more or not all(map(_is_lock, self._folder.iterdir())):
                    check_out(self.out, overwrite=overwrite, resume=resume)
            yield

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Create the folder and keep every other pack out of it; a block that begins no pack leaves no trace.

        Raises:
            OutputError: another pack is writing to the folder, or the path is not a folder.
        """
        is_new = not self.out.exists()
        if is_new and isinstance(self.out, RemotePath):
            self.out.check_bucket()
        if not (is_new or self.out.is_dir()):
            raise OutputError(f"{self.out}: not a folder; name a new one")
        with ExitStack() as stack:
            with output_errors(self.out):
                self._lock(stack)
            try:
                yield
            finally:
                if not self._plan.exists():
                    self._leave_no_trace(is_new=is_new)

    def _leave_no_trace(self, *, is_new: bool) -> None:
        with suppress(OSError):
            if isinstance(self._folder, Path):
                (self._folder / "lock").unlink(missing_ok=True)
                self._folder.rmdir()
            if is_new:
                self.out.rmdir()

    def check_held(self) -> None:
        """Check that no other pack has taken over the folder, as can happen in a store; raise OutputError if one has.

        Call this before the manifest is written, which makes the shards count.
        """
        if self._claim is not None:
            self._claim.check()

    def begin(self, identity: dict[str, str], *, resume: bool) -> None:
        """Delete an old pack and write the plan or, on resuming, compare the plan.

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
        """Return the entry of a shard if it is finished, and entry and files still have their checksums."""
        try:
            text, checksum = self._entry(name).read_text().splitlines()
            if checksum != sha256(text.encode()).hexdigest():
                return None
            packed = _packed_from_dict(parse_json(text))
            tar = self.out / name
            is_whole = sha256_of(tar) == packed.shard.sha256
            is_whole = is_whole and sha256_of(index_path(tar)) == packed.shard.index_sha256
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return packed if is_whole else None

    def finish_shard(self, packed: PackedShard) -> None:
        """Write the entry of a shard: JSON, then a line with its checksum."""
        text = json.dumps(asdict(packed))
        entry = f"{text}\n{sha256(text.encode()).hexdigest()}\n"
        write_text(self._entry(packed.shard.name), entry, is_contested=True)

    def fence(self) -> str:
        """Return the fence of the running pack, which tells it from others: a checksum of its plan, "" if none."""
        try:
            return sha256(self._plan.read_bytes()).hexdigest()
        except FileNotFoundError:
            return ""

    def check_fence(self, fence: str) -> None:
        """Check that the running pack has this `fence` or makes the same shards; raise OutputError if not."""
        if self.fence() != fence:
            raise OutputError(
                f"{self.out}: its pack has ended or another one has begun since this shard was begun"
            )

    def end(self) -> None:
        """Remove the journal, its plan first: without a plan the pack counts as finished, whatever is left.

        Before that, remove the temporary files of workers that were killed while others made their shards.
        """
        with output_errors(self.out):
            self._delete(only_temporary=True)
            self._plan.unlink()
        self._remove()

    def tidy(self) -> None:
        """Remove what is left of a journal whose pack was killed while removing it."""
        if self._folder.exists():
            with suppress(OSError, OutputError), ExitStack() as stack:
                self._lock(stack)
                if not self._plan.exists():
                    self._remove()

    def _remove(self) -> None:
        if isinstance(self._folder, RemotePath):
            with suppress(OSError):
                remove_files(path for path in self._folder.iterdir() if not _is_lock(path))
        else:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _entry(self, name: str) -> AnyPath:
        return self._folder / Path(name).with_suffix(".json").name

    def _lock(self, stack: ExitStack) -> None:
        if isinstance(self._folder, RemotePath):
            self._claim = stack.enter_context(claimed(self._folder))
        else:
            stack.enter_context(self._locked(self._folder))

    @contextmanager
    def _locked(self, folder: Path) -> Iterator[None]:
        """Hold the lock of a folder on the disk; the system releases it however the process ends."""
        if folder.is_symlink():
            raise OutputError(f"{folder} is a symbolic link, not the folder of a journal; remove it")
        folder.mkdir(parents=True, exist_ok=True)
        lock = folder / "lock"
        with open_lock(lock) as file:
            try:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise OutputError(f"{self.out}: another pack is writing to it; wait for it to end") from error
            if not (lock.exists() and os.path.samestat(os.fstat(file.fileno()), lock.stat())):
                raise OutputError(f"{self.out}: another pack has just ended there; run the command again")
            yield

    def _compare(self, identity: dict[str, str]) -> None:
        try:
            before = dict(parse_json(self._plan.read_bytes()))
        except (ValueError, TypeError):
            before = {}
        changed = [name for name in identity if before.get(name) != identity[name]]
        if changed:
            raise OutputError(
                f"{self.out}: cannot resume, since the interrupted pack this has changed: {', '.join(changed)}; "
                "restore that, or pass --overwrite to pack again"
            )

    def _delete(self, *, only_temporary: bool) -> None:
        """Delete the files of a pack, the manifest first: without it the folder does not count as finished."""
        own = sorted(self.out.iterdir(), key=lambda path: (path.name != MANIFEST_NAME, path.name))
        for path in [*own, *self._folder.iterdir()]:
            is_kept = path.is_dir() or _is_lock(path)
            if not is_kept and (path.suffix == TEMPORARY_SUFFIX or not only_temporary):
                with suppress(FileNotFoundError):  # a worker may be removing or renaming its own file
                    path.unlink()


def _is_lock(path: AnyPath) -> bool:
    return path.name == "lock" or path.name.startswith(CLAIM_PREFIX)


def _is_own(path: AnyPath) -> bool:
    if path.name == JOURNAL_NAME and path.is_dir() and not path.is_symlink():
        return all(OWN_JOURNAL_NAME.fullmatch(entry.name) and entry.is_file() for entry in path.iterdir())
    return bool(OWN_NAME.fullmatch(path.name)) and path.is_file()


def _packed_from_dict(data: dict[str, Any]) -> PackedShard:
    statistics: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in data["statistics"].items()
    }
    return PackedShard(
        shard=Shard(**data["shard"]),
        rejected=tuple(Rejected(**rejected) for rejected in data["rejected"]),
        statistics=Statistics(**statistics),
        is_encoded=bool(data["is_encoded"]),
        fingerprints=dict(data["fingerprints"]),
    )
