"""Keep shards of an object store on the disk of this machine: fetch them once, then map them like any others.

    CACHE/<sha256>/         a set of shards: its manifest (whose sha256 names the folder), the shards fetched so far
    CACHE/<sha256>.lock     shared lock of the processes that use the set; removing the set takes it exclusively
    CACHE/fetching.lock     held by the process that makes room and fetches; all others wait

A file gets its final name only when its bytes are on the disk and have the sha256 in the manifest. So it is trusted
like a shard that was packed here: every start compares the size of the tar and the checksum of its index
(`shards.Samples`), but does not hash the tar again. If a process is killed, the file it was fetching has no final name
yet and is fetched again. A set that was packed anew has another manifest, so it gets another folder, whatever its URL.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from threading import Event, Lock
from typing import BinaryIO

import click

from galaxy_zoo.errors import OutputError, ShardError
from galaxy_zoo.files import TEMPORARY_SUFFIX, atomic_write, exclusive, in_turn, in_use
from galaxy_zoo.index import index_path
from galaxy_zoo.manifest import MANIFEST_NAME, Manifest, Shard, manifest_bytes, parse_manifest
from galaxy_zoo.objects import OBJECTS_NAME, not_measured
from galaxy_zoo.progress import progress
from galaxy_zoo.remote import AnyPath, RemotePath
from galaxy_zoo.stores import until
from galaxy_zoo.text import gigabytes
from galaxy_zoo.view import View
from pipeline.shards import shards_of

FETCHERS = 8
"""Number of shards that are fetched at once."""
BLOCK_BYTES = 8 * 2**20
INDEX_BYTES = 128
"""Rough size of a sample's line in an index; manifests do not say how large indexes are."""
RESERVE_BYTES = 2 * 10**9
"""Bytes that a cache leaves free on its disk for other files."""
LOCK_SUFFIX = ".lock"
ENTRY = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Cache:
    """The folder of all cached sets, and the GB they may take together; None: all the disk has except a reserve."""

    folder: Path
    max_gb: float | None = None

    def room(self) -> tuple[float, str]:
        """Return the number of bytes that may be added, and the reason for the limit."""
        free = shutil.disk_usage(self.folder).free
        has_free = f"the disk has {gigabytes(free)} free"
        if self.max_gb is None:
            return (
                free - RESERVE_BYTES,
                f"{has_free}, {gigabytes(RESERVE_BYTES)} of it kept free without --cache-gb",
            )
        taken = sum(map(_num_bytes, self.entries()))
        return min((free, has_free), (self.max_gb * 1e9 - taken, f"--cache-gb {self.max_gb:g}"))

    def entries(self) -> list[Path]:
        """Return the folders of all sets, the least recently used first."""
        named = (path for path in self.folder.iterdir() if ENTRY.fullmatch(path.name) and path.is_dir())
        return sorted(named, key=_last_use)


@dataclass(frozen=True)
class ShardSet:
    """A set of shards. path: as the user named it; folder: where its files are on the disk."""

    path: AnyPath
    folder: Path

    def need(self, *splits: str) -> None:
        """Make sure that the shards of some splits are in `folder`; do nothing for a set on the disk."""

    def need_shards(self, shards: Sequence[Shard]) -> None:
        """Make sure that some shards of the set are in `folder`; do nothing for a set on the disk."""

    def need_objects(self, view: View) -> None:
        """Make sure that the measurements of the galaxies are in `folder`, if `view` is framed by them.

        Raises:
            ShardError: they are missing.
        """
        if view.framing != "image" and not (self.folder / OBJECTS_NAME).exists():
            raise not_measured(self.folder / OBJECTS_NAME)


