"""`fetch`: Kaggle's own client against a server on this machine that speaks as much of its API as is asked.

KAGGLE_API_ENVIRONMENT=LOCALHOST makes the client ask http://localhost; a proxy, which it takes from the environment
like any HTTP client, leads that to whatever port the server got.
"""

import base64
import hashlib
import inspect
import json
import shutil
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import Result
from kaggle_download import TABLE, TEST_FOLDER, TRAIN_FOLDER, Download, contents, pack, run, zip_of

from shard_tool.commands.fetch import COMPETITION, FILES
from shard_tool.source.files import walk

TOKEN = "KGAT_0123456789abcdef"
CHUNK_BYTES = 2**20
"""What kagglehub writes at once."""
RULES = f"https://www.kaggle.com/competitions/{COMPETITION}/rules"


@dataclass
class Kaggle:
    """What the server has, how it misbehaves, and what it was asked."""

    files: dict[str, bytes]
    refuses: int = 0
    cuts_off: str = ""
    spoils: str = ""
    lists_bytes: int = 0
    port: int = 0
    downloads: list[tuple[str, str]] = field(default_factory=list)
    """Name, and the range of bytes that was asked for."""
    authorizations: set[str] = field(default_factory=set)

    def listing(self) -> dict[str, object]:
        date = "2013-12-20T00:00:00Z"
        files = [
            {"name": name, "totalBytes": self.lists_bytes or len(data), "creationDate": date}
            for name, data in self.files.items()
        ]
        return {"files": files, "nextPageToken": ""}


def handler_of(kaggle: Kaggle) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert request["competitionName"] == COMPETITION
            kaggle.authorizations.add(self.headers["Authorization"] or "")
            if self.path.endswith("/ListDataFiles") and kaggle.refuses != 401:
                self.answer(200, json.dumps(kaggle.listing()).encode(), {"Content-Type": "application/json"})
            elif kaggle.refuses:
                message = {"code": kaggle.refuses, "message": "no"}
                self.answer(kaggle.refuses, json.dumps(message).encode(), {"Content-Type": "application/json"})
            else:
                assert self.path.endswith("/DownloadDataFile")
                self.answer(302, b"", {"Location": f"http://localhost/store/{request['fileName']}"})

        def do_GET(self) -> None:
            name = self.path.rpartition("/")[2]
            data = kaggle.files[name]
            wanted = self.headers.get("Range", "")
            kaggle.downloads.append((name, wanted))
            md5 = base64.b64encode(hashlib.md5(data).digest()).decode()
            if name == kaggle.spoils:
                data = bytes(len(data))
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
            headers = {"Accept-Ranges": "bytes", "x-goog-hash": f"crc32c=AAAAAA==,md5={md5}"}
            self.answer(206 if wanted else 200, data[start:], headers, is_cut=name == kaggle.cuts_off)

        def answer(self, status: int, body: bytes, headers: dict[str, str], *, is_cut: bool = False) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if is_cut else body)

    return Handler


@pytest.fixture
def server(download: Download, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kaggle]:
    """A server with a tiny competition, and an environment that leads to it with a token."""
    pytest.importorskip("kagglehub")
    zips = {f"{name}.zip": zip_of(files) for name, files in download.files().items()}
    server = Kaggle(
        {**zips, "central_pixel_benchmark.zip": zip_of({"central_pixel_benchmark.csv": b"GalaxyID\n"})}
    )
    listener = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(server))
    server.port = listener.server_port
    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY", "no_proxy", "NO_PROXY", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.port}")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "home"))
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    # Its user agent tells which libraries call it: seconds, among all that the tests have loaded.
    monkeypatch.setattr(inspect, "stack", list)
    threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01}).start()
    yield server
    listener.shutdown()
    listener.server_close()


def fetch(out: Path) -> Result:
    """Run `fetch`; wherever it ends, the token must have gone nowhere."""
    result = run("fetch", out)
    secret = TOKEN.removeprefix("KGAT_")
    assert secret not in result.output
    assert secret not in repr(result.exception)
    if out.is_dir():
        assert not [name for name, data in contents(out).items() if secret.encode() in data]
    return result


def assert_says_how_to_do_it_by_hand(result: Result, out: Path) -> None:
    assert result.exit_code == 1
    for needed in (*FILES, RULES, f"https://www.kaggle.com/competitions/{COMPETITION}/data"):
        assert needed in result.stderr
    assert f"put them into {out} as they are" in result.stderr
    assert f"shard_tool pack {out} shards" in result.stderr


def test_all_files_come_whole_and_pack_reads_them(server: Kaggle, packed: Path, tmp_path: Path) -> None:
    out = tmp_path / "kaggle"
    result = fetch(out)
    assert result.exit_code == 0, result.stderr
    assert contents(out) == server.files
    assert server.authorizations == {f"Bearer {TOKEN}"}
    assert result.stdout == f"All files are in {out}. Next: shard_tool pack {out} shards\n"
    assert pack(out, tmp_path / "shards").exit_code == 0
    assert contents(tmp_path / "shards") == contents(packed)
    assert not (tmp_path / "home").exists()


