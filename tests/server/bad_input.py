"""The wires as targets of bad input: their paths, bodies and error forms, and a stream beside them.

The server is a process of its own with a tiny Llama 4 that reads images, so that its memory can be
measured and everything behind the wires is real.
"""

from __future__ import annotations

import http.client
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from server.processes import PATIENCE_S, Process, serve
from tiny_llama4 import TinyLlama4, TinyVision, write_hf

MODEL = "tiny-llama4"
BODY_TIMEOUT_S = 1
TALE = "Tell me of a lighthouse."
HELLO = [{"role": "user", "content": "Hello"}]
ACCOUNT = "/client/v4/accounts/0123456789abcdef0123456789abcdef/ai"


@dataclass(frozen=True)
class Wire:
    """One endpoint."""

    path: str
    fields: dict[str, Any]
    data_key: str = ""  # where the fields stand

    def body(self, **changes: Any) -> bytes:
        """A good body with some fields changed; None takes one away."""
        fields = {"max_tokens": 2, **self.fields, **changes}
        return self.wrapped(json.dumps({k: v for k, v in fields.items() if v is not None}))

    def with_json(self, name: str, text: str) -> bytes:
        """A good body with one field as this text, which need not be JSON."""
        fields = {k: v for k, v in {"max_tokens": 2, **self.fields}.items() if k != name}
        return self.wrapped(f'{json.dumps(fields)[:-1]}, "{name}": {text}}}')

    def wrapped(self, text: str) -> bytes:
        if self.data_key:
            text = f'{{"model": "{MODEL}", "{self.data_key}": {text}}}'
        return text.encode("utf-8", "surrogatepass")


CHAT: dict[str, Any] = {"model": MODEL, "messages": HELLO}
WIRES = {
    "openai": Wire("/v1/chat/completions", CHAT),
    "openai text": Wire("/v1/completions", {"model": MODEL, "prompt": "Hello"}),
    "openrouter": Wire("/api/v1/chat/completions", CHAT),
    "openrouter text": Wire("/api/v1/completions", {"model": MODEL, "prompt": "Hello"}),
    "workers-ai": Wire(f"{ACCOUNT}/run/{MODEL}", {"messages": HELLO}),
    "workers-ai openai": Wire(f"{ACCOUNT}/v1/chat/completions", CHAT),
    "dataoorts": Wire("/api/v1", {"messages": HELLO}, "data"),
}
CHATS = [name for name in WIRES if not name.endswith("text")]


@dataclass
class Reply:
    status: int
    body: bytes

    def error(self, wire: str) -> str:
        """Check that this is an error of a wire's own form; give all that it says."""
        assert 400 <= self.status < 500, (self.status, self.body[:500])
        assert len(self.body) < 4000
        fields = json.loads(self.body)
        if wire in ("workers-ai", "dataoorts"):
            assert fields["success"] is False
            (error,) = fields["errors"]
            assert isinstance(error["code"], int)
            return str(error["message"])
        error = fields["error"]
        if wire.startswith("openrouter"):
            assert error["code"] == self.status
            assert set(error) == {"message", "code", "metadata"}
            return f"{error['message']} {error['metadata'].get('param')}"
        if wire.startswith("openai"):
            assert set(error) == {"message", "type", "param", "code"}
        return f"{error['message']} {error.get('param')}"


@dataclass
class Target:
    """A server under attack."""

    process: Process
    differences: list[str] = field(default_factory=list)
    num_streams: int = 0
    is_over: threading.Event = field(default_factory=threading.Event)
    memory_at_start: int = 0

    @property
    def port(self) -> int:
        return urlsplit(self.process.url).port or 0

    def ask(self, wire: str, body: bytes, method: str = "POST", **headers: str) -> Reply:
        return self.ask_path(WIRES[wire].path, body, method, **headers)

    def ask_path(self, path: str, body: bytes, method: str = "POST", **headers: str) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, names)
            response = connection.getresponse()
            return Reply(response.status, response.read())
        finally:
            connection.close()

    def is_well(self, wire: str = "openai") -> bool:
        return self.ask(wire, WIRES[wire].body()).status == 200

    def talk(self) -> str:
        """Give the text of a stream."""
        chunks = self.process.stream(
            60, messages=[{"role": "user", "content": TALE}], temperature=0
        )
        return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)

    def keep_talking(self, expected: str) -> None:
        while not self.is_over.is_set():
            text = self.talk()
            self.num_streams += 1
            if text != expected:
                self.differences.append(text)

    def memory(self) -> int:
        """Give the most memory that the server's processes have had, in bytes."""
        _, health = self.process.health()
        pids = (self.process.process.pid, health["pid"])
        text = "".join(Path(f"/proc/{pid}/status").read_text() for pid in pids)
        return sum(int(kib) << 10 for kib in re.findall(r"^VmHWM:\s+(\d+) kB$", text, re.MULTILINE))


@contextmanager
def target(folder: Path) -> Iterator[Target]:
    """A server, and a stream beside everything that it is asked."""
    model = write_hf(TinyLlama4(vision=TinyVision()), folder / MODEL)
    options = ["--weights", "f32", "--home", str(folder / "home"), "--threads", "1"]
    options += ["--body-timeout-s", str(BODY_TIMEOUT_S), "--log-level", "error"]
    with serve(model, *options) as process:
        it = Target(process)
        expected = it.talk()
        it.memory_at_start = it.memory()
        thread = threading.Thread(target=it.keep_talking, args=(expected,), daemon=True)
        thread.start()
        try:
            yield it
        finally:
            it.is_over.set()
            thread.join(PATIENCE_S)
        assert not it.differences, "a stream beside bad input was disturbed"
        assert it.num_streams