@dataclass(frozen=True, kw_only=True)
class CachedSet(ShardSet):
    """A set of shards of a store; `need` fetches what is missing. Use it only within `open_set`, which locks it."""

    path: RemotePath
    manifest: Manifest
    cache: Cache

    def need(self, *splits: str) -> None:
        """Fetch the shards of some splits; see `need_shards`.

        Raises:
            ShardError: there is no such split.
        """
        self.need_shards([shard for split in set(splits) for shard in shards_of(self.path, self.manifest, split)])

    def need_shards(self, shards: Sequence[Shard]) -> None:
        """Fetch missing shards, or wait for the process that fetches them; show progress.

        Raises:
            ShardError: the store has other bytes than the manifest says.
            OutputError: the cache has no room for them.
            OSError: the store fails, or the cache cannot be written.
        """
        if not self._missing(shards):
            return
        note = f"process {os.getpid()} fetches shards of {self.path}"
        with in_turn(self.cache.folder / f"fetching{LOCK_SUFFIX}", note=note, on_wait=self._say_waiting):
            for suffix in (".tar", ".idx"):
                for left in self.folder.glob(f"*{suffix}{TEMPORARY_SUFFIX}"):  # left by a killed process
                    left.unlink()
            missing = self._missing(shards)
            if missing:
                self._make_room(sum(shard.bytes + INDEX_BYTES * shard.samples for shard in missing))
                self._fetch_all(missing)

    def need_objects(self, view: View) -> None:
        """Fetch the measurements of the galaxies, if `view` is framed by them; the file names the set it belongs to.

        Raises:
            ShardError: the store does not have them.
            OSError: the store fails, or the cache cannot be written.
        """
        path = self.folder / OBJECTS_NAME
        if view.framing == "image" or path.exists():
            return
        try:
            data = (self.path / OBJECTS_NAME).read_bytes()
        except FileNotFoundError as error:
            raise not_measured(self.path / OBJECTS_NAME) from error
        with atomic_write(path, is_contested=True) as file:
            file.write(data)

    def _missing(self, shards: Sequence[Shard]) -> list[Shard]:
        paths = [(shard, self.folder / shard.name) for shard in shards]
        return [shard for shard, path in paths if _size(path) != shard.bytes or not index_path(path).exists()]

    def _say_waiting(self, note: str) -> None:
        if int(os.environ.get("LOCAL_RANK", "0")) == 0:
            click.echo(f"waiting: {note or 'another process fetches shards'} into {self.cache.folder}", err=True)

    def _make_room(self, needed: float) -> None:
        """Remove sets that nobody uses, the least recently used first, until there is room.

        Raises:
            OutputError: even removing all of them would not make enough room; nothing is removed.
        """
        with ExitStack() as held:
            idle = [entry for entry in self.cache.entries() if _is_idle(entry, held)]
            room, reason = self.cache.room()
            if needed > (most := room + sum(map(_num_bytes, idle))):
                raise OutputError(
                    f"{self.path}: {gigabytes(needed)} must be fetched, and the cache {self.cache.folder} "
                    f"has room for {gigabytes(max(0, most))} ({reason}); name a folder on a larger disk with "
                    "--cache, or allow more with --cache-gb"
                )
            for entry in idle:
                if needed <= self.cache.room()[0]:
                    return
                shutil.rmtree(entry)

    def _fetch_all(self, shards: Sequence[Shard]) -> None:
        """Fetch shards, several at once; stop all if one fails."""
        total, is_over, guard = sum(shard.bytes for shard in shards), Event(), Lock()
        click.echo(f"{self.path}: fetching {len(shards):,} shards into {self.folder}", err=True)
        with (
            progress(total=total, unit="B", desc="shards") as bar,
            until(is_over.is_set),
            ThreadPoolExecutor(FETCHERS if self.path.takes_many_at_once else 1) as pool,
        ):

            def note(num_bytes: int) -> None:
                if is_over.is_set():
                    raise InterruptedError
                with guard:
                    bar.update(num_bytes)

            try:
                for done in as_completed([pool.submit(copy_context().run, self._fetch, s, note) for s in shards]):
                    done.result()
            finally:
                is_over.set()
                pool.shutdown(cancel_futures=True)

    def _fetch(self, shard: Shard, note: Callable[[int], None]) -> None:
        """Fetch the index of a shard, then the shard, so that a shard that is there has its index."""
        index = index_path(Path(shard.name)).name
        _download(self.path / index, self.folder / index, shard.index_sha256, lambda _: note(0))
        _download(self.path / shard.name, self.folder / shard.name, shard.sha256, note)


@contextmanager
def open_set(path: AnyPath, cache: Cache) -> Iterator[ShardSet]:
    """Open a set of shards, with its manifest on the disk; keep a store's set in the cache while the block lasts.

    Raises:
        ShardError: the store has no such set, or its manifest is damaged.
        OSError: the store fails, or the cache cannot be written.
    """
    if isinstance(path, Path):
        yield ShardSet(path, path)
        return
    data = manifest_bytes(path)
    manifest, name = parse_manifest(data, path), sha256(data).hexdigest()
    folder = cache.folder / name
    cache.folder.mkdir(parents=True, exist_ok=True)
    with in_use(cache.folder / f"{name}{LOCK_SUFFIX}"):
        folder.mkdir(exist_ok=True)
        if not (folder / MANIFEST_NAME).exists():
            with atomic_write(folder / MANIFEST_NAME, is_contested=True) as file:
                file.write(data)
        os.utime(folder / MANIFEST_NAME)  # the time of last use
        yield CachedSet(path=path, folder=folder, manifest=manifest, cache=cache)


def _download(source: RemotePath, target: Path, digest: str, note: Callable[[int], None]) -> None:
    """Download an object, whole and with the sha256 `digest`, or not at all; read wrong bytes once more.

    note: called with the number of bytes as they come, and with a negative number for bytes that were wrong.
    """
    with atomic_write(target) as file:
        for _ in range(2):
            file.seek(0)
            file.truncate()
            if _copy(source, file, note) == digest:
                return
            note(-file.tell())
        raise ShardError(
            f"{source}: its bytes are not those that the manifest was written for (sha256), nor were they at a second "
            "try; compare the store with: shard_tool lint, and copy the shard there again, or pack again"
        )


def _copy(source: RemotePath, file: BinaryIO, note: Callable[[int], None]) -> str:
    """Append the bytes of an object to a file; return their sha256."""
    digest = sha256()
    with source.open() as stream:
        while block := stream.read(BLOCK_BYTES):
            digest.update(block)
            file.write(block)
            note(len(block))
    return digest.hexdigest()


def _is_idle(entry: Path, held: ExitStack) -> bool:
    """Return whether nobody uses a set; if so, keep it unused with a lock that is added to `held`."""
    try:
        held.enter_context(exclusive(entry.with_suffix(LOCK_SUFFIX), busy="it is in use"))
    except OutputError:
        return False
    return True


def _last_use(entry: Path) -> float:
    try:
        return (entry / MANIFEST_NAME).stat().st_mtime
    except FileNotFoundError:  # a process was killed before it wrote the manifest, or while it removed the set
        return 0.0


def _num_bytes(entry: Path) -> int:
    return sum(_size(path) or 0 for path in entry.iterdir())


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None
