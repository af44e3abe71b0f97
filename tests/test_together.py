"""Transactions, watches, messages and waiting, met in one script of several connections, against the oracle.

test_transactions, test_pubsub and test_blocking have each for itself.

Law: what others do to a watched key between WATCH and EXEC is seen, however it was done; a transaction's effects, those who waited
for them and the messages in it come in one order, and pushes stand among a client's replies where they came.
"""

from __future__ import annotations

import socket
import struct
import time
from typing import TYPE_CHECKING

import pytest

from tests.client import pack
from tests.several import converse

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.client import RawClient, Reply
    from tests.comparison import Words
    from tests.differential import Pair

_SO_TIMESTAMPNS = 35  # Linux: recvmsg tells when the data came

# --- watches ---------------------------------------------------------------------------------------------------------------------------

# What another does between WATCH k and EXEC, by the state of k at WATCH; `;` separates commands.
STATES = ["DEL k", "SET k v", "RPUSH k a", "SET k v PX 100000", "SET j v; SET k v"]
BETWEEN = [
    "MULTI; SET k w; EXEC", "MULTI; SET k w; DISCARD", "MULTI; SET j w; EXEC", "MULTI; SET k w; DEL k; EXEC", "MULTI; EXEC",
    "SELECT 1; SET k w", "SELECT 1; SET k w; SWAPDB 0 1", "SWAPDB 0 1", "SWAPDB 1 2", "SWAPDB 0 0", "SELECT 1; SET k w; SWAPDB 0 1; SWAPDB 1 0",
    "FLUSHALL", "FLUSHDB", "SELECT 1; FLUSHDB", "SELECT 1; FLUSHALL", "SET k v", "SET k v XX", "SET k v NX", "SET k v XX GET", "DEL k", "UNLINK k",
    "RENAME k j", "RENAME j k", "COPY j k", "COPY j k REPLACE", "COPY k j REPLACE", "SELECT 1; SET k x; MOVE k 0", "MOVE k 1",
    "EXPIRE k 100", "EXPIRE k -1", "EXPIRE k 50 GT", "PERSIST k", "GETEX k PERSIST", "GETEX k", "GETDEL k", "TOUCH k", "APPEND k x",
    "RPUSH k b", "LPOP k", "RPUSHX k b", "LTRIM k 0 -1", "LMOVE k k LEFT RIGHT", "SUNIONSTORE k none", "SETRANGE k 0 x",
    "BLPOP k 0.001", "LPUSH k x; LPOP k", "SADD k m", "PUBLISH k v", "MSETNX k v j v", "BRPOPLPUSH k k 0.001",
]  # fmt: skip

# What writes what was there already, or nothing at all.
SAME_AGAIN = {
    "SET k 5": [
        "SET k 5", "INCRBY k 0", "INCRBYFLOAT k 0", 'APPEND k ""', 'SETRANGE k 0 ""', "SETRANGE k 0 5", "GETSET k 5", "MSET k 5", "RENAME k k",
        "SETNX k 5", "EXPIRE k 100 XX", "PERSIST k", "COPY k k DB 1", "GETEX k EX 100",
    ],
    "HSET k f v n 5": ["HSET k f v", "HSET k f v n 5", "HSETNX k f v", "HDEL k none", "HINCRBY k n 0", "HINCRBYFLOAT k n 0", "HMSET k f v"],
    "RPUSH k a a": [
        "LTRIM k 0 -1", "LTRIM k -9 9", "LSET k 0 a", "LMOVE k k LEFT RIGHT", "LMOVE k k LEFT LEFT", "RPOPLPUSH k k", "LREM k 0 none",
        "LINSERT k BEFORE none x", "LPOP k 0", "RPUSHX none x",
    ],
    "RPUSH k a": ["LMOVE k k LEFT RIGHT", "LMOVE k k LEFT LEFT", "RPOPLPUSH k k"],
    "SADD k a b": ["SADD k a", "SREM k none", "SMOVE k k a", "SMOVE k none c", "SUNIONSTORE k k", "SINTERSTORE k k", "SPOP k 0"],
    "ZADD k 1 a 1 b": [
        "ZADD k 1 a", "ZADD k CH 1 a", "ZADD k XX 2 c", "ZINCRBY k 0 a", "ZADD k INCR 0 a", "ZREM k none", "ZUNIONSTORE k 1 k", "ZRANGESTORE k k 0 -1",
        "ZREMRANGEBYRANK k 5 9", "ZREMRANGEBYSCORE k 5 9", "ZPOPMIN k 0",
    ],
    "SET k v EX 1000": ["EXPIRE k 1000", "SET k v KEEPTTL", "EXPIRE k 50 GT", "GETEX k PERSIST", "EXPIRE k 1 NX"],
}  # fmt: skip


