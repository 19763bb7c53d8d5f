"""Tool calls of Workers AI's native wire, both ways: in answers, in streams and in conversations.

Models of the service write them in two forms, nested with arguments as text and flat with an
object; both are read, and either is written. A call without an id gets the one that the published
schema names for the purpose.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from outrider.dialects.cloudflare_refusals import missing, refused
from outrider.dialects.cloudflare_types import Call, CallFunction
from outrider.errors import InvalidRequest, ProviderError
from outrider.types import ToolCall, ToolCallDelta

Object = dict[str, Any]
# A call's text as it is given; on the wire its object is the same bytes.
Arguments = str | Object | None | UnsetType


def read_calls(at: str, wire: Sequence[Call]) -> tuple[ToolCall, ...]:
    """Read whole calls in either form; `at` is their JSON pointer."""
    return tuple(_read_call(f"{at}/{index}", index, call) for index, call in enumerate(wire))


def write_calls(calls: Iterable[ToolCall], *, are_flat: bool = False) -> list[Object]:
    """Write whole calls, nested with arguments as text or flat with objects."""
    return [_write_flat(call) if are_flat else _write_nested(call) for call in calls]


class CallWriter:
    """Writes the calls of one stream as the lists that its chunks carry.

    Nested calls go out in parts as they come: head, arguments, and an end of nulls. Flat ones are
    objects, so each goes out whole once it is complete.
    """

    def __init__(self, *, are_flat: bool) -> None:
        self._are_flat = are_flat
        self._open: ToolCallDelta | None = None  # the head of the call that isn't complete
        self._arguments: list[str] = []

    def write(self, delta: ToolCallDelta) -> list[list[Object]]:
        """Write a part of a call."""
        is_new = self._open is None or self._open.call_index != delta.call_index
        lists = self.end() if is_new else []
        if is_new:
            self._open, self._arguments = delta, []
        if self._are_flat:
            self._arguments.append(delta.arguments)
            return lists
        index = {"index": delta.call_index}
        if is_new:
            head = {"id": delta.id, "type": "function", **index}
            lists.append([{**head, "function": {"name": delta.name}}])
        if delta.arguments:
            lists.append([{**index, "function": {"arguments": delta.arguments}}])
        return lists

    def end(self) -> list[list[Object]]:
        """Write the end of the call that is open, if one is."""
        head, self._open = self._open, None
        if head is None:
            return []
        if self._are_flat:
            return [[_write_flat(ToolCall(head.id, head.name, "".join(self._arguments)))]]
        function = {"name": None, "arguments": ""}
        return [[{"id": None, "type": None, "index": head.call_index, "function": function}]]


class CallReader:
    """Reads the calls of a stream: in parts with an index, or whole in either form."""

    def __init__(self) -> None:
        self.num_calls = 0

    def read(self, wire: list[Call]) -> list[ToolCallDelta]:
        """Give the parts that one chunk holds; raises `ProviderError` for what isn't a call."""
        try:
            deltas = [self._read(call) for call in wire]
        except InvalidRequest as error:
            message = f"the answer's tool calls can't be read: {error.message}"
            raise ProviderError(message) from error
        return [delta for delta in deltas if delta is not None]

    def _read(self, wire: Call) -> ToolCallDelta | None:
        if not isinstance(wire.index, int):
            call = _read_call("/tool_calls", self.num_calls, wire)
            self.num_calls += 1
            return ToolCallDelta(0, self.num_calls - 1, call.arguments, call.id, call.name)
        self.num_calls = max(self.num_calls, wire.index + 1)
        body = wire.function or CallFunction()
        name, call_id = body.name or "", wire.id or ""
        arguments = _text_of("/tool_calls", body.arguments, "")
        # A part of nulls says that its call is complete.
        if not (name or call_id or arguments):
            return None
        return ToolCallDelta(0, wire.index, arguments, call_id, name)


def _read_call(at: str, index: int, wire: Call) -> ToolCall:
    call_id = f"{index + 1:09}" if wire.id is None or wire.id is UNSET else wire.id
    body: Call | CallFunction = wire
    if isinstance(wire.function, CallFunction):
        body, at = wire.function, f"{at}/function"
    if not isinstance(body.name, str):
        raise missing(at, "name")
    return ToolCall(call_id, body.name, _text_of(at, body.arguments, "{}"))


def _text_of(at: str, arguments: Arguments, default: str) -> str:
    if arguments is None or arguments is UNSET:
        return default
    if isinstance(arguments, str):
        return arguments
    try:
        return msgspec.json.encode(arguments).decode()
    except RecursionError as error:
        raise refused(f"{at}/arguments", "is nested too deeply; send it as a text") from error


def _write_nested(call: ToolCall) -> Object:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def _write_flat(call: ToolCall) -> Object:
    """Write a call with its arguments as an object; text that was cut off stays text."""
    arguments: object = call.arguments
    try:
        msgspec.json.decode(call.arguments, type=dict[str, Any])
        arguments = msgspec.Raw(call.arguments.encode())
    except (msgspec.DecodeError, RecursionError):
        pass
    return {"name": call.name, "arguments": arguments}
