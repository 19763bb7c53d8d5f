"""A hub of models on a socket of this machine, as huggingface_hub asks for one; as slow as wanted.

`python fake_hub.py OWNER/NAME FILE [BYTES_PER_S]` serves one file until its stdin ends, and prints
the address, which HF_ENDPOINT takes.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "a" * 40
CHUNK = 1 << 16


@dataclass
class Hub:
    """One repository; `bytes_per_s` slows down what is fetched, 0 doesn't."""

    repository: str
    files: dict[str, bytes]
    bytes_per_s: float = 0.0
    url: str = ""
    asked: list[str] = field(default_factory=list)
    num_sent: int = 0  # bytes of files


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        del format, args

    def _answer(self) -> None:
        hub, path = self.hub, self.path.partition("?")[0]
        hub.asked.append(f"{self.command} {path}")
        if re.fullmatch(rf"/api/models/{hub.repository}(/revision/[^/]+)?", path):
            siblings = [{"rfilename": name} for name in hub.files]
            self._json({"id": hub.repository, "sha": COMMIT, "siblings": siblings})
            return
        if re.fullmatch(rf"/api/models/{hub.repository}/tree/[^/]+", path):
            rows = [
                {"type": "file", "path": name, "size": len(data), "oid": "b" * 40}
                for name, data in hub.files.items()
            ]
            self._json(rows)
            return
        found = re.fullmatch(rf"/{hub.repository}/resolve/[^/]+/(.+)", path)
        if found is None or found[1] not in hub.files:
            self._send(404, b'{"error": "no such file"}', {"x-error-code": "EntryNotFound"})
            return
        self._file(hub.files[found[1]])

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"content-type": "application/json"})

    def _file(self, content: bytes) -> None:
        begin = 0
        if found := re.fullmatch(r"bytes=(\d+)-", self.headers.get("range", "")):
            begin = int(found[1])
        etag = hashlib.sha256(content).hexdigest()
        headers = {"etag": f'"{etag}"', "x-repo-commit": COMMIT, "accept-ranges": "bytes"}
        if begin:
            headers["content-range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        self._send(206 if begin else 200, content[begin:], headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        hub = self.hub
        is_file = "etag" in headers
        for start in range(0, len(body), CHUNK):
            piece = body[start : start + CHUNK]
            if is_file and hub.bytes_per_s:
                time.sleep(len(piece) / hub.bytes_per_s)
            try:
                self.wfile.write(piece)
            except OSError:  # whoever asked has left
                self.close_connection = True
                return
            hub.num_sent += len(piece) * is_file


@contextmanager
def serving_hub(hub: Hub) -> Iterator[Hub]:
    """Serve a hub until the block ends."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        hub.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


if __name__ == "__main__":
    repository, name, *more = sys.argv[1:]
    path = Path(name)
    speed = float(more[0]) if more else 0.0
    with serving_hub(Hub(repository, {path.name: path.read_bytes()}, speed)) as it:
        sys.stdout.write(it.url + "\n")
        sys.stdout.flush()
        sys.stdin.read()
