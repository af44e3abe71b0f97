"""Key events, against the oracle: the setting, keys whose time comes, transactions, scripts, and those who wait.

Law: a key whose time has come has expired, whoever finds that out, and that is told first; what a transaction or a script does is
told in its order; who waited and is served tells what he took.
"""

from __future__ import annotations

from itertools import chain, combinations
from typing import TYPE_CHECKING

import pytest

from tests.client import pack
from tests.differential import lines_of, spaced
from tests.several import converse
from tests.told import EVERYTHING, told_alike, tried

if TYPE_CHECKING:
    from tests.differential import Pair

CLASSES = "g$lshzxetd"  # what `A` stands for
TAILS = ("K", "E", "KE", "Km", "En", "mn", "KEmn")


def test_flags(pair: Pair):
    """Every combination of classes, and how CONFIG GET says it back; letters twice, in any order, unknown ones."""
    subsets = chain.from_iterable(combinations(CLASSES, size) for size in range(len(CLASSES) + 1))
    words = [
        "".join(letters) + tail for number, letters in enumerate(subsets) for tail in ("", TAILS[number % len(TAILS)])
    ]
    words += spaced(
        'KEA AKE A KA EAm AA KEAg Agn xAx KEAmn nmAEK $$ tdxe K E KE m n KK Kmn "" KEX a k e Q KEA; "KE\\x00"'
    )
    words += spaced('"K\\x20E" "\\x20" "KEA,\\x20" AKEB N M D T')
    setting = "notify-keyspace-events"
    pair.run([line for word in words for line in (f"CONFIG SET {setting} {word or EMPTY}", f"CONFIG GET {setting}")])


EMPTY = '""'
ONE_OF_EACH = lines_of("""
    SET k v
    GET none
    EXPIRE k 100
    DEL k
    RPUSH l a
    LPOP l
    SADD s a
    HSET h f v
    ZADD z 1 a
    XADD x 1-1 f v
    SET k v PX 1
    DEBUG SLEEP 0.003
    GET k
    RENAME h h2
""")


def found_not_expired(*script: str) -> list[str]:
    """Return a script during which keys expire only if they are found."""
    return ["DEBUG SET-ACTIVE-EXPIRE 0", *script, "DEBUG SET-ACTIVE-EXPIRE 1"]


@pytest.mark.parametrize("where", ["", "K", "E", "KE"])
def test_classes(pair: Pair, where: str):
    """Each class alone: its events are told, by key, by event, by both, or not at all."""
    for letter in ("", *CLASSES, "m", "n", "A"):
        told_alike(pair, found_not_expired("FLUSHALL", *ONE_OF_EACH), where + letter)


# --- a key's time comes ----------------------------------------------------------------------------------------------------------------

FINDERS = lines_of("""
    GET k
    EXISTS k
    TYPE k
    TTL k
    STRLEN k
    MGET k k
    DEL k
    UNLINK k
    SET k w
    SET k w NX
    SET k w XX
    SET k w GET
    SETNX k w
    GETDEL k
    GETEX k PERSIST
    APPEND k w
    INCR k
    HSET k f v
    HGET k f
    LPUSH k x
    LPOP k
    SADD k a
    SUNIONSTORE d k
    ZADD k 1 a
    RENAME k j
    RENAMENX j k
    COPY k j
    COPY j k
    MOVE k 1
    EXPIRE k 100
    PERSIST k
    TOUCH k
    KEYS *
    BLPOP k 0.001
    OBJECT ENCODING k
    MSETNX k v
    FLUSHALL
""")


def test_expired_when_found(pair: Pair):
    """A key whose time has come is told as expired before what the command that found it tells."""
    states = ["SET k v PX 1\nDEBUG SLEEP 0.003", "RPUSH k a\nSET j v\nPEXPIRE k 1\nDEBUG SLEEP 0.003"]
    told_alike(pair, found_not_expired(*tried(states, FINDERS)))


