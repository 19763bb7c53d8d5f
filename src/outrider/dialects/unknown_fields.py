"""Drops what a wire doesn't know from a request's JSON, and says what that was.

For wires that ignore unknown fields, over structs that forbid them. What is known is read off the
structs themselves, so there is no second list of names. Values are never looked into.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec.inspect

MAX_NAMES = 64  # of ignored fields that are kept; a hostile body may hold a million

# What to do with a value: nothing, go through the items of a list, or through an object's fields.
Plan = None | list["Plan"] | dict[str, "Plan"]


class Ignored:
    """Collects the paths of ignored fields, like messages[].mood; the first `MAX_NAMES` of them."""

    def __init__(self) -> None:
        self._paths: set[str] = set()

    def add(self, path: str) -> None:
        """Note a path."""
        if len(self._paths) < MAX_NAMES:
            self._paths.add(path.removeprefix("."))

    def names(self, inert: frozenset[str] = frozenset()) -> tuple[str, ...]:
        """Give the paths in order, without those that are inert."""
        return tuple(sorted(self._paths - inert))


def drop_unknown(value: Any, kind: Any, path: str, ignored: Ignored) -> Any:  # noqa: ANN401
    """Give a JSON value without the fields that `kind` doesn't have; notes their paths."""
    return _drop(value, _plan(kind), path, ignored)


def _drop(value: Any, plan: Plan, path: str, ignored: Ignored) -> Any:  # noqa: ANN401
    if isinstance(plan, list):
        if isinstance(value, list):
            return [_drop(item, plan[0], f"{path}[]", ignored) for item in value]
        plan = plan[1]  # a field that may be a list or an object
    if not isinstance(plan, dict) or not isinstance(value, dict):
        return value
    known = {}
    for name, item in value.items():
        if name in plan:
            known[name] = _drop(item, plan[name], f"{path}.{name}", ignored)
        else:
            ignored.add(f"{path}.{name}")
    return known


@cache
def _plan(kind: Any) -> Plan:  # noqa: ANN401
    return _plan_of(msgspec.inspect.type_info(kind))


def _plan_of(info: msgspec.inspect.Type) -> Plan:
    """Give the plan for a type; None where nothing inside it is known by name."""
    if isinstance(info, msgspec.inspect.StructType):
        return {field.encode_name: _plan_of(field.type) for field in info.fields}
    if isinstance(info, msgspec.inspect.ListType):
        return [_plan_of(info.item_type), None]
    if isinstance(info, msgspec.inspect.UnionType):
        plans = [plan for plan in map(_plan_of, info.types) if plan is not None]
        items = next((plan[0] for plan in plans if isinstance(plan, list)), None)
        fields = next((plan for plan in plans if isinstance(plan, dict)), None)
        return fields if items is None else [items, fields]
    return None