def test_a_user_name_and_a_key_do_as_well(server: Kaggle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    monkeypatch.setenv("KAGGLE_USERNAME", "hubble")
    monkeypatch.setenv("KAGGLE_KEY", TOKEN)
    assert fetch(tmp_path / "out").exit_code == 0
    assert server.authorizations == {"Basic " + base64.b64encode(f"hubble:{TOKEN}".encode()).decode()}


def test_what_is_there_and_whole_stays_and_the_rest_comes(server: Kaggle, tmp_path: Path) -> None:
    train, test = f"{TRAIN_FOLDER}.zip", f"{TEST_FOLDER}.zip"
    (tmp_path / train).write_bytes(server.files[train])
    (tmp_path / test).write_bytes(server.files[test][:-1])
    result = fetch(tmp_path)
    assert result.exit_code == 0, result.stderr
    assert f"{tmp_path / train}: there already" in result.stderr
    assert {name for name, _ in server.downloads} == set(FILES) - {train}
    assert {name: (tmp_path / name).read_bytes() for name in FILES} == server.files
    server.downloads.clear()
    assert fetch(tmp_path).exit_code == 0
    assert server.downloads == []


def test_a_lost_connection_leaves_no_half_file_and_the_next_run_goes_on(server: Kaggle, tmp_path: Path) -> None:
    server.cuts_off = f"{TRAIN_FOLDER}.zip"
    server.files[server.cuts_off] = bytes(3 * CHUNK_BYTES) + server.files[server.cuts_off]
    result = fetch(tmp_path)
    assert_says_how_to_do_it_by_hand(result, tmp_path)
    assert "the connection was lost" in result.stderr
    assert {path.name for path in tmp_path.glob("*.zip")} == {f"{TABLE}.zip", "central_pixel_benchmark.zip"}
    half = next(tmp_path.rglob(f"{TRAIN_FOLDER}.zip"))
    assert 0 < half.stat().st_size < len(server.files[half.name])
    assert str(half) not in [file.path for file in walk(tmp_path)]
    server.downloads.clear()
    server.cuts_off = ""
    assert fetch(tmp_path).exit_code == 0
    assert (f"{TRAIN_FOLDER}.zip", f"bytes={CHUNK_BYTES}-") in server.downloads
    assert {name: (tmp_path / name).read_bytes() for name in FILES} == server.files
    assert not (tmp_path / ".fetch").exists()


def test_a_file_that_comes_damaged_is_not_kept(server: Kaggle, tmp_path: Path) -> None:
    server.spoils = f"{TRAIN_FOLDER}.zip"
    result = fetch(tmp_path)
    assert result.exit_code == 1
    assert "came damaged: its checksum differs" in result.stderr
    assert not (tmp_path / server.spoils).exists()
    server.spoils = ""
    assert fetch(tmp_path).exit_code == 0


REFUSALS = {
    401: "Kaggle does not accept the token: create one at https://www.kaggle.com/settings",
    403: f"Kaggle refuses (403): accept the rules at {RULES}",
    500: "Kaggle answers with status 500: try again later",
}


def test_a_refusal_says_what_to_do(server: Kaggle, tmp_path: Path, subtests: pytest.Subtests) -> None:
    for status, message in REFUSALS.items():
        with subtests.test(status=status):
            server.refuses = status
            result = fetch(tmp_path)
            assert_says_how_to_do_it_by_hand(result, tmp_path)
            assert message in result.stderr
            assert not list(tmp_path.glob("*.zip"))


def test_no_token(server: Kaggle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    out = tmp_path / "out"
    result = fetch(out)
    assert_says_how_to_do_it_by_hand(result, out)
    assert "no Kaggle token found" in result.stderr
    assert not out.exists()
    assert "KAGGLE_API_TOKEN" in result.stderr
    assert server.authorizations == set()


def test_a_damaged_token_file(server: Kaggle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "kaggle.json").write_text(f'{{"username": "hubble", "key": "{TOKEN}"')
    result = fetch(tmp_path / "out")
    assert_says_how_to_do_it_by_hand(result, tmp_path / "out")
    assert "kaggle.json, where the token should be, is damaged" in result.stderr


def test_no_network(server: Kaggle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{unused.getsockname()[1]}")
    result = fetch(tmp_path)
    assert_says_how_to_do_it_by_hand(result, tmp_path)
    assert "cannot be reached" in result.stderr


def test_kagglehub_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "kagglehub"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    result = fetch(tmp_path / "out")
    assert_says_how_to_do_it_by_hand(result, tmp_path / "out")
    assert "pip install kagglehub" in result.stderr
    assert not (tmp_path / "out").exists()


def test_too_little_room_is_seen_before_the_download(server: Kaggle, tmp_path: Path) -> None:
    server.lists_bytes = 2 * shutil.disk_usage(tmp_path).total
    result = fetch(tmp_path)
    assert result.exit_code == 1
    assert "make room or name another folder" in result.stderr
    assert server.downloads == []


def test_a_file_of_another_size_than_listed_is_not_kept(server: Kaggle, tmp_path: Path) -> None:
    server.lists_bytes = 10
    result = fetch(tmp_path)
    assert result.exit_code == 1
    assert "that are no whole zip of the 10 that Kaggle lists" in result.stderr
    assert not list(tmp_path.rglob("*.zip"))


def test_a_competition_without_a_file_names_it(server: Kaggle, tmp_path: Path) -> None:
    del server.files[f"{TABLE}.zip"]
    result = fetch(tmp_path)
    assert_says_how_to_do_it_by_hand(result, tmp_path)
    assert f"has no {TABLE}.zip, but central_pixel_benchmark.zip" in result.stderr


def test_out_that_cannot_be_written(server: Kaggle, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = fetch(tmp_path / "file")
    assert result.exit_code == 1
    assert "Not a directory; fix this or name another folder" in result.stderr