EXPIRED = """
    l: PSUBSCRIBE __key*
    * hold l
    w: SET k v PX 1
    * until DBSIZE is 0
    * heed l
    w: HSET h f v
    w: SELECT 3
    w: RPUSH k x
    w: SELECT 0
    * hold l
    w: PEXPIRE h 10
    * until DBSIZE is 0
    * heed l
    w: SELECT 3
    w: SET other v
    w: MOVE other 0
    * hold l
    w: PEXPIRE k 1
    w: DEBUG SLEEP 0.003
    w: EXISTS k
    * heed l
    w: SET k v
    w: MOVE k 0
    w: SELECT 0
    w: DEL other
    * hold l
    w: PEXPIRE k 20
    * until DBSIZE is 0
    * heed l
"""

# --- transactions, scripts, those who wait ------------------------------------------------------------------------------------------------

TRANSACTIONS = """
    l: PSUBSCRIBE __key*
    w: MULTI
    w: SET k v
    w: INCR k
    w: RPUSH l a b
    w: LPOP l
    w: EXPIRE k 100
    w: RENAME k j
    w: GET none
    w: DEL l
    w: EXEC
    w: MULTI
    w: SET k v
    w: DISCARD
    w: MULTI
    w: SET k v
    w: NOSUCH
    w: EXEC
    w: WATCH k
    w: SET k w
    w: MULTI
    w: SET k x
    w: EXEC
    w: MULTI
    w: FLUSHALL
    w: SET k v
    w: CONFIG SET notify-keyspace-events KEg
    w: SET k v
    w: DEL k
    w: CONFIG SET notify-keyspace-events KEAmn
    w: SET k v
    w: PUBLISH __keymine x
    w: SET k v
    w: EXEC
    w: SELECT 5
    w: SET k v
    w: MULTI
    w: SELECT 6
    w: SET k v
    w: SELECT 5
    w: DEL k
    w: EXEC
    w: SET j v
    w: COPY j k DB 7
    w: MOVE k 7
"""
SERVED = """
    l: PSUBSCRIBE __key*
    a~ BLPOP k 0
    w: RPUSH k 1 2
    b~ BLMOVE x y LEFT RIGHT 0
    c~ BLPOP y 0
    w: RPUSH x 1
    a~ BZPOPMIN z 0
    w: ZADD z 1 m
    a~ BZMPOP 0 1 z MAX COUNT 2
    w: ZADD z 1 m 2 n 3 o
    a~ BLMPOP 0 1 q LEFT COUNT 2
    w: MULTI
    w: RPUSH q 1
    w: SET other 1
    w: RPUSH q 2 3
    w: SET other 2
    w: EXEC
    b~ BRPOPLPUSH q2 q2 0
    w: RPUSH q2 1
    a~ BLPOP gone 0
    w: MULTI
    w: RPUSH gone 1
    w: DEL gone
    w: EXEC
    w: RENAME q2 gone
    a: BLPOP miss 0.01
    a~ BLPOP p 0
    b~ BLPOP p 0
    w: RPUSH p 1
    w: MULTI
    w: LPUSH p 2
    w: GET none
    w: EXEC
    a~ BLPOP r 0
    a! SET behind 1
    a! GET none
    w: RPUSH r 1
    a~ BLPOP r 0
    w: CLIENT UNBLOCK {a}
"""
STREAMS_SERVED = """
    w: XGROUP CREATE s first $ MKSTREAM
    l: PSUBSCRIBE __key*
    a~ XREAD BLOCK 0 STREAMS s $
    w: XADD s 1-1 f v
    w: XGROUP CREATE s g $
    a~ XREADGROUP GROUP g c BLOCK 0 STREAMS s >
    b~ XREADGROUP GROUP g c BLOCK 0 STREAMS s >
    w: XADD s 1-2 f v
    w: XGROUP DESTROY s g
    w: XGROUP CREATE s g $
    a~ XREADGROUP GROUP g d BLOCK 0 STREAMS s >
    w: DEL s
"""
LISTENERS = """
    l: SUBSCRIBE __keyspace@0__:k __keyevent@0__:del __keyevent@1__:set
    m: PSUBSCRIBE __keyevent@*__:expire
    w: SET k v
    w: DEL k
    w: SET other v EX 100
    w: DEL other
    w: SELECT 1
    w: SET k v
    l: UNSUBSCRIBE __keyspace@0__:k
    w: SELECT 0
    w: SET k v
    w: EXPIRE k 100
    w: CONFIG SET notify-keyspace-events ""
    w: DEL k
    w: PUBLISH __keyevent@0__:del k
    w: SET "\\x00\\xff\\r\\n" v
    w: CONFIG SET notify-keyspace-events Eg
    w: DEL "\\x00\\xff\\r\\n"
    * close m
    w: SET k v
    w: EXPIRE k 100
"""
WATCHED = """
    m: MONITOR
    m: SUBSCRIBE __keyspace@0__:k
    w: SET k v
    w: MULTI
    w: INCR k
    w: DEL k
    w: EXEC
    b~ BLPOP k 0
    w: RPUSH k a b
    w: EVAL "return redis.call('LPUSH', KEYS[1], 1)" 1 k
"""
CONVERSATIONS = {
    "expired": EXPIRED,
    "transactions": TRANSACTIONS,
    "served": SERVED,
    "streams served": STREAMS_SERVED,
    "listeners": LISTENERS,
    "watched": WATCHED,
}


