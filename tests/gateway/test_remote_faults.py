"""Every row of the fault table: the right error, after exactly what came before it."""

from __future__ import annotations

import msgspec
import pytest

from gateway.remote_hosts import QUICK, Asked, ask, request
from outrider.config_providers import Timeouts
from outrider.dialects.capabilities import Kind
from outrider.errors import OutriderError, ProviderError, ProviderRateLimited, ProviderTimeout
from outrider.gateway.upstream_errors import retry_after_s
from outrider.types import Completed, Event, Finished, TextDelta, Usage
from upstreams.faults import TEXT, WORDS, Fault, faults, native_faults
from upstreams.scripted import Scripted

# test_fallbacks.py has the same rows, through the server.
pytestmark = pytest.mark.slow
ROWS = [
    *(pytest.param("openai", fault, id=f"openai-{fault}") for fault in faults("openai")),
    *(pytest.param("workers-ai", fault, id=f"native-{fault}") for fault in native_faults()),
    *(
        pytest.param("openrouter", fault, id=f"openrouter-{fault}")
        for fault in faults("openrouter")
    ),
]
PATIENT = Timeouts(connect_s=5, first_event_s=5, idle_s=5, total_s=20)
UNSTATED = ("without-usage", "usage-empty", "usage-without-counts")
KEPT = dict.fromkeys(UNSTATED, Usage(0, 0))  # what a host doesn't say


def limits(fault: Fault) -> Timeouts:
    """Give time-outs of which only the one that a row is about can pass."""
    short = 0.2
    if fault.name == "open-when-complete":
        return msgspec.structs.replace(PATIENT, idle_s=short)
    if fault.error is not ProviderTimeout:
        return PATIENT
    if not fault.streamed:
        return msgspec.structs.replace(PATIENT, total_s=short)
    is_begun = "-after-" in fault.name
    return msgspec.structs.replace(PATIENT, **{"idle_s" if is_begun else "first_event_s": short})


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


@pytest.mark.parametrize(("kind", "fault"), ROWS)
def test_faults_of_upstreams(host: Scripted, kind: Kind, fault: Fault) -> None:
    host.answer(fault.reply)
    asked = Asked(host, kind, timeouts=limits(fault))
    fields = {"prompts": ("Hi",)} if kind == "workers-ai" else {}
    wanted = request(stream=fault.streamed, **fields)
    text = TEXT if fault.num_words is None else "".join(WORDS[: fault.num_words])
    if fault.error is None:
        events = ask(asked, wanted)
        assert text_of(events) == text
        assert events[-1] == Completed(KEPT.get(fault.name, Usage(7, 3)))
        assert isinstance(events[-2], Finished)
        return
    with pytest.raises(OutriderError) as caught:
        ask(asked, wanted)
    assert type(caught.value) is fault.error
    assert caught.value.message.startswith("Up: ")
    events = caught.value.events  # type: ignore[attr-defined]
    assert text_of(events) == text
    assert not any(isinstance(event, Completed) for event in events)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("1000000000", 1e9),
        ("Sat, 21 Nov 2026 17:00:10 GMT", 10.0),
        ("Sat, 21 Nov 2026 16:00:00 GMT", 0.0),
        ("Sat, 99 Nov 2026 16:00:00 GMT", None),
        ("-3", None),
        ("soon", None),
        ("inf", None),
        ("nan", None),
        ("1e400", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_read(value: str | None, seconds: float | None) -> None:
    assert retry_after_s(value, now_s=1795280400.0) == seconds


def test_a_wait_that_is_asked_for_is_on_the_error(host: Scripted) -> None:
    found = {}
    for fault in faults("openai"):
        if fault.name.startswith("429") and fault.streamed:
            host.answer(fault.reply)
            with pytest.raises(ProviderRateLimited) as caught:
                ask(Asked(host), request())
            found[fault.name.removeprefix("429-retry-after-")] = caught.value.retry_after_s
    assert (found.pop("date") or 0) > 1e9
    assert found == {
        "none": None,
        "seconds": 7,
        "garbage": None,
        "forever": 1e9,
        "negative": None,
    }


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:1/v1", "http://no-such-host.invalid/v1", "https://127.0.0.1:{port}/v1"],
    ids=["refused", "no-name", "no-tls"],
)
@pytest.mark.parametrize("streamed", [True, False])
def test_hosts_that_cannot_be_reached(host: Scripted, address: str, streamed: bool) -> None:
    asked = Asked(host, base_url=address.format(port=host.port), timeouts=QUICK)
    with pytest.raises(ProviderError, match=r"^Up: "):
        ask(asked, request(stream=streamed))
    assert not host.seen
