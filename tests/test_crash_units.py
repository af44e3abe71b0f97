"""Transactions, scripts and streams in the load that crashes: the model says of them what servers say, and a crash divides none.

`test_crash` plays the same load against the server's own points of failure. Here any server may stand: the oracle, to judge the
model by, and ours, or what stands in for it, to be killed.
"""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.crash import Ledger, Model
from tests.crash_units import SCRIPT, UNITS, abilities, requests, verdict
from tests.workloads import durable_server, wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.client import RawClient, Reply
    from tests.servers import Server

JOIN_SECONDS_MAX = 20


class AtWork:
    """Ledgers at work on a server, until `end` or until it is gone."""

    def __init__(self, ledgers: Sequence[Ledger], server: Server) -> None:
        self.ledgers = ledgers
        self.until = threading.Event()
        self.threads = [
            threading.Thread(target=ledger.run, args=(server.port, self.until), daemon=True) for ledger in ledgers
        ]
        for thread in self.threads:
            thread.start()

    def wait_for(self, more: int) -> None:
        """Wait until so many more units are acknowledged to each."""
        aims = [ledger.acknowledged + more for ledger in self.ledgers]
        wait_until(
            lambda: all(ledger.acknowledged >= aim for ledger, aim in zip(self.ledgers, aims, strict=True)), "units"
        )

    def end(self) -> None:
        """Wait for the clients' end."""
        self.until.set()
        for thread in self.threads:
            thread.join(JOIN_SECONDS_MAX)

        assert not any(thread.is_alive() for thread in self.threads)


def names(units: Sequence[Any]) -> set[bytes]:
    """Return the names of all commands in units, and those of the units."""
    return {words[0] for unit in units for words in (unit, *(unit[1:] if unit[0] in UNITS else ()))}


@pytest.mark.parametrize("seed", range(3))
def test_the_model_is_that_of_the_oracle(oracle: Server, seed: int):
    """After any number of units the model's state is what the oracle has: what is judged by it is judged well."""
    ledger = Ledger(random.Random(seed), b"c:")
    for _ in range(10):
        load = AtWork([ledger], oracle)
        load.wait_for(150)
        load.end()
        assert ledger.verify(oracle.client()) == ""
    assert ledger.errors == []
    assert {b"EXEC", b"EVAL", b"XADD", b"XREADGROUP", b"XACK", b"XCLAIM", b"XDEL", b"XTRIM", b"XGROUP"} <= names(
        ledger.sent
    )


def test_a_crash_divides_nothing():
    """Killed again and again under load, a server has of every transaction and script all or nothing, and all that it acknowledged."""
    chance = random.Random(14)
    ledgers = [Ledger(random.Random(chance.randrange(1 << 30)), b"c%d:" % number) for number in range(3)]
    with durable_server() as server:
        for _ in range(5):
            load = AtWork(ledgers, server)
            load.wait_for(chance.randint(20, 120))
            server.kill9()
            load.end()
            server.start()

            assert [ledger.verify(server.client()) for ledger in ledgers] == [""] * len(ledgers)
        able = abilities(server.client().call)
    assert [ledger.errors for ledger in ledgers] == [[]] * len(ledgers)
    assert {name for name in UNITS if name.decode() in able} <= names(
        [unit for ledger in ledgers for unit in ledger.sent]
    )


def test_a_divided_unit_is_found(oracle: Server):
    """A ledger is not content with a state in which a part of a transaction is missing."""
    ledger = Ledger(random.Random(1), b"c:")
    ledger.sent = [(b"EXEC", (b"SET", b"c:s1", b"v"), (b"SET", b"c:s2", b"v"))]
    client = oracle.client()
    client.call("SET", "c:s1", "v")

    assert "1 keys differ" in ledger.verify(client)
    client.call("SET", "c:s2", "v")
    assert ledger.verify(client) == ""
    assert ledger.acknowledged == 1


@pytest.mark.parametrize("kind", UNITS)
def test_refusals(oracle: Server, kind: bytes):
    """A refusal that the model foresees holds up no other command of a unit; any other is the unit's."""
    client = oracle.client()

    def play(*commands: tuple[bytes, ...]) -> Reply:
        return verdict([client.call(*words) for words in requests((kind, *commands))])

    assert not play((b"RENAME", b"none", b"k"), (b"XACK", b"none", b"g", b"1-1"), (b"SET", b"k", b"v")).is_error
    assert client.call("GET", "k").value == b"v"
    assert play((b"SET", b"k", b"w"), (b"SET", b"k")).is_error


def test_the_model_of_a_unit():
    """A unit does what its commands do, one after the other."""
    model = Model()
    for kind in UNITS:
        model.apply((kind, (b"SET", b"k", b"1"), (b"INCRBY", b"k", b"4")))

        assert model.copy() == {b"k": ("string", 0, b"5")}


def test_plain_commands_are_units():
    """A command is sent as it is, EXEC and EVAL of a user's own among them."""
    for words in ((b"GET", b"k"), (b"EXEC",), (b"EVAL", b"return 1", b"0")):
        assert requests(words) == [words]
    assert requests((b"EXEC", (b"PING",))) == [(b"MULTI",), (b"PING",), (b"EXEC",)]
    assert requests((b"EVAL", (b"GET", b"k"))) == [(b"EVAL", SCRIPT, b"0", b"2", b"GET", b"k")]


def test_abilities(oracle: Server, ours: Server):
    """The oracle can do everything, and whoever lacks a command is not asked for it."""
    assert abilities(oracle.client().call) == {"EXEC", "EVAL", "XADD"}
    assert "EXEC" in abilities(ours.client().call)


def fill(client: RawClient) -> None:
    """Leave an entry pending."""
    client.call("XADD", "c:x", "1-1", "f", "v")
    client.call("XGROUP", "CREATE", "c:x", "group0", "0")
    client.call("XREADGROUP", "GROUP", "group0", "ann", "COUNT", 1, "STREAMS", "c:x", ">")


def test_a_forgotten_pending_entry_is_found(oracle: Server):
    """A ledger is not content with a group that has lost, or has acknowledged by itself, what it had given out."""
    ledger = Ledger(random.Random(1), b"c:")
    ledger.sent = [
        (b"XADD", b"c:x", b"1-1", b"f", b"v"),
        (b"XGROUP", b"CREATE", b"c:x", b"group0", b"0", b"MKSTREAM"),
        (b"XREADGROUP", b"GROUP", b"group0", b"ann", b"COUNT", b"1", b"STREAMS", b"c:x", b">"),
    ]
    ledger.acknowledged = 3
    client = oracle.client()
    fill(client)
    assert ledger.verify(client) == ""
    client.call("XACK", "c:x", "group0", "1-1")
    assert "1 keys differ" in ledger.verify(client)
