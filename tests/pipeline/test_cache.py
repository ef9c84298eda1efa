"""Shards of an S3 server in the cache: never wrong, never twice, never more than there is room for."""

import json
import os
import resource
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

import fetching
import numpy as np
import pytest
from damaging import flip_bits
from late_proxy import LateProxy
from s3_server import LISTED_AGAIN_S, S3Server, url
from starting import start

from galaxy_zoo import stores
from galaxy_zoo.errors import OutputError, ShardError
from galaxy_zoo.manifest import read_manifest
from galaxy_zoo.objects import OBJECTS_NAME, write_objects
from galaxy_zoo.remote import path_of
from galaxy_zoo.view import View
from pipeline import cache
from pipeline.cache import Cache, open_set
from pipeline.shards import open_shards


@pytest.fixture
def stored(shards: Path, bucket: Path) -> Path:
    """The folder behind a set of shards in the store."""
    return Path(shutil.copytree(shards, bucket / "shards"))


@pytest.fixture
def requests(server: S3Server, stored: Path, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """The requests to the store so far, by method."""
    proxy = LateProxy(server.port, 0.01)
    proxy.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
    stores.open_store.cache_clear()
    return proxy.requests


def fetch(stored: Path, folder: Path, *splits: str, max_gb: float | None = None) -> Path:
    """Fetch splits of a set; the folder in the cache that they are in."""
    with open_set(path_of(url(stored)), Cache(folder, max_gb)) as source:
        source.need(*splits)
        return source.folder


def contents(folder: Path, pattern: str = "*") -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob(pattern)}


def num_shards(shards: Path, split: str) -> int:
    return len(read_manifest(shards).splits[split])


def another_set(stored: Path, number: int) -> Path:
    """A set of the same shards with another manifest."""
    folder = Path(shutil.copytree(stored, stored.with_name(f"set-{number}")))
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "seed": 1000 + number}))
    return folder


def test_a_set_on_the_disk_is_itself(shards: Path, tmp_path: Path) -> None:
    with open_set(shards, Cache(tmp_path / "cache")) as source:
        source.need("train")
        assert (source.path, source.folder) == (shards, shards)
    assert not (tmp_path / "cache").exists()


def test_what_is_fetched_has_the_bytes_of_the_store_and_is_fetched_once(
    stored: Path, requests: Counter[str], tmp_path: Path
) -> None:
    folder = fetch(stored, tmp_path, "train")
    assert contents(folder) == contents(stored, "train-*") | contents(stored, "manifest.json")
    assert requests["GET"] == 1 + 2 * num_shards(stored, "train")
    requests.clear()
    assert fetch(stored, tmp_path, "train") == folder
    assert requests["GET"] == 1  # the manifest
    assert fetch(stored, tmp_path, "train", "test", "test") == folder
    assert contents(folder) == contents(stored, "*.tar") | contents(stored, "*.idx") | contents(
        stored, "manifest*"
    )
    assert requests["GET"] == 2 + 2 * num_shards(stored, "test")
    samples, expected = open_shards(folder, "train"), open_shards(stored, "train")
    assert np.array_equal(samples.votes, expected.votes, equal_nan=True)


def test_what_was_measured_is_fetched_once_and_only_for_framed_views(
    stored: Path, requests: Counter[str], tmp_path: Path
) -> None:
    plain, framed = View(crop_px=64, size_px=32), View(crop_px=64, size_px=32, framing="centred")
    with open_set(path_of(url(stored)), Cache(tmp_path)) as source:
        requests.clear()
        source.need_objects(plain)
        assert not requests
        with pytest.raises(ShardError, match=rf"{url(stored)}/objects.csv: missing.*shard_tool objects SHARDS"):
            source.need_objects(framed)
        write_objects(stored, read_manifest(stored).set_sha256, [("7", 1.0, 2.0, 3.0)])
        time.sleep(2 * LISTED_AGAIN_S)
        source.need_objects(framed)
        assert contents(source.folder, OBJECTS_NAME) == contents(stored, OBJECTS_NAME)
        requests.clear()
        source.need_objects(framed)
        assert not requests


def test_a_set_that_is_packed_anew_is_another_one(stored: Path, tmp_path: Path) -> None:
    old = fetch(stored, tmp_path, "train")
    shutil.copy(another_set(stored, 0) / "manifest.json", stored)
    new = fetch(stored, tmp_path, "test")
    assert {old.name, new.name} == {path.name for path in tmp_path.iterdir() if path.is_dir()}
    assert contents(old, "test-*") == contents(new, "train-*") == {}


