"""What replicas tell: key events and published messages, as a replica of the oracle tells them; and what an ending primary waits for.

Law: a replica has rows from its primary, and no commands; what it tells of them the primary has noted, because somebody wants it.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.client import pack
from tests.differential import line_words, lines_of
from tests.replicas import Family, control, follow, info, offset, wait_for
from tests.servers import Server, Valkey

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.client import RawClient

EVERYTHING = "KEAn"
MARK = b"mark"
SCRIPT = lines_of(r"""
    SET k v
    SET k w EX 100
    APPEND k x
    INCR n
    INCRBYFLOAT n 1.5
    MSET a 1 b 2
    GETDEL a
    EXPIRE b 100
    PERSIST b
    RENAME b c
    COPY c d
    DEL d
    RPUSH l 1 2 3
    LPOP l
    LMOVE l m LEFT RIGHT
    LTRIM l 5 6
    SADD s a b
    SMOVE s t a
    SREM s b
    SPOP t
    SADD u a b c
    SPOP u 2
    SADD v a b
    SPOP v 5
    SADD v a
    SPOP v 1
    SADD v a
    SPOP v
    HSET h f v
    HINCRBY h n 2
    HINCRBYFLOAT h n 0.5
    HDEL h f n
    ZADD z 1 a 2 b
    ZINCRBY z 3 a
    ZPOPMIN z
    ZUNIONSTORE z2 1 z
    XADD x 1-1 f v
    XGROUP CREATE x g 0
    XDEL x 1-1
    MOVE c 3
    SELECT 3
    SET c other
    SELECT 0
    DEBUG SET-ACTIVE-EXPIRE 0
    SET soon v PX 1
    DEBUG SLEEP 0.01
    GET soon
    DEBUG SET-ACTIVE-EXPIRE 1
    EVAL "redis.call('SET', 'one', '1') redis.call('DEL', 'one')" 0
    MULTI | SET t1 v | LPUSH t2 v | EXEC
    PUBLISH channel message
    SPUBLISH shard message
    FLUSHALL
""")


@contextlib.contextmanager
def oracles() -> Iterator[tuple[Server, Server]]:
    """The oracle and a replica of it, in step."""
    with (
        Valkey() as primary,
        Valkey("--replicaof", f"127.0.0.1 {primary.port}", "--repl-diskless-sync-delay", "0") as replica,
    ):
        wait_for(lambda: info(control(replica))["master_link_status"] == "up", "the oracle's replica")
        yield primary, replica


def heard(primary: Server, replica: Server, setting: str) -> list[list[bytes]]:
    """Run the script on the primary; return what a listener at the replica hears, command by command."""
    with primary.connect() as speaker, replica.connect() as listener:
        assert listener.call("CONFIG", "SET", "notify-keyspace-events", setting).value == b"OK"
        listener.call("PSUBSCRIBE", "*")
        listener.call("SSUBSCRIBE", "shard")
        _until_heard(speaker, listener, b"ready")  # the primary has come to know that somebody listens
        told = []
        for line in SCRIPT:
            for request in (*map(line_words, line.split(" | ")), (b"PUBLISH", MARK, b"")):
                speaker.send(pack(request))
                assert not speaker.read()[0].is_error, line
            told.append([b" ".join(words) for words in _messages_until(listener, MARK)])
    return told


def _messages_until(listener: RawClient, channel: bytes) -> list[list[bytes]]:
    messages: list[list[bytes]] = []
    while True:
        words = [item.value for item in listener.read()[0].items()][-2:]
        if words[0] == channel:
            return messages
        messages.append(words)


def _until_heard(speaker: RawClient, listener: RawClient, channel: bytes) -> None:
    """Publish until the listener at the replica has heard it, and a key event of a command as well."""
    speaker.call("SET", "ready", "v")
    speaker.call("DEL", "ready")
    speaker.call("PUBLISH", channel, "")
    _messages_until(listener, channel)


@pytest.mark.parametrize("setting", [EVERYTHING, "Ex", "K$g", ""])
def test_replicas_tell_as_the_oracles(setting: str):
    """A replica tells key events and messages as the oracle's replica does, each with the command that it is of."""
    with oracles() as pair:
        expected = heard(*pair, setting)
    with Family(1) as family:
        actual = heard(family.primary, family.replica, setting)

    assert expected == actual


def test_chained_replicas_tell():
    """What a replica's replica wants to hear is asked for all the way up, and no more once it is gone."""
    with Family(2) as family:
        first, second = family.replicas
        follow(second, first.port)
        control(second).call("CONFIG", "SET", "notify-keyspace-events", "KEA")
        family.wait()
        with second.connect() as listener, family.primary.connect() as speaker:
            listener.call("PSUBSCRIBE", "__keyspace@0__:*")

            def hears() -> bool:
                speaker.call("SET", "k", "v")
                speaker.call("PUBLISH", "__keyspace@0__:mark", "mark")
                return bool(_messages_until(listener, b"__keyspace@0__:mark"))

            wait_for(hears, "the events to come down")
        control(second).call("CONFIG", "SET", "notify-keyspace-events", "")

        def is_plain() -> bool:
            before = offset(control(family.primary))
            control(family.primary).call("SET", "k", "v")
            return offset(control(family.primary)) - before < PLAIN_RECORD_BYTES

        wait_for(is_plain, "the primary to note no events any more")


PLAIN_RECORD_BYTES = 33 + 20  # a header and one short row


def fall_behind(family: Family) -> None:
    """Write more than the replica's stalled link lets through."""
    client = control(family.primary)
    family.proxy.stall()
    for number in range(2000):
        client.call("SET", f"k{number}", "v" * 1000)


def test_shutdown_waits_for_replicas():
    """SHUTDOWN ends the primary when its replica has everything; ABORT lets it live on."""
    with Family(1, "--shutdown-timeout", "10") as family:
        client = control(family.primary)
        fall_behind(family)
        with family.primary.connect() as other:
            other.send(pack(("SHUTDOWN",)))
            wait_for(lambda: "waiting before the end" in family.primary.log_tail(), "the primary to wait")
            assert client.call("SHUTDOWN", "ABORT").value == b"OK"
            assert client.call("SET", "after", "v").value == b"OK"
        with family.primary.connect() as other:
            other.send(pack(("SHUTDOWN",)))
            family.proxy.heal()
            wait_for(lambda: family.primary.pid is None, "the primary to end")

        assert control(family.replica).call("GET", "after").value == b"v"
        assert control(family.replica).call("DBSIZE").value == 2001


def test_shutdown_now_waits_for_nobody():
    """SHUTDOWN NOW ends the primary at once, whatever its replica lacks; that gets it when the primary is there again."""
    with Family(1, "--shutdown-timeout", "300") as family:
        fall_behind(family)
        with family.primary.connect() as other:
            other.send(pack(("SHUTDOWN", "NOW")))
            wait_for(lambda: family.primary.pid is None, "the primary to end")
        family.primary.drop_clients()
        family.primary.start()
        family.proxy.heal()
        family.check()
        assert control(family.replica).call("DBSIZE").value == 2000
