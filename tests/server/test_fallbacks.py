"""Every row of the fault table through the server: the client's result, who was asked, the ledger.

A model has two hosts on real sockets: one with the fault, which is so cheap that it is asked first,
and a good one. Each row has a model of its own, so no row knows of the others' failures.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine

from gateway.remote_hosts import SECRET
from gateway.test_remote_faults import PATIENT, UNSTATED, limits
from metering.books import rows_of
from outrider.config_providers import Timeouts
from outrider.errors import ProviderTimeout
from outrider.gateway.catalogue import Catalogue, Entry
from outrider.gateway.connections import Connections
from outrider.gateway.endpoint import Endpoint, Host
from outrider.gateway.remote import RemoteProvider
from outrider.gateway.upstream import Upstream
from outrider.metering import writer
from outrider.routing_types import Price
from server.scripted import Running, payloads, serving, wait_until
from upstreams.faults import TEXT, WORDS, Fault, faults
from upstreams.scripted import (
    Reply,
    Scripted,
    Seen,
    chat_answer,
    chat_stream,
    event,
    scripted,
    stream,
    whole,
)

GOOD_TEXT = "All is well."
NUM_PROMPT, NUM_ANSWER = 7, 3  # tokens that both hosts state at the end
ESTIMATED_PROMPT = 11  # of a message of two bytes
CHEAP = Price(prompt=1_000_000, completion=2_000_000)  # 1 and 2 microusd per token
DEAR = Price(prompt=10**11, completion=2 * 10**11)  # never drawn before the other: 1/price²
COST_OF_CHEAP = NUM_PROMPT + 2 * NUM_ANSWER
COST_OF_DEAR = 10**5 * COST_OF_CHEAP
FAULTS = faults("openai")
# Errors of the client's own wire after the first words; the other rows differ before these.
CUTS = [fault for fault in FAULTS if fault.streamed and fault.name.startswith("cut-after-")]
OPENROUTER, OPENAI = "/api/v1/chat/completions", "/v1/chat/completions"
WORKERS_AI = "/client/v4/accounts/a/ai/run/"
PREFIXES = {OPENROUTER: "m", OPENAI: "n", WORKERS_AI: "o"}  # each wire has models of its own
ALONE = "p"  # and so has the host that nobody follows: who asks for less is left alone for a while
UNREACHABLE = {
    "refused": "http://127.0.0.1:1/v1",
    "no-name": "http://no-such-host.invalid/v1",
}
# A 200 whose body says that the request is wrong, as vLLM and OpenRouter do.
BAD_GRAMMAR = {"message": "bad grammar", "type": "BadRequestError", "param": None, "code": 400}
INSIDE = {
    "inside stream": stream(event({"error": BAD_GRAMMAR})),
    "inside whole": whole({"error": BAD_GRAMMAR}),
}
# The beginning of a call can be seen before it turns out to be wrong.
BEGUN_CALLS = {
    f"call-{name}" for name in ("reordered", "cut", "same-index", "index-skipped", "not-an-object")
}


@dataclass(frozen=True)
class Fleet:
    """A server, its hosts, and the model of each fault."""

    server: Running
    bad: Scripted
    good: Scripted
    ledger: Connection

    def ask(self, path: str, fault: Fault, prefix: str = "", **fields: Any) -> Any:
        model = f"{prefix or PREFIXES[path]}{FAULTS.index(fault)}"
        body = {"messages": [{"role": "user", "content": "Hi"}], "stream": fault.streamed, **fields}
        if path == WORKERS_AI:
            return self.server.ask("POST", path + model, body)
        return self.server.ask("POST", path, {"model": model, **body})

    def row(self, reply: Any) -> Any:
        """Give the row of an answer, which is written a moment later."""
        row_id, found = reply.headers["x-generation-id"], []

        def is_written() -> bool:
            found[:] = [row for row in rows_of(self.ledger) if row.id == row_id]
            self.ledger.rollback()
            return bool(found)

        wait_until(is_written)
        (row,) = found
        return row


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet") / "data"
    connections = Connections()
    with pytest.MonkeyPatch.context() as patch, scripted() as bad, scripted() as good:
        patch.setattr(writer, "LINGER_S", 0.0)
        bad.script = answer_badly
        good.script = answer_well
        urls = {"bad": bad.base_url, "good": good.base_url}
        entries = [
            entry(f"{prefix}{number}", urls, connections, limits(fault))
            for prefix in (*PREFIXES.values(), ALONE)
            for number, fault in enumerate(FAULTS)
        ]
        entries += [entry(name, urls, connections, PATIENT) for name in INSIDE]
        entries += [
            entry(f"{name} {streamed}", {**urls, "bad": url}, connections, PATIENT)
            for name, url in UNREACHABLE.items()
            for streamed in (True, False)
        ]
        with (
            serving(Catalogue(entries), close=connections.close, data_dir=str(folder)) as server,
            reading(folder) as ledger,
        ):
            yield Fleet(server, bad, good, ledger)


@contextmanager
def reading(folder: Path) -> Iterator[Connection]:
    engine = create_engine(f"sqlite:///{folder / 'outrider.db'}")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def answer_badly(seen: Seen) -> Reply:
    model = seen.fields["model"]
    return INSIDE.get(model) or FAULTS[int(model[1:])].reply


def answer_well(seen: Seen) -> Reply:
    if seen.fields.get("stream"):
        return stream(*chat_stream([GOOD_TEXT]))
    return whole(chat_answer(GOOD_TEXT))


def entry(name: str, urls: dict[str, str], connections: Connections, timeouts: Timeouts) -> Entry:
    endpoints = tuple(
        Endpoint(
            host=Host(name=host, display_name=host.title(), is_local=False),
            model=name,
            provider=RemoteProvider(
                Upstream(
                    kind="openai",
                    name=host,
                    display_name=host.title(),
                    base_url=urls[host],
                    model=name,
                    secret=SECRET,
                    timeouts=timeouts,
                ),
                name,
                connections,
            ),
            price=price,
        )
        for host, price in (("bad", CHEAP), ("good", DEAR))
    )
    return Entry(endpoints[0].provider, endpoints=endpoints)


def attempts(reply: Any) -> list[tuple[str, int]]:
    pairs = (each.split(":") for each in reply.headers["x-outrider-attempts"].split(","))
    return [(host, int(status)) for host, status in pairs]


def text_of(chunks: list[dict[str, Any]]) -> str:
    return "".join(
        choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]
    )


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_fault_is_hidden_or_told_and_never_cut_off_in_silence(fleet: Fleet, fault: Fault) -> None:
    reply = fleet.ask(OPENROUTER, fault)
    assert reply.status == 200
    is_begun = fault.num_words != 0 or fault.name in BEGUN_CALLS
    is_hidden = fault.error is not None and not (fault.streamed and is_begun)
    if is_hidden:
        (first, status), *rest = attempts(reply)
        assert first == "bad" and status != 200
        assert rest == [("good", 200)]
    else:
        assert attempts(reply) == [("bad", 200)]
    check_row(fleet.row(reply), fault, attempts(reply), is_hidden=is_hidden)
    expected = GOOD_TEXT if is_hidden else TEXT
    if not fault.streamed:
        (choice,) = reply.json()["choices"]
        assert choice["message"]["content"] == expected
        assert choice["finish_reason"] == "stop"
        assert reply.json()["provider"] == ("Good" if is_hidden else "Bad")
        return
    *parts, last = [part for part in payloads(reply.body) if not part.startswith(b":")]
    if is_hidden or fault.error is None:
        assert last == b"[DONE]"
        chunks = [json.loads(part) for part in parts]
        assert text_of(chunks) == expected
        reasons = [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"]]
        assert reasons[-1] == "stop"
        return
    chunks = [json.loads(part) for part in (*parts, last)]
    shown = TEXT if fault.num_words is None else "".join(WORDS[: fault.num_words])
    assert text_of(chunks) == shown
    assert chunks[-1]["error"]["metadata"]["provider_name"] == "Bad"
    reasons = [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"]]
    assert reasons[-1] == "error"
    if fault.num_words is not None:  # else the host itself said that it had finished
        assert set(reasons) == {None, "error"}


def check_row(row: Any, fault: Fault, asked: list[tuple[str, int]], *, is_hidden: bool) -> None:
    """Compare the ledger with what the client was sent."""
    assert [(one["provider"], one["status"]) for one in row.attempts] == asked
    assert (row.status, row.is_streamed, row.is_cancelled) == (200, fault.streamed, False)
    assert row.provider == ("good" if is_hidden else "bad")
    if is_hidden or fault.error is None:
        assert (row.error_code, row.finish_reason) == ("", "stop")
        assert row.is_estimated == (fault.name in UNSTATED)
        if row.is_estimated:
            assert (row.prompt_tokens, row.completion_tokens) == (ESTIMATED_PROMPT, len(WORDS))
            assert row.cost_microusd == ESTIMATED_PROMPT + 2 * len(WORDS)
            return
        assert (row.prompt_tokens, row.completion_tokens) == (NUM_PROMPT, NUM_ANSWER)
        assert row.cost_microusd == (COST_OF_DEAR if is_hidden else COST_OF_CHEAP)
        return
    told = "provider_timeout" if fault.error is ProviderTimeout else "provider_unavailable"
    assert (row.error_code, row.finish_reason, row.cost_microusd) == (told, "", 0)
    assert row.attempts[0]["error_code"] == told
    assert row.is_estimated
    if fault.name not in BEGUN_CALLS:
        assert row.completion_tokens == (len(WORDS) if fault.num_words is None else fault.num_words)


ONLY_BAD = [
    fault
    for fault in FAULTS
    if fault.error is not None
    and fault.name in ("500", "429-retry-after-seconds", "hangs", "cut-after-0", "error-after-0",
                       "malformed-after-0", "stalled-after-0", "cut", "html", "error-with-200")
]  # fmt: skip


@pytest.mark.parametrize("fault", ONLY_BAD, ids=str)
def test_a_request_that_nobody_answered_is_a_row_that_costs_nothing(
    fleet: Fleet, fault: Fault
) -> None:
    reply = fleet.ask(OPENROUTER, fault, ALONE, provider={"only": ["bad"]})
    assert reply.json()["error"]["code"] == reply.status >= 429
    row = fleet.row(reply)
    assert (row.status, row.finish_reason, row.cost_microusd) == (reply.status, "", 0)
    assert row.completion_tokens == 0
    assert row.error_code
    assert {one["provider"] for one in row.attempts} == {"bad"}
    assert [(one["provider"], one["status"]) for one in row.attempts] == attempts(reply)


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("model", sorted(UNREACHABLE))
def test_a_host_that_cannot_be_reached_is_hidden(fleet: Fleet, model: str, streamed: bool) -> None:
    model = f"{model} {streamed}"  # who has failed just now isn't asked first
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "stream": streamed}
    reply = fleet.server.ask("POST", OPENROUTER, body)
    assert attempts(reply) == [("bad", 0), ("good", 200)]
    assert GOOD_TEXT.encode() in reply.body
    row = fleet.row(reply)
    assert (row.status, row.provider, row.cost_microusd) == (200, "good", COST_OF_DEAR)
    assert [one["error_code"] for one in row.attempts] == ["provider_unavailable", ""]


@pytest.mark.parametrize("path", [OPENROUTER, OPENAI])
@pytest.mark.parametrize("model", sorted(INSIDE))
def test_a_wrong_request_is_told_once_and_opens_no_breaker_whatever_the_status(
    fleet: Fleet, model: str, path: str
) -> None:
    is_streamed = model == "inside stream"
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "stream": is_streamed}
    for _ in range(6):  # five failures in a row open a breaker
        reply = fleet.server.ask("POST", path, body)
        assert (reply.status, attempts(reply)) == (400, [("bad", 400)])
        assert reply.json()["error"]["message"] == "bad grammar"


@pytest.mark.parametrize("fault", CUTS, ids=str)
@pytest.mark.parametrize("path", [OPENAI, WORKERS_AI])
def test_a_cut_stream_ends_on_the_other_wires_with_an_error_of_theirs(
    fleet: Fleet, path: str, fault: Fault
) -> None:
    reply = fleet.ask(path, fault)
    *parts, last = payloads(reply.body)
    is_hidden = fault.num_words == 0
    assert attempts(reply)[-1] == ("good" if is_hidden else "bad", 200)
    assert (last == b"[DONE]") == is_hidden
    if is_hidden:
        return
    chunk = json.loads(last)
    told = chunk["error"]["message"] if path == OPENAI else chunk["errors"][0]["message"]
    assert "Bad" in told
    texts = [json.loads(part) for part in parts]
    if path == OPENAI:
        assert text_of(texts) == "".join(WORDS[: fault.num_words])
    else:
        assert "".join(each["response"] for each in texts) == "".join(WORDS[: fault.num_words])
    assert b'"stop"' not in reply.body


def test_a_fallback_model_answers_when_the_first_ones_hosts_fail(fleet: Fleet) -> None:
    failing = next(fault for fault in FAULTS if fault.name == "502" and not fault.streamed)
    working = next(fault for fault in FAULTS if fault.error is None and not fault.streamed)
    other = f"m{FAULTS.index(working)}"
    reply = fleet.ask(OPENROUTER, failing, models=[other], provider={"only": ["bad"]})
    assert reply.json()["model"] == other
    assert attempts(reply) == [("bad", 502), ("bad", 200)]


def test_nobody_left_is_a_404_with_the_reasons(fleet: Fleet) -> None:
    reply = fleet.ask(OPENROUTER, FAULTS[-1], stream=False, provider={"only": ["elsewhere"]})
    assert reply.status == 404
    assert reply.json()["error"]["message"].startswith("No endpoints found for m")
    assert "bad is out by only; good is out by only" in reply.json()["error"]["message"]


def test_what_happened_is_in_the_metrics(fleet: Fleet) -> None:
    fault = next(fault for fault in FAULTS if fault.name == "503" and not fault.streamed)
    fleet.ask(OPENROUTER, fault)
    lines = fleet.server.ask("GET", "/metrics").body.decode().splitlines()
    model = f"m{FAULTS.index(fault)}"
    row = f'{{model="{model}",origin="provider",provider="bad",status="503"}}'
    assert any(line.startswith(f"outrider_provider_attempts_total{row}") for line in lines)
    assert f'outrider_provider_breaker{{model="{model}",provider="bad"}} 0.0' in lines
    assert any(line.startswith("outrider_provider_first_event_seconds_count") for line in lines)
