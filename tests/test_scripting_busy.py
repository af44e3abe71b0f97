"""A script that runs for long, against the oracle: who is told BUSY, who may still speak, how the script is ended.

Law: other clients, old ones and new ones, are answered while the script runs; afterwards all goes on as before.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import pytest

from lmdbredis.errors import BUSY, NOT_BUSY, UNKILLABLE
from tests.client import Disconnected, pack
from tests.comparison import equal
from tests.differential import line_words
from tests.servers import Lmdbredis

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.client import RawClient
    from tests.differential import Pair
    from tests.servers import Server

ENDLESS = "while true do end"
THRESHOLD_MS = 50
SECONDS_MAX = 20
# Commands while a script runs, in this order.
SAID = """
    PING
    GET a
    NOSUCH a
    GET
    SET a b
    EVAL "return 1" 0
    SCRIPT LOAD "return 1"
    SCRIPT EXISTS x
    SCRIPT HELP
    SCRIPT
    SCRIPT NOSUCH
    INFO
    CONFIG GET maxmemory
    SHUTDOWN
    SHUTDOWN SAVE
    SUBSCRIBE x
    SELECT 1
    SELECT 99
    SELECT 0
    MULTI
    GET a
    EXEC
    DISCARD
    MULTI
    DISCARD
    EXEC
    WATCH a
    UNWATCH
    RESET
    AUTH x
"""
# Scripts that would rather not end.
STUBBORN = {
    "plain": ENDLESS,
    "pcall": "while true do pcall(function() while true do end end) end",
    "pcall of pcall": "while true do pcall(pcall, function() while true do end end) end",
    "xpcall": "while true do xpcall(function() while true do end end, function() while true do end end) end",
    "coroutine": "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
    "wrap": "while true do pcall(coroutine.wrap(function() while true do end end)) end",
    "load": "while true do load(function() while true do end end) end",
    "metatable": "local t = setmetatable({}, {__index = function() while true do end end}) while true do pcall(function() return t.x end) end",
    "sort": "while true do pcall(table.sort, {1, 2, 3}, function() while true do end end) end",
    "gsub": "while true do pcall(string.gsub, 'x', 'x', function() while true do end end) end",
    "commands": "while true do redis.call('GET', 'a') end",
    "commands, caught": "while true do redis.pcall('NOSUCH') end",
    "a tail call": "local function f() return f() end return f()",
    "collected": "while true do local t = {} for i = 1, 100 do t[i] = {} end end",
}


def is_busy(server: Server, protocol: int, password: str | None = None) -> bool:
    """Tell whether somebody new is told BUSY. (Who was answered in the batch of the script waits for its end: no reply is no.)"""
    with contextlib.suppress(Disconnected), server.connect(protocol, timeout_seconds=1) as client:
        if password is not None:
            client.call("AUTH", password)
        return client.call("PING").value == BUSY.encode()
    return False


@contextlib.contextmanager
def running(server: Server, script: str, protocol: int = 2) -> Iterator[RawClient]:
    """Let a script run past the threshold; give the connection that its reply will come to."""
    with server.connect(protocol) as control, server.connect(protocol) as client:
        control.call("CONFIG", "SET", "busy-reply-threshold", THRESHOLD_MS)
        try:
            client.send(pack(("EVAL", script, 0)))
            deadline = time.monotonic() + SECONDS_MAX
            while not is_busy(server, protocol):
                assert time.monotonic() < deadline
            yield client
        finally:
            if server.pid is not None:
                deadline = time.monotonic() + SECONDS_MAX
                with server.connect() as last:
                    last.call("SCRIPT", "KILL")
                    while last.call("CONFIG", "SET", "busy-reply-threshold", 5000).is_error:
                        assert time.monotonic() < deadline


def test_what_is_said(pair: Pair):
    """Each command is answered as by the oracle, on an old connection and on a new one."""
    ours_old, oracle_old = pair.fresh()
    with ours_old, oracle_old, running(pair.ours, ENDLESS, pair.protocol), running(pair.oracle, ENDLESS, pair.protocol):
        ours_new, oracle_new = pair.fresh()
        with ours_new, oracle_new:
            for mine, theirs in ((ours_old, oracle_old), (ours_new, oracle_new)):
                for line in filter(str.strip, SAID.splitlines()):
                    words = line_words(line)
                    mine.send(pack(words))
                    theirs.send(pack(words))
                    assert equal(words, mine.read(), theirs.read()), line


@pytest.mark.parametrize("script", STUBBORN)
def test_kill(ours: Server, script: str):
    """SCRIPT KILL ends whatever has not written, and says so to whoever waits for its reply."""
    with running(ours, STUBBORN[script]) as client, ours.connect() as other:
        assert other.call("SCRIPT", "KILL").value == b"OK"
        reply = client.read()[0]

        assert reply.is_error
        assert reply.value.startswith(b"ERR Script killed by user with SCRIPT KILL. script: on @user_script:1.")
        assert client.call("PING").value == b"PONG"
        assert other.call("EVAL", "return 1", 0).value == 1
        assert other.call("SCRIPT", "KILL").value == NOT_BUSY.encode()


def test_a_script_that_has_written_is_not_killed(ours: Server):
    """Half a script's effects cannot be: it can only be waited for."""
    with (
        running(ours, "redis.call('SET', 'k', 'v') for i = 1, 3e8 do end return 'done'") as client,
        ours.connect() as other,
    ):
        assert other.call("SCRIPT", "KILL").value == UNKILLABLE.encode()
        assert other.call("GET", "k").value == BUSY.encode()
        assert client.read()[0].value == b"done"
        assert other.call("GET", "k").value == b"v"


