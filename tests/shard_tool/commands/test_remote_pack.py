"""`pack` from and into a real S3 server: the bytes of a local pack, whatever happens on the way."""

import json
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from kaggle_download import Download, contents, jpeg, pack, run
from s3_server import LISTED_AGAIN_S, SECRET, S3Server, url

from galaxy_zoo import remote, stores
from galaxy_zoo.errors import SourceError
from galaxy_zoo.files import sha256_of
from galaxy_zoo.remote import PART_BYTES, RemotePath, path_of
from shard_tool.source.files import walk

pytest.importorskip("s3fs", reason="object stores need the extra s3")

ROOT = Path(__file__).parents[3]


def write_tar(path: Path, source: Path) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as tar:
        tar.add(source, ".")
    return path


def test_every_source_gives_the_bytes_of_a_local_pack(
    bucket: Path, whole_download: Download, packed: Path, subtests: pytest.Subtests
) -> None:
    folder = whole_download.write_folder(bucket / "folder")
    sources = [
        folder,
        whole_download.write_zips(bucket / "zips"),
        whole_download.write_one_zip(bucket / "one.zip"),
        whole_download.write_zip_of_zips(bucket / "zips.zip", zipfile.ZIP_DEFLATED),
        write_tar(bucket / "one.tar", folder),
        write_tar(bucket / "one.tgz", folder),
    ]
    for source in sources:
        with subtests.test(source.name):
            out = bucket / f"out-{source.name}"
            result = pack(url(source), url(out))
            assert result.exit_code == 0, result.stderr
            assert contents(out) == contents(packed)


def test_tables_are_read_by_url_and_shards_are_read_back(bucket: Path, download: Download, tmp_path: Path) -> None:
    source = download.write_folder(bucket / "source")
    table = (source / "training_solutions_rev1.csv").rename(bucket / "votes.csv")
    rows = [line.split(",", 1) for line in table.read_text().splitlines()]
    files = ["file", *(f"images_training_rev1/{row[0]}.jpg" for row in rows[1:])]
    catalogue = bucket / "catalogue.csv"
    catalogue.write_text("".join(f"{row[0]},{file},{row[1]}\n" for row, file in zip(rows, files, strict=True)))
    assert pack(url(source), url(bucket / "a"), "--labels", url(table)).exit_code == 0
    assert pack(source, tmp_path / "a", "--labels", table).exit_code == 0
    assert contents(bucket / "a") == contents(tmp_path / "a")
    shutil.rmtree(source / "images_test_rev1")
    assert pack(url(source), url(bucket / "b"), "--catalogue", url(catalogue)).exit_code == 0
    assert pack(source, tmp_path / "b", "--catalogue", catalogue).exit_code == 0
    assert contents(bucket / "b") == contents(tmp_path / "b")
    assert run("info", url(bucket / "a")).stdout == run("info", bucket / "a").stdout
    for name, shards in (("store", url(bucket / "a")), ("disk", bucket / "a")):
        assert run("preview", shards, tmp_path / f"{name}.png").exit_code == 0
    assert (tmp_path / "store.png").read_bytes() == (tmp_path / "disk.png").read_bytes()
    for options in ((), ("--deep",)):
        good = run("lint", url(bucket / "a"), *options, "--workers", 1)
        assert (good.exit_code, good.stdout.count("good: 42 samples")) == (0, 1), good.stderr
    (bucket / "a" / "test-000003.tar").write_bytes(b"damaged")
    damaged = run("lint", url(bucket / "a"), "--workers", 1)
    assert damaged.exit_code == 1
    assert "test-000003.tar 7 bytes, the manifest says" in damaged.stdout


def test_an_occupied_place_is_refused_and_an_old_pack_replaced(bucket: Path, kaggle: Path, packed: Path) -> None:
    assert pack(kaggle, url(bucket / "out"), "--seed", 5).exit_code == 0
    before = contents(bucket / "out")
    refused = pack(kaggle, url(bucket / "out"))
    assert refused.exit_code == 1
    assert "not empty" in refused.stderr
    assert contents(bucket / "out") == before
    assert pack(kaggle, url(bucket / "out"), "--overwrite").exit_code == 0
    assert contents(bucket / "out") == contents(packed)
    (bucket / "out" / "thesis.txt").write_text("years of work")
    foreign = pack(kaggle, url(bucket / "out"), "--overwrite")
    assert foreign.exit_code == 1
    assert "holds thesis.txt, which pack did not make" in foreign.stderr
    assert {**contents(packed), "thesis.txt": b"years of work"} == contents(bucket / "out")


