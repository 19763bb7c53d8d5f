"""A web server of images that answers as it is told, byte by byte, on a real socket.

A page is a function that gets the connection and writes the answer as it likes. Every connection
has a thread, and all of them end with the server.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

PNG = b"\x89PNG\r\n\x1a\n" + b"picture"
Page = Callable[[socket.socket], None]


@dataclass
class ImageServer:
    """Where it listens, and the heads of the requests that it got."""

    port: int
    heads: list[str] = field(default_factory=list)
    pages: dict[str, Page] = field(default_factory=dict)
    is_over: threading.Event = field(default_factory=threading.Event)

    @property
    def paths(self) -> list[str]:
        return [head.split(" ")[1] for head in self.heads]

    def serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head and (part := connection.recv(4096)):
                head += part
            if not head.startswith(b"GET "):
                return  # TLS, or a client that changed its mind
            self.heads.append(head.decode())
            page = self.pages.get(self.paths[-1].partition("?")[0])
            (page or says(404, b""))(connection)


def says(status: int, body: bytes, *headers: str, kind: str = "image/png") -> Page:
    """A whole answer."""
    lines = [f"HTTP/1.1 {status} X", f"content-type: {kind}", f"content-length: {len(body)}"]
    head = "\r\n".join([*lines, *headers, "", ""]).encode()
    return lambda connection: connection.sendall(head + body)


def redirect(location: str, status: int = 302) -> Page:
    return says(status, b"", f"location: {location}")


def drips(server: ImageServer, head: bytes, pause_s: float = 0.02) -> Page:
    """An answer whose rest comes byte by byte, for as long as somebody reads."""

    def page(connection: socket.socket) -> None:
        connection.sendall(head)
        while not server.is_over.wait(pause_s):
            connection.sendall(b"x")

    return page


def floods(connection: socket.socket) -> None:
    """An answer without a length and without an end."""
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\n\r\n")
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        connection.sendall(b"x" * 65536)


@contextmanager
def image_server(address: str = "127.0.0.1", port: int = 0) -> Iterator[ImageServer]:
    """A server with one picture, /cat.png; more pages are put into it."""
    with socket.create_server((address, port)) as listener:
        server = ImageServer(listener.getsockname()[1])
        server.pages["/cat.png"] = says(200, PNG)

        def accept() -> None:
            while not server.is_over.is_set():
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=server.serve, args=(connection,), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.is_over.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)