def said(who: str, commands: str) -> list[str]:
    """Return the lines in which somebody says commands that `;` separates."""
    return [f"{who}: {command.strip()}" for command in commands.split(";")]


def watched(states: Iterable[str], between: Iterable[str]) -> list[str]:
    """Return the script in which a watches k, and b does this or that to it before a's EXEC."""
    script = []
    for state in states:
        for deed in between:
            script += ["b: FLUSHALL", *said("b", state), "a: WATCH none k", *said("b", deed)]
            script += ["a: MULTI", "a: SET done 1", "a: EXEC", "b: SELECT 0", "b: EXISTS done k"]
    return script


@pytest.mark.parametrize("state", STATES)
def test_watched(pair: Pair, state: str):
    """EXEC is refused if, and only if, the oracle's is."""
    converse(pair, watched([state], BETWEEN), databases=(0, 1))


@pytest.mark.parametrize("state", SAME_AGAIN)
def test_watched_and_written_again(pair: Pair, state: str):
    """Whether a write that leaves everything as it was is a change, the oracle decides."""
    converse(pair, watched([state], SAME_AGAIN[state]), databases=(0, 1))


WATCH_AND_WAIT = """
    a: WATCH k
    b~ BLPOP k 0
    c: RPUSH k 1
    a: MULTI
    a: PING
    a: EXEC
    a: WATCH k d
    b~ BLMOVE k d LEFT RIGHT 0
    c: MULTI
    c: RPUSH other 1
    c: RPUSH k 1 2
    c: EXEC
    a: MULTI
    a: PING
    a: EXEC
    c: LRANGE k 0 -1
    c: LRANGE d 0 -1
    a: WATCH w
    a~ BLPOP x 0
    c: SET w 1
    c: RPUSH x 1
    a: MULTI
    a: PING
    a: EXEC
    a: WATCH w
    b: WATCH w
    a: MULTI
    b: MULTI
    a: INCR w
    b: INCR w
    a: EXEC
    b: EXEC
    a: WATCH w
    * close c
    a: MULTI
    a: INCR w
    a: EXEC
"""
WATCH_AND_TIME = """
    a: SET k v PX 500
    a: WATCH k
    b: SELECT 1
    * until DBSIZE is 0
    a: MULTI
    a: PING
    a: EXEC
    c: SET k v PX 1
    c: DEBUG SLEEP 0.003
    a: WATCH k
    c: DEL k
    a: MULTI
    a: PING
    a: EXEC
    c: SET k v PX 1
    c: DEBUG SLEEP 0.003
    a: WATCH k
    c: SET k v
    a: MULTI
    a: PING
    a: EXEC
    c: PEXPIRE k 500
    a: WATCH k
    a: MULTI
    a: SET k w
    c: DEBUG SLEEP 0.6
    a: EXEC
    a: GET k
    c: SET k v PX 1
    c: DEBUG SLEEP 0.003
    a: WATCH k
    c: GET k
    a: MULTI
    a: PING
    a: EXEC
"""
SERVED_BY_EXEC = """
    a~ BLPOP k 0
    b~ BLPOP k j 0
    c~ BLMOVE j k LEFT LEFT 0
    w: MULTI
    w: RPUSH k 1
    w: LLEN k
    w: RPUSH k 2
    w: LPOP k
    w: RPUSH j 3
    w: LRANGE k 0 -1
    w: LRANGE j 0 -1
    w: EXEC
    w: LRANGE k 0 -1
    w: LRANGE j 0 -1
    a~ BLPOP k 0
    w: MULTI
    w: RPUSH k 5
    w: NOSUCH
    w: EXEC
    w: WATCH z
    v: SET z 1
    w: MULTI
    w: RPUSH k 6
    w: EXEC
    w: MULTI
    w: RPUSH k 7
    * close w
    v: RPUSH k 8
"""

# --- messages --------------------------------------------------------------------------------------------------------------------------