@pytest.mark.parametrize("asked", [("PING",), ("ECHO", "PONG"), ("GET", "pong")])
def test_who_asked_in_the_turn_of_the_script(ours: Server, asked: tuple[str, ...]):
    """Who was answered in the very turn of the loop in which a script began is told while that runs, if nothing was written."""
    with ours.connect() as first, ours.connect() as second, ours.connect() as last:
        last.pipeline([("SET", "pong", "PONG"), ("CONFIG", "SET", "busy-reply-threshold", THRESHOLD_MS)])
        last.call("CLIENT", "PAUSE", 500, "ALL")  # so that both requests are run in one turn
        first.send(pack(asked))
        time.sleep(0.1)
        second.send(pack(("EVAL", ENDLESS, 0)))
        assert first.read()[0].value == b"PONG"
        assert first.call("SCRIPT", "KILL").value == b"OK"
        assert second.read()[0].is_error
        assert first.call("PING").value == b"PONG"
        last.call("CONFIG", "SET", "busy-reply-threshold", 5000)


def test_clients_who_came_meanwhile_stay(ours: Server):
    """Who connected while the script ran goes on afterwards, with the state he has set and what he had begun to send."""
    with running(ours, ENDLESS) as client:
        guests = [ours.connect() for _ in range(5)]
        for number, guest in enumerate(guests):
            assert guest.call("PING").value == BUSY.encode()
            assert guest.call("CLIENT", "SETNAME", f"guest{number}").value == b"OK"
            assert guest.call("SELECT", 3).value == b"OK"
        half = pack(("SET", "k", "x" * 100_000))
        guests[0].send(half[:50_000])
        assert guests[1].call("SCRIPT", "KILL").value == b"OK"
        client.read()
        guests[0].send(half[50_000:])
        assert guests[0].read()[0].value == b"OK"
        for number, guest in enumerate(guests):
            assert guest.call("CLIENT", "GETNAME").value == b"guest%d" % number
            assert len(guest.call("GET", "k").value) == 100_000
            guest.close()
        client.call("SELECT", 3)
        assert client.call("STRLEN", "k").value == 100_000


def test_what_is_sent_behind_the_script_waits(ours: Server):
    """The client of the script is answered in the order of its requests, and none of them with BUSY."""
    with running(ours, ENDLESS) as client, ours.connect() as other:
        client.send(pack(("PING",)) + pack(("SET", "k", "v")))
        assert other.call("PING").value == BUSY.encode()
        other.call("SCRIPT", "KILL")

        assert client.read()[0].is_error
        assert [b"PONG", b"OK"] == [client.read()[0].value, client.read()[0].value]


def test_a_client_that_goes_meanwhile(ours: Server):
    """Connections that end while the script runs, old and new, are forgotten."""
    before = ours.client().call("CLIENT", "LIST").value.count(b"id=")
    with running(ours, ENDLESS) as client:
        for _ in range(3):
            with ours.connect() as guest:
                guest.call("PING")
        with ours.connect() as guest:
            guest.send(b"*1\r\n$4\r\nPI")
        with ours.connect() as guest:
            guest.send(b"*x\r\n")
            with contextlib.suppress(Disconnected):
                guest.call("PING")
        with ours.connect() as other:
            other.call("SCRIPT", "KILL")
            client.read()
            deadline = time.monotonic() + SECONDS_MAX
            while other.call("CLIENT", "LIST").value.count(b"id=") > before + 3:  # two of `running`, and `other`
                assert time.monotonic() < deadline


