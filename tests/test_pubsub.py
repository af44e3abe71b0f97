"""Publish and subscribe, against the oracle and against the real process with many listeners.

SUBSCRIBE UNSUBSCRIBE PSUBSCRIBE PUNSUBSCRIBE SSUBSCRIBE SUNSUBSCRIBE PUBLISH SPUBLISH PUBSUB; what a listener may say; pushes
among replies, in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import pytest
import redis.asyncio

from lmdbredis.pubsub import Hub, Kind
from lmdbredis.session import NOT_LISTENING, Session
from tests.client import Disconnected, RawClient, Reply, pack
from tests.differential import line_words, show
from tests.servers import Lmdbredis

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.differential import Pair
    from tests.servers import Server

WAIT_SECONDS_MAX = 10

# Each line: who> command, or who< and how many replies and pushes he gets now.
CHANNELS = """
    a> SUBSCRIBE one two one
    a< 3
    b> PUBLISH one hello
    b< 1
    a< 1
    b> PUBLISH none hello
    b< 1
    c> PSUBSCRIBE o* *e
    c< 2
    b> PUBLISH one again
    b< 1
    a< 1
    c< 2
    b> PUBSUB CHANNELS
    b< 1
    b> PUBSUB NUMSUB one two none
    b< 1
    b> PUBSUB NUMPAT
    b< 1
    b> PUBSUB CHANNELS o*
    b< 1
    a> UNSUBSCRIBE two nothing
    a< 2
    a> UNSUBSCRIBE
    a< 1
    a> UNSUBSCRIBE
    a< 1
    a> GET k
    a< 1
    c> PUNSUBSCRIBE *e
    c< 1
    b> PUBLISH one last
    b< 1
    c< 1
    c> PUNSUBSCRIBE
    c< 1
    b> PUBSUB NUMPAT
    b< 1
"""
SHARDS = """
    a> SSUBSCRIBE one
    a< 1
    a> SUBSCRIBE one
    a< 1
    b> SPUBLISH one hello
    b< 1
    a< 1
    b> PUBLISH one other
    b< 1
    a< 1
    b> PUBSUB SHARDCHANNELS
    b< 1
    b> PUBSUB SHARDNUMSUB one two
    b< 1
    b> PUBSUB SHARDCHANNELS t*
    b< 1
    b> PUBSUB SHARDCHANNELS t* o*
    b< 1
    b> pubsub shardChannels a b c
    b< 1
    b> PUBSUB channels a b
    b< 1
    b> PUBSUB NUMPAT a
    b< 1
    a> SUNSUBSCRIBE
    a< 1
    a> UNSUBSCRIBE one
    a< 1
    b> PUBSUB SHARDCHANNELS
    b< 1
"""
# In RESP2 a listener may say little; in RESP3 everything.
LISTENER = """
    a> SUBSCRIBE one
    a< 1
    a> PING
    a< 1
    a> PING hello
    a< 1
    a> GET k
    a< 1
    a> CLIENT ID
    a< 1
    a> NOSUCH
    a< 1
    a> GET
    a< 1
    a> MULTI
    a< 1
    a> RESET
    a< 1
    a> PING
    a< 1
    b> PUBLISH one gone
    b< 1
    b> PUBSUB NUMSUB one
    b< 1
    a> SUBSCRIBE
    a< 1
    a> PUBLISH one
    a< 1
    a> PUBSUB NOSUCH
    a< 1
    a> PUBSUB NUMPAT x
    a< 1
"""
QUEUED = """
    a> MULTI
    a< 1
    a> SUBSCRIBE one
    a< 1
    a> PUBLISH one x
    a< 1
    b> PUBLISH one early
    b< 1
    b> MULTI
    b< 1
    b> PUBLISH two y
    b< 1
    b> SET k v
    b< 1
    c> SUBSCRIBE two
    c< 1
    b> EXEC
    b< 1
    c< 1