def listen(pair: Pair) -> None:
    """Let both servers tell everything."""
    for client in pair.clients():
        assert client.call("CONFIG", "SET", "notify-keyspace-events", EVERYTHING).value == b"OK"


@pytest.mark.parametrize("script", CONVERSATIONS.values(), ids=list(CONVERSATIONS))
def test_conversations(pair: Pair, script: str):
    """What is told when, and to whom."""
    listen(pair)
    converse(pair, script, databases=())


SPEAKER = """
    a: PSUBSCRIBE __key*
    a: SET k v
    a: GET none
    a: MULTI
    a: SET k v
    a: DEL k
    a: EXEC
    a~ BLPOP l 0
    b: SET k v
    b: RPUSH l 1
    a: CONFIG SET notify-keyspace-events KA
    a: SET k v
    a: PUNSUBSCRIBE
    a: SET k v
"""


def test_a_listener_who_speaks(pair: Pair):
    """In RESP3 a client hears of his own commands, and of others' while he waits."""
    if pair.protocol == 2:
        pytest.skip("pushes among replies are of RESP3")
    listen(pair)
    converse(pair, SPEAKER)


def test_scripts(pair: Pair):
    """What a script does is told in its order, before its reply."""
    lines = [
        "redis.call('SET', KEYS[1], 1) redis.call('INCR', KEYS[1]) return redis.call('GET', KEYS[1])",
        "redis.call('RPUSH', KEYS[1], 1) redis.call('LPOP', KEYS[1]) return 1",
        "redis.call('SET', KEYS[1], 1) redis.call('DEL', KEYS[1]) return redis.call('NOSUCH')",
        "return redis.call('GET', KEYS[1])",
        "return redis.pcall('LPUSH', KEYS[1], 1)",
        "return redis.call('EXISTS', KEYS[1])",
    ]
    evals = [f'EVAL "{line}" 1 k' for line in lines]
    dying = ["SET k v PX 1", "DEBUG SLEEP 0.003"]
    script = [*evals, "SET k v", *evals, *dying, *evals[::-1], "MULTI", "SET j v", *evals, "EXEC"]
    told_alike(pair, found_not_expired(*script))


def test_pushes_between_requests_of_one_piece(pair: Pair):
    """What a request brings to its own client by way of another who waits stands behind its reply, and before the next one's."""
    if pair.protocol == 2:
        pytest.skip("pushes among replies are of RESP3")
    listen(pair)
    got = []
    for server in (pair.ours, pair.oracle):
        with server.connect() as waiting, server.connect(3) as client:
            waiting.send(pack(["BLPOP", "k", 0]))
            while b"blocked_clients:1\r\n" not in client.call("INFO", "clients").value:
                pass
            client.call("SUBSCRIBE", "__keyevent@0__:lpop")
            client.send(pack(["RPUSH", "k", 1]) + pack(["PING"]) + pack(["ECHO", "x"]))
            got.append([client.read()[1] for _ in range(4)])

    assert got[0] == got[1]
    assert got[0][1].startswith(b">")