def test_strangers_are_strangers(ours: Server):
    """Without the password nobody is told anything, and nobody can kill."""
    with ours.connect() as admin:
        admin.call("CONFIG", "SET", "requirepass", "secret")
        try:
            admin.call("CONFIG", "SET", "busy-reply-threshold", THRESHOLD_MS)
            admin.send(pack(("EVAL", ENDLESS, 0)))
            deadline = time.monotonic() + SECONDS_MAX
            while not is_busy(ours, 2, "secret"):
                assert time.monotonic() < deadline
            with ours.connect() as stranger:
                assert stranger.call("SCRIPT", "KILL").value.startswith(b"NOAUTH")
                assert stranger.call("GET", "k").value.startswith(b"NOAUTH")
                assert stranger.call("AUTH", "secret").value == b"OK"
                while stranger.call("SCRIPT", "KILL").value != b"OK":
                    assert time.monotonic() < deadline
            assert admin.read()[0].is_error
        finally:
            admin.call("CONFIG", "SET", "requirepass", "")
            admin.call("CONFIG", "SET", "busy-reply-threshold", 5000)


def test_who_was_answered_in_the_batch_of_the_script(ours: Server):
    """A client whose request ran in the same batch, before the script, can end it, and gets all his replies, in order."""
    with ours.connect() as client, ours.connect() as other:
        client.call("CONFIG", "SET", "busy-reply-threshold", THRESHOLD_MS)
        for _ in range(20):  # until chance puts both into one batch, more often than not
            other.send(pack(("PING",)))
            client.send(pack(("EVAL", ENDLESS, 0)))
            other.send(pack(("ECHO", "x")))
            while not is_busy(ours, 2):
                pass
            other.send(pack(("SCRIPT", "KILL")))
            assert client.read()[0].is_error
            replies = [other.read()[0].value for _ in range(3)]
            assert replies[0] in {b"PONG", BUSY.encode()}
            assert replies[1] in {b"x", BUSY.encode()}
            assert replies[2] == b"OK"
        client.call("CONFIG", "SET", "busy-reply-threshold", 5000)


def test_no_threshold_no_busy(ours: Server):
    """With a threshold of 0 nobody is served while a script runs, and a quick script never sees any of it."""
    with ours.connect() as client, ours.connect() as other:
        client.call("CONFIG", "SET", "busy-reply-threshold", 0)
        client.send(pack(("EVAL", "for i = 1, 3e7 do end return 'done'", 0)))

        assert other.call("PING").value == b"PONG"
        assert client.read()[0].value == b"done"
        client.call("CONFIG", "SET", "busy-reply-threshold", 5000)


@pytest.mark.parametrize("script", [ENDLESS, "redis.call('SET', 'half', 'v') while true do end"])
@pytest.mark.parametrize("policy", ["everysec", "always"])
def test_shutdown_nosave(script: str, policy: str):
    """SHUTDOWN NOSAVE ends the server out of a script: what was acknowledged is there again, of the script nothing."""
    with Lmdbredis("--appendfsync", policy) as server:
        with server.connect() as client:
            client.call("SET", "kept", "v")
        with running(server, script), server.connect() as other:
            with contextlib.suppress(Disconnected):
                other.call("SHUTDOWN", "NOSAVE")
            assert server.process.wait(SECONDS_MAX) == 0
        server.restart()
        with server.connect() as client:
            assert client.call("GET", "kept").value == b"v"
            assert client.call("EXISTS", "half").value == 0
            assert client.call("DEBUG", "CHECK").value == b"OK"


def test_under_always(ours: Server):
    """Replies that wait for a sync when the script begins come after it, in their order."""
    with Lmdbredis("--appendfsync", "always") as server, server.connect() as writer:
        writer.call("SET", "k", 0)
        with running(server, ENDLESS) as client, server.connect() as other:
            assert other.call("SCRIPT", "KILL").value == b"OK"
            assert client.read()[0].is_error
        assert writer.call("INCR", "k").value == 1