"""
SELF = """
    a> HELLO 3
    a< 1
    a> SUBSCRIBE one
    a< 1
    a> PUBLISH one mine
    a< 2
    a> PSUBSCRIBE o*
    a< 1
    a> PUBLISH one twice
    a< 3
    a> SET k v
    a< 1
    a> UNSUBSCRIBE one none
    a< 2
"""


def wait_until(condition: Callable[[], object]) -> None:
    """Return when the condition holds; fail if it does not in time."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def wait_for_silence(client: RawClient) -> None:
    """Return when the server has forgotten the listeners of the tests before."""
    asked = [("PUBSUB", "CHANNELS"), ("PUBSUB", "SHARDCHANNELS"), ("PUBSUB", "NUMPAT")]
    wait_until(lambda: [reply.plain() for reply in client.pipeline(asked)] == [[], [], 0])


def talk(pair: Pair, script: str) -> None:
    """Run a script of several clients against both servers; each must get the same bytes, in the same order."""
    for client in pair.clients():
        wait_for_silence(client)
    with contextlib.ExitStack() as stack:
        clients: dict[str, tuple[RawClient, RawClient]] = {}
        said = []
        for line in filter(None, map(str.strip, script.splitlines())):
            who, direction, rest = line[0], line[1], line[3:]
            if who not in clients:
                clients[who] = pair.fresh()
                for client in clients[who]:
                    stack.enter_context(client)
            said.append(line)
            if direction == ">":
                for client in clients[who]:
                    client.send(pack(line_words(rest)))
            else:
                ours, theirs = ([one.read() for _ in range(int(rest))] for one in clients[who])
                if not _same(said[-2], ours, theirs):
                    text = "\n".join(said)
                    raise AssertionError(
                        f"{text}\nours:   {[show(one) for one, _ in ours]}\noracle: {[show(one) for one, _ in theirs]}"
                    )


def _same(said: str, ours: list[tuple[Reply, bytes]], theirs: list[tuple[Reply, bytes]]) -> bool:
    """Tell whether both got the same; what HELLO and CLIENT ID say, and the order of channels and of patterns, differs."""
    if "HELLO" in said or "CLIENT ID" in said:
        return True
    if "CHANNELS" in said:
        return sorted(ours[0][0].plain()) == sorted(theirs[0][0].plain())
    if all(reply.plain()[:1] == [b"pmessage"] for reply, _ in ours if reply.kind in "*>"):
        return sorted(raw for _, raw in ours) == sorted(raw for _, raw in theirs)
    return [raw for _, raw in ours] == [raw for _, raw in theirs]


@pytest.mark.parametrize(
    "script", [CHANNELS, SHARDS, LISTENER, QUEUED, SELF], ids=["channels", "shards", "listener", "queued", "self"]
)
def test_conversations(pair: Pair, script: str):
    """Everybody gets the replies and the messages of the oracle, in its order."""
    talk(pair, script)


def test_a_pipeline_of_a_listener(pair: Pair):
    """Subscribing, listening and unsubscribing in one pipeline."""
    for client in pair.clients():
        wait_for_silence(client)
    lines = [
        "SUBSCRIBE a b",
        "PSUBSCRIBE x*",
        "PING",
        "UNSUBSCRIBE",
        "PUNSUBSCRIBE",
        "GET k",
        "SUBSCRIBE c",
        "GET k",
        "RESET",
    ]
    ours, theirs = pair.fresh()
    with ours, theirs:
        for client in (ours, theirs):
            client.send(b"".join(pack(line_words(line)) for line in lines))
        replies = [[client.read()[1] for _ in range(11)] for client in (ours, theirs)]
    if pair.protocol == 2:
        assert replies[1] == replies[0]
    else:  # all channels at once come in any order
        assert sorted(replies[1]) == sorted(replies[0])


