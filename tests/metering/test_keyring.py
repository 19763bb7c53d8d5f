"""The keys in memory: who may use them, and what happens to requests when they can't be used."""

from __future__ import annotations

import pytest

from metering.clock import Clock
from metering.test_keys import key
from outrider.errors import OutriderError, Unauthorized
from outrider.metering.keyring import Keyring


def test_a_key_is_found_by_its_id_until_it_can_not_be_used() -> None:
    clock = Clock()
    ring = Keyring(clock)
    good, dying = key("good"), key("dying", expires_s=1001)
    ring.replace([good, dying])
    assert ring.use(good.id) == good
    assert ring.use(dying.id) == dying
    assert ring.use("unknown") is None
    clock.now_s = 1001.0
    with pytest.raises(Unauthorized, match="has expired"):
        ring.use(dying.id)
    assert ring.get(dying.id) == dying
    assert ring.has_usable_keys
    ring.replace([key("good", is_disabled=True), dying])
    with pytest.raises(Unauthorized, match="was disabled"):
        ring.use(good.id)
    assert not ring.has_usable_keys


def test_what_runs_on_a_key_is_ended_with_it_and_nothing_else_is() -> None:
    ring = Keyring(Clock())
    good, bad = key("good"), key("bad")
    ring.replace([good, bad])
    told: list[OutriderError] = []
    with ring.lease(good.id) as safe, ring.lease("") as free, ring.lease(bad.id) as one:
        one.on_end = told.append
        with ring.lease(bad.id) as two:
            ring.replace([good, key("bad", deleted_s=1)])
            assert one.error is not None
            assert two.error is not None
            assert "was revoked" in two.error.message
        ring.replace([good, key("bad", deleted_s=1)])
        assert told == [one.error], "once is enough"
        assert (safe.error, free.error) == (None, None)


def test_what_runs_when_a_key_expires_is_ended_at_the_next_look() -> None:
    clock = Clock()
    ring = Keyring(clock)
    dying = key("dying", expires_s=1005)
    ring.replace([dying])
    with ring.lease(dying.id) as lease:
        ring.end_faulty()
        assert lease.error is None
        clock.now_s = 1005.0
        ring.end_faulty()
        assert lease.error is not None
        assert "has expired" in lease.error.message


def test_a_lease_that_is_over_is_told_nothing() -> None:
    ring = Keyring(Clock())
    ring.replace([key()])
    with ring.lease(key().id) as lease:
        pass
    ring.replace([])
    ring.replace([key(deleted_s=1)])
    assert lease.error is None


def test_a_ring_forgets_leases_that_are_over() -> None:
    ring = Keyring(Clock())
    ring.replace([key()])
    for _ in range(3):
        with ring.lease(key().id), ring.lease(key().id), ring.lease(""):
            pass
    ring.end_faulty()
    assert not ring._leases
