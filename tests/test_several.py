"""The tests' own instrument, several: where two servers differ, it must say so; where they do not, it must be silent."""

from __future__ import annotations

import pytest

from tests.differential import Mismatch, Pair
from tests.servers import Valkey
from tests.several import Talk

# What ours alone is told before, the script that shows it, and what the mismatch speaks of.
DIFFERENCES = [
    (("SET", "k", "other"), ["a: GET k"], "a got"),
    (("SET", "k", "other"), ["a: MULTI", "a: GET k", "a: EXEC"], "a got"),
    (("RPUSH", "k", "x"), ["a~ BLPOP k 0"], "not in the same states"),
    (("SET", "k", "other"), ["a~ BLPOP k 0"], "not in the same states"),
    (("RPUSH", "k", "x"), ["a? BLPOP k 0"], "not in the same states"),
    (("SET", "d", "x"), ["a~ BLMOVE k d LEFT LEFT 0", "b~ BLPOP k 0", "w: RPUSH k 1"], "not in the same states"),
    (("CONFIG", "SET", "notify-keyspace-events", "KA"), ["a: PSUBSCRIBE *", "w: SET k v"], "a got"),
    (("SET", "k", "x"), ["a: WATCH k", "w: SETNX k y", "a: MULTI", "a: PING", "a: EXEC"], "w got"),
    (
        ("SET", "k", "x"),
        ["a: SUBSCRIBE room", "w: EVAL \"return redis.call('PUBLISH', 'room', redis.call('GET', 'k') or '')\" 0"],
        "got",
    ),
    (("SET", "k", "x"), ["* until EXISTS k is 1"], "until EXISTS k is 1"),
]


@pytest.fixture
def twins(oracle: Valkey) -> object:
    """Return a pair of which both are the oracle's kind, so that all differences are those that a test makes."""
    with Valkey() as other:
        yield Pair(other, oracle)


def test_differences_are_seen(twins: Pair):
    """Each difference that a script shows is a mismatch, and tells of whom."""
    for told, script, text in DIFFERENCES:
        twins.flush()
        twins.ours.client().call("CONFIG", "SET", "notify-keyspace-events", "")
        assert not twins.ours.client().call(*told).is_error
        with Talk(twins, wait_seconds_max=0.3) as talk, pytest.raises(Mismatch, match=text):
            talk.run(script)


def test_a_script_must_say_what_happens(twins: Pair):
    """A line that is said to block and does not, or the other way round, is refused; so is what is no line."""
    for line in ("a~ GET k", "a: BLPOP k 0"):
        with Talk(twins, wait_seconds_max=0.3) as talk, pytest.raises(Mismatch):
            talk.run([line])
    for line in ("a GET k", "* wait", "a; GET k"):
        with Talk(twins) as talk, pytest.raises(ValueError, match="of a script"):
            talk.run([line])


def test_nobody_is_left(twins: Pair):
    """When a talk has ended, also by a mismatch, its clients are gone, those who wait as well."""
    counts = [len(client.call("CLIENT", "LIST").value.splitlines()) for client in twins.clients()]
    with pytest.raises(Mismatch), Talk(twins, wait_seconds_max=0.3) as talk:
        talk.run(["a~ BLPOP k 0", "b: MULTI", "c: SUBSCRIBE room", "d: MONITOR", "e~ GET none"])
    for client, count in zip(twins.clients(), counts, strict=True):
        assert b"blocked_clients:0" in client.call("INFO", "clients").value
        assert len(client.call("CLIENT", "LIST").value.splitlines()) == count
