"""`shard_tool pack` from and into an S3 server on this machine that answers late, beside the same pack on the disk.

    python -m benchmarks.store FOLDER --late-ms 20 --out store.json

FOLDER is an unpacked Kaggle download, of which the first `--images` training images are packed from one zip. The
server is rclone; a proxy before it counts requests and holds each one back for `--late-ms`. Needs the extra dev.
"""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import click

METHODS = (b"GET", b"PUT", b"HEAD", b"POST", b"DELETE")


class LateProxy:
    """Passes connections on to a port of this machine, each request `late_s` later than it came."""

    def __init__(self, target_port: int, late_s: float) -> None:
        self.port = free_port()
        self.requests: Counter[str] = Counter()
        self._target_port = target_port
        self._late_s = late_s

    def start(self) -> None:
        """Serve in a thread, as long as this process lives."""
        threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True).start()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        async with server:
            await server.serve_forever()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._target_port)
        await asyncio.gather(self._pass(reader, back, is_asking=True), self._pass(there, writer, is_asking=False))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_asking: bool) -> None:
        try:
            while data := await reader.read(2**18):
                method = data.partition(b" ")[0]
                if is_asking and method in METHODS:
                    self.requests[method.decode()] += 1
                    await asyncio.sleep(self._late_s)
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


@contextmanager
def serving(folder: Path) -> Iterator[int]:
    """The port of an S3 server whose buckets are the subfolders of `folder`."""
    port = free_port()
    program = str(Path(sys.executable).with_name("rclone"))
    command = [program, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", "key,secret", str(folder)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
        time.sleep(2)
        yield port
        server.kill()


def pack(source: str, out: str, environment: dict[str, str]) -> float:
    """Pack in a process of its own; seconds."""
    command = [sys.executable, "-m", "shard_tool", "pack", source, out]
    start = time.perf_counter()
    subprocess.run(command, env={**os.environ, **environment}, check=True, capture_output=True)
    return time.perf_counter() - start


def make_zip(folder: Path, path: Path, count: int) -> None:
    """Zip the first training images and their table."""
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as file:
        for image in sorted((folder / "images_training_rev1").iterdir())[:count]:
            file.write(image, f"images_test/{image.name}")


@click.command(context_settings={"show_default": True})
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--images", default=2000, type=click.IntRange(1), help="Images to pack.")
@click.option("--late-ms", default=20.0, type=click.FloatRange(0), help="What the proxy holds each request back.")
@click.option("--runs", default=3, type=click.IntRange(1), help="Runs of each, in turn.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the results here too.")
def main(*, folder: Path, images: int, late_ms: float, runs: int, out: Path | None) -> None:
    """Time both ways in turn and print them as JSON."""
    results = []
    with TemporaryDirectory(dir=folder.parent) as work:
        make_zip(folder, Path(work) / "store/bucket/source.zip", images)
        with serving(Path(work) / "store") as port:
            proxy = LateProxy(port, late_ms / 1000)
            proxy.start()
            address = f"http://127.0.0.1:{proxy.port}"
            secrets = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_ENDPOINT_URL": address}
            for number in range(runs):
                local_s = pack(f"{work}/store/bucket/source.zip", f"{work}/out", {})
                shutil.rmtree(Path(work) / "out")
                proxy.requests.clear()
                store_s = pack("s3://bucket/source.zip", f"s3://bucket/out-{number}", secrets)
                results.append({"disk_s": local_s, "store_s": store_s, "requests": dict(proxy.requests)})
    report = json.dumps({"images": images, "late_ms": late_ms, "cores": os.cpu_count(), "runs": results}, indent=1)
    click.echo(report)
    if out is not None:
        out.write_text(report + "\n")


if __name__ == "__main__":
    main()
