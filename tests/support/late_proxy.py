"""A proxy before a server on this machine that counts requests and holds each one back."""

import asyncio
import socket
import threading
from collections import Counter

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
