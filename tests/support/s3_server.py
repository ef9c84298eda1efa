"""A real S3 server on this machine: rclone serves a folder, whose subfolders are the buckets."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LISTED_AGAIN_S = 0.02
"""How long rclone may not notice what others do to the folder; at 0 it stands still."""
KEY, SECRET = "a-key", "a-secret-that-nobody-may-see"


class S3Server:
    """Serves `folder`; may be killed and started again at the same address."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs to find it and to be let in."""
        return {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",  # where credentials are looked for last, for seconds
        }

    def start(self) -> None:
        """Start, and wait until it answers."""
        address = f"127.0.0.1:{self.port}"
        program = Path(sys.executable).with_name("rclone")
        options = ["--addr", address, "--auth-key", f"{KEY},{SECRET}", "--dir-cache-time", f"{LISTED_AGAIN_S}s"]
        command = [program, "serve", "s3", *options, self.folder]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                assert self._process.poll() is None, "rclone has ended"
                assert time.monotonic() < deadline, "rclone does not answer"
                time.sleep(0.02)

    @contextmanager
    def silent(self) -> Iterator[None]:
        """In the block it takes connections and says nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once, whatever it is doing."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def url(path: Path) -> str:
    """The URL of a file or folder in a bucket."""
    return f"s3://{path.parent.name}/{path.name}"
