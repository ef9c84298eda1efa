"""`pack` from and to a host that a URL names, with one connection for each thread: a real FTP server."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from kaggle_download import Download, contents, pack, run

from galaxy_zoo import stores

authorizers = pytest.importorskip("pyftpdlib.authorizers")
handlers = pytest.importorskip("pyftpdlib.handlers")
servers = pytest.importorskip("pyftpdlib.servers")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[str]:
    """The URL of a server of the folder `ftp`."""
    (tmp_path / "ftp").mkdir()

    class Handler(handlers.FTPHandler):
        authorizer = authorizers.DummyAuthorizer()

    with pytest.warns(RuntimeWarning, match="write permissions"):
        Handler.authorizer.add_anonymous(str(tmp_path / "ftp"), perm="elradfmwMT")
    server = servers.ThreadedFTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    stores.open_store.cache_clear()
    yield f"ftp://127.0.0.1:{server.address[1]}"
    stores.open_store.cache_clear()
    server.close_all()
    thread.join()


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::UserWarning")
def test_a_host_gives_and_takes_the_bytes_of_a_local_pack(
    host: str, whole_download: Download, packed: Path, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    files = tmp_path / "ftp"
    whole_download.write_folder(files / "folder")
    whole_download.write_zips(files / "zips")
    for form in ("folder", "zips"):
        with subtests.test(form):
            source, out = f"{host}/{form}", f"{host}/deep/{form}"
            result = pack(source, out)
            assert result.exit_code == 0, result.stderr
            assert contents(files / "deep" / form) == contents(packed)
            assert run("lint", out, "--workers", 1).exit_code == 0
            again = pack(source, out)
            assert (again.exit_code, "not empty" in again.stderr) == (1, True)
            shutil.rmtree(files / form)
            assert pack(source, f"{host}/other").exit_code == 1