MESSAGES_IN_EXEC = """
    l: SUBSCRIBE one two
    m: SUBSCRIBE two
    a: MULTI
    a: PUBLISH one 1
    a: SET k v
    a: PUBLISH two 2
    a: PUBLISH none 3
    a: GET k
    a: PUBLISH one 4
    l: PING
    a: EXEC
    a: MULTI
    a: PUBLISH one lost
    a: DISCARD
    a: MULTI
    a: PUBLISH one lost
    a: NOSUCH
    a: EXEC
    a: MULTI
    a: SUBSCRIBE three
    a: PUBLISH three x
    a: UNSUBSCRIBE three
    a: EXEC
    a: PUBLISH three y
"""
SHARDS = """
    l: SSUBSCRIBE one
    l: SUBSCRIBE one
    m: SSUBSCRIBE one two
    a: SPUBLISH one hello
    a: PUBLISH one hello
    a: SPUBLISH two hello
    a: MULTI
    a: SPUBLISH one 1
    a: PUBLISH one 2
    a: EXEC
    l: SUNSUBSCRIBE one
    a: SPUBLISH one gone
    m: SUNSUBSCRIBE two none
    a: PUBSUB SHARDNUMSUB one two
    a: PUBSUB SHARDCHANNELS
    * close m
    a: PUBSUB SHARDCHANNELS
    a: PUBSUB NUMSUB one
    a: PUBSUB CHANNELS
"""
WAITING_AND_MESSAGES = """
    a: PSUBSCRIBE p*
    b: SUBSCRIBE one
    c~ BLPOP k 0
    d: PUBLISH p1 x
    d: PUBLISH one y
    d: MULTI
    d: PUBLISH p2 before
    d: RPUSH k 1
    d: PUBLISH one after
    d: EXEC
    d: CLIENT KILL ID {b}
    d: PUBLISH one nobody
    a: RESET
    d: PUBLISH p3 nobody
    d: PUBSUB NUMPAT
"""
PUSHES_AMONG_REPLIES = """
    a: SUBSCRIBE one
    a: PUBLISH one mine
    a: GET k
    a: MULTI
    b: PUBLISH one early
    a: SET k v
    b: PUBLISH one late
    a: PUBLISH one own
    a: EXEC
    a~ BLPOP q 0
    b: PUBLISH one waiting
    b: MULTI
    b: PUBLISH one before
    b: RPUSH q 1
    b: PUBLISH one behind
    b: EXEC
    a~ BLPOP q 0
    a! PUBLISH one queued
    b: PUBLISH one first
    b: CLIENT UNBLOCK {a} ERROR
    a: CLIENT UNBLOCK {a}
    a: PSUBSCRIBE o*
    a: UNSUBSCRIBE one none
    a: PUBLISH one pattern
    a: SSUBSCRIBE s
    b: SPUBLISH s x
    b: WATCH k
    a: SET k w
    b: MULTI
    b: PUBLISH one refused
    b: EXEC
    a! CLIENT REPLY OFF
    b: PUBLISH one silent
    a! PUBLISH one own
    a! SET seen 1
    * until EXISTS seen is 1
    a: CLIENT REPLY ON
    a: RESET
    b: PUBLISH one gone
"""
CONVERSATIONS = {
    "watch and wait": WATCH_AND_WAIT,
    "watch and time": WATCH_AND_TIME,
    "served by EXEC": SERVED_BY_EXEC,
    "messages in EXEC": MESSAGES_IN_EXEC,
    "shards": SHARDS,
    "waiting and messages": WAITING_AND_MESSAGES,
}


@pytest.mark.parametrize("script", CONVERSATIONS.values(), ids=list(CONVERSATIONS))
def test_conversations(pair: Pair, script: str):
    """Everybody gets the oracle's replies and messages, in its order."""
    converse(pair, script, databases=(0, 1), rules=any_order)


def any_order(words: Words, ours: Reply, oracle: Reply) -> bool:
    """Channels come in the order of a table."""
    return words[0] == b"PUBSUB" and sorted(ours.items()) == sorted(oracle.items())


def test_pushes_among_replies(pair: Pair):
    """In RESP3 pushes stand where they came: among the replies, before and behind the one to EXEC, to one who waits."""
    if pair.protocol == 2:
        pytest.skip("in RESP2 who listens may not speak")
    converse(pair, PUSHES_AMONG_REPLIES)


def test_who_has_waited_is_answered_first(pair: Pair):
    """To whoever waited goes what was pushed before the answer goes to whoever pushed it: the system's clock on both tells."""
    for server in (pair.ours, pair.oracle):
        with server.connect() as waiting, server.connect() as pushing:
            if not (notes_when_data_comes(waiting) and notes_when_data_comes(pushing)):
                pytest.skip("this system does not tell when data came")
            for number in range(5):
                waiting.send(pack(["BLPOP", "k", 0]))
                while b"blocked_clients:1\r\n" not in pushing.call("INFO", "clients").value:
                    pass
                pushing.send(pack(["RPUSH", "k", number]))

                assert came_at(waiting, pack(["k", number])) < came_at(pushing, b":1\r\n")


def notes_when_data_comes(client: RawClient) -> bool:
    """Let the system note when data comes; tell whether it does, which may begin a moment later."""
    client.socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        client.send(pack(["PING"]))
        if client.socket.recvmsg(100, 100)[1]:
            return True
    return False


def came_at(client: RawClient, expected: bytes) -> tuple[int, int]:
    """Return when these bytes came, as the system noted: s, ns."""
    data, [(_, _, noted)], _, _ = client.socket.recvmsg(100, 100)
    assert data == expected
    seconds, nanoseconds = struct.unpack("qq", noted)
    return seconds, nanoseconds
