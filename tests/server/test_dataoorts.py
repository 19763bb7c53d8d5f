"""Dataoorts' wire over real sockets: its one path, answers and errors."""

from __future__ import annotations

from server.scripted import MODEL, Running

PATH = "/api/v1"
BODY = {"model": MODEL, "data": {"messages": [{"role": "user", "content": "Hello"}]}}


def test_an_answer_is_a_whole_one(server: Running) -> None:
    reply = server.ask("POST", PATH, BODY, authorization="Bearer key")
    assert reply.status == 200
    assert list(reply.json()) == ["errors", "messages", "result", "success"]
    assert reply.json()["result"]["response"] == "Hello"


def test_errors_are_in_the_same_envelope(server: Running) -> None:
    for body, status, word in (
        ({**BODY, "model": "gpt-5"}, 400, "gpt-5"),
        ({**BODY, "data": {"prompt": ""}}, 400, "'/data/prompt'"),
        ({**BODY, "data": {"prompt": "a", "stream": True}}, 400, "'/data/stream'"),
        ({"data": {}}, 400, "model"),
    ):
        reply = server.ask("POST", PATH, body)
        assert reply.status == status
        assert list(reply.json()) == ["errors", "messages", "result", "success"]
        assert word in reply.json()["errors"][0]["message"]


def test_other_methods_are_refused_in_it_too(server: Running) -> None:
    reply = server.ask("GET", PATH)
    assert (reply.status, reply.json()["success"]) == (405, False)