def test_who_leaves_is_forgotten(ours: Server):
    """A listener that goes away, or is cut off, is counted no more."""
    wait_for_silence(ours.client())
    client = ours.client()
    with ours.connect() as listener:
        listener.call("SUBSCRIBE", "one")
        listener.call("PSUBSCRIBE", "p*")
        assert client.call("PUBSUB", "NUMSUB", "one").plain() == [b"one", 1]
    wait_until(lambda: client.call("PUBSUB", "NUMSUB", "one").plain() == [b"one", 0])
    assert client.call("PUBSUB", "NUMPAT").value == 0
    assert client.call("PUBLISH", "one", "x").value == 0


def test_counts(ours: Server):
    """INFO and CLIENT LIST count subscriptions."""
    wait_for_silence(ours.client())
    client = ours.client()
    with ours.connect() as listener:
        listener.send(pack(("SUBSCRIBE", "one", "two")) + pack(("PSUBSCRIBE", "p*")) + pack(("SSUBSCRIBE", "s")))
        for _ in range(4):
            listener.read()
        stats = client.call("INFO", "stats").value
        assert b"pubsub_channels:2\r\npubsub_patterns:1\r\npubsubshard_channels:1\r\n" in stats
        assert b" flags=P " in client.call("CLIENT", "LIST").value
        assert b" sub=2 psub=1 ssub=1 " in client.call("CLIENT", "LIST").value


def test_a_listener_that_does_not_read(tmp_path: Path):
    """It is cut off at its own output-buffer limit, and nobody else waits."""
    limits = ("--client-output-buffer-limit", "pubsub 1mb 0 0")
    with contextlib.ExitStack() as stack:
        server = Lmdbredis(*limits, dir=tmp_path)
        stack.callback(server.stop)
        server.start()
        client, good = stack.enter_context(server.connect()), stack.enter_context(server.connect())
        good.call("SUBSCRIBE", "one")
        with server.connect() as deaf:
            deaf.call("SUBSCRIBE", "one")
            count, message = 2, bytes(50_000)
            while count == 2:
                count = client.call("PUBLISH", "one", message).value
                assert good.read()[0].plain() == [b"message", b"one", message]
            with pytest.raises(Disconnected):
                for _ in range(10_000):
                    deaf.read()
        assert client.call("PUBLISH", "one", "x").value == 1


def test_many_listeners(ours: Server):
    """Some hundred listeners get every message, in order."""
    wait_for_silence(ours.client())
    count, messages = 300, 20
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(ours.connect()) for _ in range(count)]
        for listener in listeners:
            listener.call("SUBSCRIBE", "one")
        client = ours.client()
        replies = client.pipeline([("PUBLISH", "one", number) for number in range(messages)])
        assert [reply.value for reply in replies] == [count] * messages
        for listener in listeners:
            assert [listener.read()[0].plain()[2] for _ in range(messages)] == [
                b"%d" % number for number in range(messages)
            ]


def test_redis_py(ours: Server):
    """The asyncio client of redis-py listens and publishes."""

    async def chat() -> list[bytes]:
        async with redis.asyncio.Redis(port=ours.port) as client, client.pubsub() as listener:
            await listener.subscribe("room")
            await listener.psubscribe("r*")
            for number in range(3):
                await client.publish("room", f"message {number}")
            got = []
            while len(got) < 6:
                message = await listener.get_message(ignore_subscribe_messages=True, timeout=5)
                if message is not None:
                    got.append(message["data"])
            return got

    assert [b"message 0", b"message 1", b"message 2"] == sorted(set(asyncio.run(chat())))


def test_the_hub_forgets():
    """Names that nobody listens to any more leave nothing behind."""
    hub = Hub()
    sessions = [Session(number, None, "", "", 0) for number in range(3)]  # type: ignore[arg-type]
    for session in sessions:
        for kind in Kind:
            for name in (b"a", b"b*"):
                assert hub.subscribe(session, kind, name)
                assert not hub.subscribe(session, kind, name)
    assert hub.sessions() == 3
    for session in sessions:
        hub.forget(session)

    assert [[], [], []] == [hub.names(kind) for kind in Kind]
    assert all(session.listens is NOT_LISTENING and not session.gate for session in sessions)
    assert list(hub.receivers(Kind.CHANNEL, b"a")) == []