@pytest.mark.parametrize("name", ["train-000003.tar", "train-000003.idx"])
def test_wrong_bytes_are_an_error_that_names_the_shard_and_are_never_kept(
    name: str, stored: Path, requests: Counter[str], tmp_path: Path
) -> None:
    right = (stored / name).read_bytes()
    flip_bits(stored / name)
    with pytest.raises(ShardError, match=rf"{name}: its bytes are not those that the manifest was written for"):
        fetch(stored, tmp_path, "train")
    [folder] = (path for path in tmp_path.iterdir() if path.is_dir())
    kept = contents(folder)
    assert not {"train-000003.tar", *(each for each in kept if each.endswith(".part"))} & set(kept)
    assert kept.items() <= contents(stored).items()
    (stored / name).write_bytes(right)
    requests.clear()
    fetch(stored, tmp_path, "train")
    assert contents(folder) == contents(stored, "train-*") | contents(stored, "manifest.json")
    left = num_shards(stored, "train") - sum(each.endswith(".tar") for each in kept)
    assert requests["GET"] <= 1 + 2 * left


def test_bytes_that_were_wrong_once_are_fetched_again(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, copy, read = stored / "test-000000.tar", cache._copy, []
    right = path.read_bytes()
    flip_bits(path)

    def mend_after(source: Any, file: BinaryIO, note: Callable[[int], None]) -> str:
        digest = copy(source, file, note)
        if source.name == path.name:
            read.append(digest)
            path.write_bytes(right)
            time.sleep(2 * LISTED_AGAIN_S)
        return digest

    monkeypatch.setattr(cache, "_copy", mend_after)
    folder = fetch(stored, tmp_path, "test")
    assert contents(folder, "*.tar") == contents(stored, "test-*.tar")
    assert len(read) == 2
    assert read[1] == sha256(right).hexdigest() != read[0]


def test_a_shard_of_another_size_in_the_cache_is_fetched_again(stored: Path, tmp_path: Path) -> None:
    folder = fetch(stored, tmp_path, "test")
    (folder / "test-000000.tar").write_bytes(b"cut off")
    (folder / "test-000001.idx").unlink()
    fetch(stored, tmp_path, "test")
    assert contents(folder, "test-*") == contents(stored, "test-*")


@pytest.mark.slow
def test_a_process_that_is_killed_while_it_fetches_leaves_nothing_wrong_and_the_next_goes_on(
    stored: Path, requests: Counter[str], tmp_path: Path
) -> None:
    process = start(fetching.fetch, url(stored), tmp_path, "train", 10)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    [folder] = (path for path in tmp_path.iterdir() if path.is_dir())
    assert list(folder.glob("*.part"))
    finished = contents(folder, "*.tar")
    assert finished.items() <= contents(stored).items()
    requests.clear()
    fetch(stored, tmp_path, "train")
    assert contents(folder) == contents(stored, "train-*") | contents(stored, "manifest.json")
    assert requests["GET"] <= 1 + 2 * (num_shards(stored, "train") - len(finished))


@pytest.mark.slow
def test_of_processes_that_start_at_once_one_fetches_and_the_others_wait_for_it(
    stored: Path, requests: Counter[str], tmp_path: Path
) -> None:
    log = tmp_path.with_name(f"{tmp_path.name}.log")
    processes = [start(fetching.fetch, url(stored), tmp_path, "train", says=log) for _ in range(3)]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert requests["GET"] == len(processes) + 2 * num_shards(stored, "train")
    [folder] = (path for path in tmp_path.iterdir() if path.is_dir())
    assert contents(folder, "*.tar") == contents(stored, "train-*.tar")
    said = log.read_text()
    assert said.count(f"fetching {num_shards(stored, 'train')} shards into {folder}") == 1
    assert any(f"waiting: process {each.pid} fetches shards of {url(stored)}" in said for each in processes)


def test_the_set_that_was_used_longest_ago_makes_room_and_one_in_use_stays(stored: Path, tmp_path: Path) -> None:
    sets = [stored, *(another_set(stored, number) for number in range(3))]
    one_gb = sum(shard.bytes for shard in read_manifest(stored).splits["train"]) / 1e9
    folders = []
    for number, each in enumerate(sets[:3]):
        folders.append(fetch(each, tmp_path, "train"))
        os.utime(folders[-1] / "manifest.json", (number, number))
    fetch(sets[0], tmp_path, "train")  # used last
    (tmp_path / "notes").mkdir()  # somebody else's
    with open_set(path_of(url(sets[1])), Cache(tmp_path)) as oldest:
        os.utime(folders[1] / "manifest.json", (1, 1))
        last = fetch(sets[3], tmp_path, "train", max_gb=3.9 * one_gb)
        assert [folder.exists() for folder in folders] == [True, True, False]
        assert contents(oldest.folder, "*.tar") == contents(stored, "train-*.tar") == contents(last, "*.tar")
    assert fetch(sets[2], tmp_path, "train", max_gb=1.5 * one_gb) == folders[2]
    assert sorted(path for path in tmp_path.iterdir() if path.is_dir()) == [folders[2], tmp_path / "notes"]


def test_where_there_is_no_room_nothing_is_fetched_and_nothing_removed(
    stored: Path,
    requests: Counter[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    subtests: pytest.Subtests,
) -> None:
    kept = fetch(another_set(stored, 0), tmp_path, "test")
    monkeypatch.setattr(cache, "RESERVE_BYTES", 10**18)
    for max_gb, limit in [(1e-5, "--cache-gb 1e-05"), (None, "the disk has")]:
        with subtests.test(max_gb=max_gb):
            requests.clear()
            with pytest.raises(OutputError, match=rf"the cache .* has room for 0\.00 GB \({limit}"):
                fetch(stored, tmp_path, "train", max_gb=max_gb)
            assert requests["GET"] == 1
            assert contents(kept, "*.tar") == contents(stored, "test-*.tar")
    fetch(stored, tmp_path, "train", max_gb=1)


def test_a_full_disk_is_an_error_that_names_the_file_and_leaves_nothing_half(stored: Path, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            fetch(stored, tmp_path, "train")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(caught.value.filename).endswith(".tar")
    [folder] = (path for path in tmp_path.iterdir() if path.is_dir())
    assert contents(folder).items() <= contents(stored).items()
    fetch(stored, tmp_path, "train")
    assert contents(folder, "*.tar") == contents(stored, "train-*.tar")


@pytest.fixture
def kill_on_the_way(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], threading.Event]]:
    """Kills the server when the third shard is asked for; the event is set then."""
    copy, count, is_dead = cache._copy, 0, threading.Event()

    def counting(source: Any, file: BinaryIO, note: Callable[[int], None]) -> str:
        nonlocal count
        count += source.suffix == ".tar"
        if count == 3 and not is_dead.is_set():
            server.kill()
            is_dead.set()
        return copy(source, file, note)

    def arm() -> threading.Event:
        monkeypatch.setattr(cache, "_copy", counting)
        return is_dead

    yield arm
    server.kill()
    server.start()


@pytest.mark.slow
def test_a_server_killed_and_started_again_is_waited_for(
    stored: Path, server: S3Server, kill_on_the_way: Callable[[], threading.Event], tmp_path: Path
) -> None:
    is_dead = kill_on_the_way()

    def start_again() -> None:
        is_dead.wait()
        time.sleep(0.5)
        server.start()

    thread = threading.Thread(target=start_again)
    thread.start()
    folder = fetch(stored, tmp_path, "train")
    thread.join()
    assert contents(folder, "*.tar") == contents(stored, "train-*.tar")


@pytest.mark.slow
def test_a_server_that_stays_away_is_one_error_and_what_was_fetched_is_kept(
    stored: Path,
    server: S3Server,
    kill_on_the_way: Callable[[], threading.Event],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(stores.RETRY_VARIABLE, "0.3")
    kill_on_the_way()
    with pytest.raises(OSError, match="the store fails for") as caught:
        fetch(stored, tmp_path, "train")
    assert str(caught.value.filename).startswith(url(stored))
    [folder] = (path for path in tmp_path.iterdir() if path.is_dir())
    assert contents(folder).items() <= contents(stored).items()
    server.start()
    fetch(stored, tmp_path, "train")
    assert contents(folder, "*.tar") == contents(stored, "train-*.tar")


def test_a_split_that_there_is_not_is_named_with_the_url(stored: Path, tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"s3://.*/shards: no val shards; its splits are: train, test"):
        fetch(stored, tmp_path, "val")
    (stored / "manifest.json").unlink()
    with pytest.raises(ShardError, match=r"s3://.*/shards: no manifest\.json, so not a finished folder of shards"):
        fetch(stored, tmp_path, "train")
