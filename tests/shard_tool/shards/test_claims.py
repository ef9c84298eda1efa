"""Who may write to a folder of a store: one pack, and who comes after one that was killed."""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, replace

import fsspec
import pytest
from kaggle_download import Download, pack

from galaxy_zoo.errors import OutputError
from galaxy_zoo.files import write_text
from galaxy_zoo.remote import RemotePath
from shard_tool.shards.claims import CLAIM_PREFIX, DEAD_AFTER_S, Claim, claimed

ANOTHER = Claim(host="another", space="another boot", process=4711, renewed_s=0.0)


@pytest.fixture
def folder() -> Iterator[RemotePath]:
    yield RemotePath("memory://bucket/out/.pack")
    fsspec.filesystem("memory").store.clear()
    fsspec.filesystem("memory").pseudo_dirs[:] = [""]


def lay_down(folder: RemotePath, claim: Claim) -> None:
    write_text(folder / f"{CLAIM_PREFIX}{'0' * 32}", json.dumps(asdict(claim)))


def test_of_two_only_one_gets_the_folder_and_gives_it_back(folder: RemotePath) -> None:
    with claimed(folder) as held:
        held.check()
        with pytest.raises(OutputError, match="another pack is writing to it"), claimed(folder):
            pass
        held.check()
    assert list(folder.iterdir()) == []
    with claimed(folder):
        pass


def test_a_claim_that_is_not_renewed_counts_no_more(folder: RemotePath) -> None:
    for renewed_s in (time.time() - DEAD_AFTER_S - 1, 0.0):
        lay_down(folder, replace(ANOTHER, renewed_s=renewed_s))
        with claimed(folder):
            assert len(list(folder.iterdir())) == 1


def test_a_claim_of_another_machine_counts_until_it_is_old(folder: RemotePath) -> None:
    lay_down(folder, replace(ANOTHER, renewed_s=time.time() - DEAD_AFTER_S / 2))
    with pytest.raises(OutputError, match=r"process 4711 on another, last heard of 60 s ago"), claimed(folder):
        pass
    assert len(list(folder.iterdir())) == 1


def test_a_claim_is_renewed_but_not_laid_down_again(folder: RemotePath, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shard_tool.shards.claims.RENEWED_EVERY_S", 0.01)
    with claimed(folder) as held:
        first = held.path.read_text()
        deadline = time.monotonic() + 20
        while held.path.read_text() == first:
            assert time.monotonic() < deadline
        held.path.unlink()
        time.sleep(0.05)
        assert not held.path.exists()


def test_a_pack_that_was_taken_for_dead_writes_no_manifest(
    download: Download, folder: RemotePath, tmp_path: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shard_tool.shards import packing

    write_shards = packing.write_shards

    def write_and_lose(*arguments: object) -> object:
        shards = write_shards(*arguments)
        for path in folder.iterdir():
            if path.name.startswith(CLAIM_PREFIX):
                path.unlink()
        return shards

    monkeypatch.setattr(packing, "write_shards", write_and_lose)
    result = pack(download.write_folder(tmp_path / "source"), "memory://bucket/out")
    assert result.exit_code == 1
    assert "another pack has taken over" in result.stderr
    assert not RemotePath("memory://bucket/out/manifest.json").exists()
    monkeypatch.undo()
    assert pack(tmp_path / "source", "memory://bucket/out", "--resume").exit_code == 0
    assert RemotePath("memory://bucket/out/manifest.json").exists()
    assert not folder.exists()