def wait_for_a_shard(out: Path) -> None:
    """Wait until a pack has finished a first shard and is at work on others."""
    deadline = time.monotonic() + 60
    while not list(out.glob(".pack/t*-*.json")):
        assert time.monotonic() < deadline
        time.sleep(0.005)


def pack_and_disturb(bucket: Path, disturb: Callable[[], object]) -> Any:
    """Pack a zip in a bucket, and do something as soon as the first shard is there."""

    def wait_and_disturb() -> None:
        wait_for_a_shard(bucket / "out")
        disturb()

    thread = threading.Thread(target=wait_and_disturb)
    thread.start()
    result = pack(url(bucket / "source.zip"), url(bucket / "out"))
    thread.join()
    return result


def is_begun_by(expected: dict[str, bytes], out: Path) -> bool:
    """Whether a pack is not finished, and every object under a final name is whole."""
    final = {path.name: path.read_bytes() for path in out.glob("t*-*") if path.suffix in (".tar", ".idx")}
    return bool(final) and final.items() < expected.items() and not (out / "manifest.json").exists()


@pytest.mark.slow
def test_a_killed_pack_is_resumed_to_the_same_bytes(bucket: Path, download: Download, packed: Path) -> None:
    download.write_one_zip(bucket / "source.zip")
    out = bucket / "out"
    source = url(bucket / "source.zip")
    command = [sys.executable, "-m", "shard_tool", "pack", source, url(out), "--workers", "2"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        wait_for_a_shard(out)
        process.send_signal(signal.SIGSTOP)  # or it might end before the second one has begun
        second = pack(source, url(out), "--resume")
    finally:
        process.kill()
        process.wait()
    assert second.exit_code == 1
    assert f"another pack is writing to it: process {process.pid} on " in second.stderr
    assert is_begun_by(contents(packed), out)
    refused = pack(source, url(out))
    assert refused.exit_code == 1
    assert "pass --resume to finish an interrupted pack" in refused.stderr
    result = pack(source, url(out), "--resume")
    assert result.exit_code == 0, result.stderr
    assert contents(out) == contents(packed)


@pytest.mark.slow
def test_a_server_killed_and_started_again_is_waited_for(
    server: S3Server, bucket: Path, download: Download, packed: Path
) -> None:
    download.write_one_zip(bucket / "source.zip")

    def interrupt() -> None:
        server.kill()
        time.sleep(0.5)
        server.start()

    result = pack_and_disturb(bucket, interrupt)
    assert result.exit_code == 0, result.stderr
    assert contents(bucket / "out") == contents(packed)


@pytest.mark.slow
def test_a_server_that_hangs_is_waited_for(
    server: S3Server, bucket: Path, download: Download, packed: Path
) -> None:
    download.write_one_zip(bucket / "source.zip")

    def hang() -> None:
        with server.silent():
            time.sleep(1)

    result = pack_and_disturb(bucket, hang)
    assert result.exit_code == 0, result.stderr
    assert contents(bucket / "out") == contents(packed)


@pytest.mark.slow
def test_a_server_that_hangs_for_good_is_one_error_and_nothing_is_lost(
    server: S3Server, bucket: Path, download: Download, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(stores.RETRY_VARIABLE, "0.5")
    monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": {"read_timeout": 0.5}})
    monkeypatch.setattr(remote, "UPLOAD_S", 1.0)
    download.write_one_zip(bucket / "source.zip")
    with ExitStack() as silence:
        result = pack_and_disturb(bucket, lambda: silence.enter_context(server.silent()))
    assert result.exit_code == 1
    assert "the store fails for" in result.stderr
    assert is_begun_by(contents(packed), bucket / "out")
    assert pack(url(bucket / "source.zip"), url(bucket / "out"), "--resume").exit_code == 0
    assert contents(bucket / "out") == contents(packed)


@pytest.mark.slow
def test_a_server_gone_for_good_is_one_error_and_nothing_is_lost(
    server: S3Server,
    bucket: Path,
    download: Download,
    packed: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(stores.RETRY_VARIABLE, "0.5")
    download.write_one_zip(bucket / "source.zip")
    result = pack_and_disturb(bucket, server.kill)
    server.start()
    assert result.exit_code == 1
    assert "the store fails for" in result.stderr
    assert SECRET not in result.output
    assert is_begun_by(contents(packed), bucket / "out")
    claims = list((bucket / "out" / ".pack").glob("lock-*"))
    assert len(claims) == 1  # it could not be taken back
    claim = json.loads(claims[0].read_text())
    claims[0].write_text(json.dumps({**claim, "space": "another machine"}))
    early = pack(url(bucket / "source.zip"), url(bucket / "out"), "--resume")
    assert early.exit_code == 1
    assert "If it was killed, run the same command with --resume 120 s later" in early.stderr
    claims[0].write_text(json.dumps({**claim, "space": "another machine", "renewed_s": claim["renewed_s"] - 121}))
    assert pack(url(bucket / "source.zip"), url(bucket / "out"), "--resume").exit_code == 0
    assert contents(bucket / "out") == contents(packed)


NOT_LET_IN = [
    ({"AWS_SECRET_ACCESS_KEY": "another-secret"}, "access denied"),
    ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "no credentials"),
    ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "Could not connect to the endpoint URL"),
]


def test_who_is_not_let_in_gets_one_line_without_secrets(
    bucket: Path, kaggle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests
) -> None:
    monkeypatch.setenv(stores.RETRY_VARIABLE, "0.2")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    shutil.copytree(kaggle, bucket / "source")
    for variables, message in NOT_LET_IN:
        for source, out in ((url(bucket / "source"), tmp_path / "out"), (kaggle, url(bucket / "out"))):
            with subtests.test(message, out=out), monkeypatch.context() as patch:
                for name, value in variables.items():
                    patch.setenv(name, value)
                stores.open_store.cache_clear()
                result = pack(source, out)
                assert result.exit_code == 1
                assert message in result.stderr
                assert len(result.stderr.strip().splitlines()) == 1, result.stderr
                assert "secret" not in result.output
    assert [path.name for path in bucket.iterdir()] == ["source"]
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("bucket")
def test_a_missing_bucket_is_named(kaggle: Path, tmp_path: Path, subtests: pytest.Subtests) -> None:
    where, out = "s3://no-such-bucket/there", tmp_path / "out"
    for source, target, *options in (
        (where, out),
        (kaggle, where),
        (kaggle, out, "--labels", where),
        (kaggle, out, "--catalogue", where),
    ):
        with subtests.test(source=source, target=target, options=options):
            result = pack(source, target, *options)
            assert result.exit_code == 1
            assert f"{where}: " in result.stderr
            assert "there is no such" in result.stderr


def test_a_source_that_changes_meanwhile_is_refused(
    bucket: Path, download: Download, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shard_tool.shards import packing

    write_shards = packing.write_shards

    def change_after(change: Callable[[], object]) -> None:
        def write_and_change(*arguments: Any) -> Any:
            shards = write_shards(*arguments)
            change()
            time.sleep(2 * LISTED_AGAIN_S)
            return shards

        monkeypatch.setattr(packing, "write_shards", write_and_change)

    source = download.write_folder(bucket / "source") / "images_test_rev1" / "200018.jpg"
    change_after(lambda: source.write_bytes(jpeg(1)))
    changed = pack(url(bucket / "source"), url(bucket / "out"))
    change_after(source.unlink)
    vanished = pack(url(bucket / "source"), url(bucket / "out"), "--overwrite")
    for result, what in ((changed, "changed"), (vanished, "vanished")):
        assert result.exit_code == 1
        assert (
            f"{url(bucket / 'source')}/images_test_rev1/200018.jpg: has {what} while it was packed"
            in result.stderr
        )
    assert not (bucket / "out" / "manifest.json").exists()


def test_an_archive_that_is_replaced_is_not_mistaken_for_a_damaged_one(bucket: Path, download: Download) -> None:
    path = download.write_one_zip(bucket / "source.zip")
    image = next(file for file in walk(path_of(url(path))) if file.name == "100008.jpg")
    assert image.read() == download.train["100008"]
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(SourceError, match=r"s3://.*/source\.zip: has changed since it was listed"):
        image.read()
    path.unlink()
    with pytest.raises(SourceError, match="there is no such file"):
        image.read()


def test_a_large_shard_is_uploaded_in_parts_and_appears_only_when_it_is_whole(bucket: Path) -> None:
    path = RemotePath(url(bucket / "large.tar"))
    data = np.random.default_rng(0).bytes(2 * PART_BYTES + 12345)
    with path.atomic_write() as file:
        file.write(data)
        assert not path.exists()
    assert path.stat().st_size == len(data)
    assert sha256_of(path) == sha256(data).hexdigest()
    with pytest.raises(KeyboardInterrupt), path.atomic_write() as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert (bucket / "large.tar").read_bytes() == data
