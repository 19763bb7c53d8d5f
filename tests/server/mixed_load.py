"""Requests of every kind, from clients that know to the token what they were handed.

Each request has a user agent of its own, by which its row in the ledger is found. What a client
counts comes from what the wire says alone: the usage of an answer that ended, the log probabilities
or the pieces of one that was cut.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

from upstreams.scripted import (
    Cut,
    Reply,
    Script,
    Seen,
    Stall,
    chat_answer,
    chat_stream,
    chunk,
    event,
    stream,
    whole,
)

LOCAL, REMOTE, HANGING, VECTORS = "tiny", "remote", "hanging", "vectors"
WORDS = ("one ", "two ", "three ", "four ", "five ")
OPENAI, OPENROUTER = "/v1/chat/completions", "/api/v1/chat/completions"
CHATS = (OPENAI, OPENROUTER)
ACCOUNT = "/client/v4/accounts/me/ai/"
QUIET_S = 0.5  # nothing comes any more, once the engine stands still and the hosts hang
PAUSE_S = 0.2  # after a server that has no engine just now


def upstream(dice: random.Random, fault_share: float) -> Script:
    """Make the script of a host that fails in many ways."""

    def script(seen: Seen) -> Reply:
        fields = seen.fields
        if fields["model"] == HANGING:
            words = WORDS[: fields.get("max_tokens", 0)]
            text = [chunk({"content": word}) for word in words]
            return stream(*text, Stall()) if fields.get("stream") else Reply(status=0)
        num_words = dice.randint(1, len(WORDS))
        usage = {"prompt_tokens": 9, "completion_tokens": dice.randint(1, 50), "total_tokens": 0}
        if dice.random() < fault_share:
            return _fault(dice, seen, num_words)
        if fields.get("stream"):
            return stream(*chat_stream(WORDS[:num_words], usage=usage))
        return whole(chat_answer("".join(WORDS[:num_words]), usage=usage))

    return script


def _fault(dice: random.Random, seen: Seen, num_words: int) -> Reply:
    if dice.random() < 0.3:
        return whole({"error": {"message": "no"}}, dice.choice([500, 503]))
    if not seen.fields.get("stream"):
        good = json.dumps(chat_answer("".join(WORDS))).encode()
        return Reply([good[:-20], Cut()], length=len(good))
    words = [chunk({"content": word}) for word in WORDS[: num_words - 1]]
    breaks = ([Cut()], [], [event({"error": {"message": "it broke"}})], [b"data: {\n\n"])
    return stream(*words, *dice.choice(breaks))


@dataclass
class Handed:
    """What a client was handed of one answer."""

    kind: str
    completion_tokens: int = 0
    prompt_tokens: int | None = None  # as the answer says, once it has ended
    status: int = 0
    is_killed: bool = False  # the server was killed while it ran

    @property
    def is_optional(self) -> bool:
        """Whether the client may have left before the server saw the request."""
        return self.kind.startswith("leave-whole")


class Load:
    """Sends requests and notes what comes of each."""

    def __init__(self, url: str, dice: random.Random, prefix: str) -> None:
        self.handed: dict[str, Handed] = {}
        self._url = url
        self._dice = dice
        self._prefix = prefix
        self._session: aiohttp.ClientSession | None = None
        self._num_read = 0  # lines of all answers
        self._open: dict[asyncio.Task[None], Handed] = {}

    async def __aenter__(self) -> Load:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=120), connector=aiohttp.TCPConnector(limit=0)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        assert self._session is not None
        await self._session.close()

    async def send(self, num_requests: int, num_at_once: int) -> None:
        """Send requests of all kinds and wait for their ends."""
        places = asyncio.Semaphore(num_at_once)

        async def one() -> None:
            async with places:
                handed = await self._one()
                if handed.status == 503:
                    await asyncio.sleep(PAUSE_S)

        await asyncio.gather(*(one() for _ in range(num_requests)))

    async def open_streams(self, num_streams: int, max_tokens: int) -> None:
        """Begin streams, of the engine here and of a host that hangs, and leave them open."""
        for number in range(num_streams):
            model = (LOCAL, HANGING)[number % 2]
            body = self._chat(model, max_tokens if model == LOCAL else 1 + number % len(WORDS))
            name, handed = self._begin("open")
            work = self._stream(name, handed, CHATS[number // 2 % 2], body)
            self._open[asyncio.create_task(work)] = handed
        for number in range(num_streams // 4):  # and whole answers, of which nothing is handed on
            name, handed = self._begin("open-whole")
            body = self._chat((LOCAL, HANGING)[number % 2], max_tokens)
            self._open[asyncio.create_task(self._whole(name, handed, OPENAI, body))] = handed
        await asyncio.sleep(PAUSE_S)

    async def quiet(self) -> None:
        """Wait until nothing comes any more."""
        before = -1
        while before != self._num_read:
            before = self._num_read
            await asyncio.sleep(QUIET_S)

    async def kill(self, kill: Callable[[], None]) -> int:
        """Kill the server under what is open; give how many that were."""
        await self.quiet()
        left = [handed for task, handed in self._open.items() if not task.done()]
        kill()
        for handed in left:
            handed.is_killed = True
        await asyncio.gather(*self._open, return_exceptions=True)
        return len(left)

    def _begin(self, kind: str) -> tuple[str, Handed]:
        name = f"{self._prefix}-{len(self.handed)}"
        handed = self.handed[name] = Handed(kind)
        return name, handed

    def _chat(self, model: str, max_tokens: int, **fields: Any) -> dict[str, Any]:
        text = f"Say something about {self._dice.randint(1, 10**9)}."
        body: dict[str, Any] = {
            "messages": [{"role": "user", "content": text}],
            "max_tokens": max_tokens,
        }
        if model == LOCAL:
            body |= {"logprobs": True}
        return {"model": model, **body, **fields}

    async def _one(self) -> Handed:
        """Send a request of any kind."""
        dice, max_tokens = self._dice, self._dice.randint(1, 12)
        kind = dice.choice(
            ["whole", "stream", "stream", "native", "native-stream", "prompt", "data", "leave",
             "leave-whole", "embed"]
        )  # fmt: skip
        model = dice.choice((LOCAL, REMOTE))
        name, handed = self._begin(f"{kind} {model}")
        path = dice.choice((*CHATS, ACCOUNT + "v1/chat/completions"))
        body = self._chat(model, max_tokens)
        match kind:
            case "whole":
                await self._whole(name, handed, path, body)
            case "stream":
                await self._stream(name, handed, path, body)
            case "native":
                await self._native(name, handed, model, max_tokens)
            case "native-stream":
                await self._native(name, handed, REMOTE, max_tokens, stream=True)
            case "prompt":
                prompt = {"model": LOCAL, "prompt": "Once upon", "max_tokens": max_tokens}
                path = dice.choice(("/v1/completions", "/api/v1/completions"))
                await self._whole(name, handed, path, prompt)
            case "data":
                data = {"model": model, "data": {"messages": body["messages"]}}
                await self._whole(name, handed, "/api/v1", data)
            case "leave" | "leave-whole":
                await self._leave(name, handed, is_streamed=kind == "leave")
            case "embed":
                body = {"model": VECTORS, "input": ["a text", "the tide"]}
                await self._whole(name, handed, "/v1/embeddings", body)
        return handed

    def _post(self, name: str, path: str, body: dict[str, Any]) -> Any:
        assert self._session is not None
        headers = {"user-agent": name}
        return self._session.post(self._url + path, json=body, headers=headers)

    async def _whole(self, name: str, handed: Handed, path: str, body: dict[str, Any]) -> None:
        async with self._post(name, path, body) as reply:
            answer, handed.status = await reply.json(), reply.status
        usage = answer.get("usage") or (answer.get("result") or {}).get("usage")
        if handed.status == 200:
            handed.prompt_tokens = usage["prompt_tokens"]
            handed.completion_tokens = usage.get("completion_tokens", 0)

    async def _native(
        self, name: str, handed: Handed, model: str, max_tokens: int, **fields: Any
    ) -> None:
        body = {"messages": self._chat(model, 1)["messages"], "max_tokens": max_tokens, **fields}
        if fields:
            await self._stream(name, handed, f"{ACCOUNT}run/{model}", body)
        else:
            await self._whole(name, handed, f"{ACCOUNT}run/{model}", body)

    async def _stream(self, name: str, handed: Handed, path: str, body: dict[str, Any]) -> None:
        body = {**body, "stream": True}
        if "/run/" not in path:
            body["stream_options"] = {"include_usage": True}
        async with self._post(name, path, body) as reply:
            handed.status = reply.status
            if reply.status == 200:
                async for event in self._events(reply):
                    _count(handed, event, is_local=body.get("model") == LOCAL)

    async def _events(self, reply: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
        try:
            while line := await reply.content.readline():
                self._num_read += 1
                if line.startswith(b"data: {"):
                    yield json.loads(line[6:])
        except (aiohttp.ClientError, ConnectionError):
            return  # the server was killed

    async def _leave(self, name: str, handed: Handed, *, is_streamed: bool) -> None:
        """Read what a host says before it hangs, and go away."""
        num_words = self._dice.randint(1, len(WORDS))
        body = self._chat(HANGING, num_words, stream=is_streamed)
        request = self._post(name, self._dice.choice(CHATS), body)
        if not is_streamed:
            assert self._session is not None
            try:
                async with asyncio.timeout(0.05):
                    await request
            except TimeoutError:
                return
        async with request as reply:
            handed.status = reply.status
            async for event in self._events(reply):
                _count(handed, event, is_local=False)
                if handed.completion_tokens == num_words:
                    reply.close()
                    return


def _count(handed: Handed, event: dict[str, Any], *, is_local: bool) -> None:
    """Count one event; a usage says it all."""
    if usage := event.get("usage"):
        if handed.prompt_tokens is None or usage["completion_tokens"]:
            handed.prompt_tokens = usage["prompt_tokens"]
            handed.completion_tokens = usage["completion_tokens"]
        return
    if "response" in event:
        handed.completion_tokens += bool(event["response"])
        return
    for choice in event.get("choices", ()):
        if is_local:
            handed.completion_tokens += len((choice.get("logprobs") or {}).get("content") or ())
        else:
            handed.completion_tokens += bool(choice["delta"].get("content"))
