"""What the server lets others see of its work, and how it is told to hold still: against the oracle.

MONITOR, SLOWLOG, INFO commandstats and errorstats, CLIENT PAUSE and UNPAUSE.

Law: everything that is run is shown once, by whom, where and with which words, and no secret among them.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest

from tests.client import pack
from tests.differential import line_words, lines_of, show
from tests.several import Talk, converse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.client import RawClient, Reply
    from tests.comparison import Words
    from tests.differential import Pair
    from tests.servers import Server

# --- MONITOR -------------------------------------------------------------------------------------------------------------------------

SEEN = r"""
    m: MONITOR
    a: SET k v
    a: set K "a b" eX 100
    a: GET k
    a: SET "\x00\xff\r\n\t\a\b\\\"'" "\xc3\xa9 \x7f ~"
    a: SET "" ""
    a: SELECT 3
    a: GET k
    b: GET k
    a: NOSUCH x
    a: GET
    a: SET k v WRONG
    a: LPUSH k x
    a: LPUSH K x
    a: PING
    a: ECHO hello
    a: MULTI
    a: SET k 1
    a: INCR k
    a: SELECT 4
    a: GET k
    a: EXEC
    a: MULTI
    a: SET k 1
    a: DISCARD
    a: MULTI
    a: NOSUCH
    a: EXEC
    a: WATCH k
    a: UNWATCH
    a: CLIENT SETNAME monitored
    a: CLIENT NO-TOUCH on
    a: CONFIG GET nosuch
    a: CONFIG SET timeout 0
    a: DEBUG SLEEP 0
    a: SLOWLOG RESET
    a: COMMAND GETKEYS GET k
    a: DBSIZE
    a: FLUSHDB
    a: SWAPDB 0 1
    a: OBJECT HELP
    a: PUBSUB NUMPAT
    a: PUBLISH room hello
    a: CLIENT KILL ID 1000000
    a: SUBSCRIBE room
    b: PUBLISH room hello
    a: UNSUBSCRIBE room
    a: RESET
    a: GET k
"""
WAITING = """
    m: MONITOR
    a~ BLPOP k 0
    a! ECHO behind
    b: RPUSH k 1
    a~ BLMOVE k d LEFT RIGHT 0
    b: MULTI
    b: RPUSH k 2
    b: EXEC
    a~ BLPOP k 0
    b: CLIENT UNBLOCK {a}
    a: BLPOP k 0.001
"""
SECRETS = """
    m: MONITOR
    a: AUTH secret
    a: AUTH default secret
    a: HELLO 2 AUTH default secret
    a: HELLO 3
    a: HELLO 2 SETNAME me
    a: CONFIG SET masterauth secret
    a: CONFIG SET requirepass ""
    a: ECHO after
"""
MONITORS = """
    m: MONITOR
    m! MONITOR
    m: GET k
    m: SET k v
    m: PING
    m: CLIENT GETNAME
    n: MONITOR
    a: SET k v
    m: RESET
    m: GET k
    a: SET k w
    n: QUIT
    a: GET k
    m: MONITOR x
    m: MONITOR
    m: SUBSCRIBE room
    a: PUBLISH room hello
    m: UNSUBSCRIBE room
    * close m
    a: GET k
    a: MULTI
    a: MONITOR
    a: EXEC
"""


# A monitor is to Redis a replica of a kind: whatever may have to go to replicas is not for it.
REFUSED = """
    m: MONITOR
    n: MONITOR
    m: PUBLISH room x
    m: SPUBLISH room x
    m: EVAL "return 1" 0
    m: EVALSHA x 0
    m: EVAL_RO "return 1" 0
    m: SCRIPT LOAD "return 1"
    a: PUBLISH room x
    b: EXEC
    b: MULTI
    b: EXEC x
    c: SUBSCRIBE room
    c: EXEC
    a: QUIT
    n: QUIT
"""


@pytest.mark.parametrize(
    "script",
    [SEEN, WAITING, SECRETS, MONITORS, REFUSED],
    ids=["seen", "waiting", "secrets", "monitors", "refused"],
)
def test_monitor(pair: Pair, script: str):
    """Who monitors sees the oracle's lines: the words as they were said, the database, by whom."""
    converse(pair, script, databases=(), rules=anything_to_hello)


def anything_to_hello(words: Words, ours: Reply, oracle: Reply) -> bool:
    """Versions and ids are each server's own."""
    return words[0].upper() == b"HELLO" and ours.kind == oracle.kind and not ours.is_error


def test_monitored_scripts(pair: Pair):
    """What a script calls is shown as said by lua, behind the script."""
    converse(
        pair,
        """
        m: MONITOR
        a: SELECT 2
        a: EVAL "redis.call('SET', KEYS[1], ARGV[1]) return redis.call('GET', KEYS[1])" 1 k "a b"
        a: EVAL "return redis.pcall('NOSUCH')" 0
        a: MULTI
        a: EVAL "return redis.call('PING')" 0
        a: EXEC
        """,
        rules=lambda words, ours, oracle: words[0] == b"EVAL" and ours.is_error and oracle.is_error,
    )


# --- SLOWLOG -------------------------------------------------------------------------------------------------------------------------


def slowlog(client: RawClient, count: int = -1) -> list[tuple[list[bytes], bool, bytes]]:
    """Return the words of what was slow, whether by this client, and under which name; the numbers must fall one by one."""
    entries = client.call("SLOWLOG", "GET", count).plain()
    assert all(len(entry) == 6 for entry in entries)
    numbers = [entry[0] for entry in entries]
    assert numbers == list(range(numbers[0], numbers[0] - len(numbers), -1)) if numbers else True
    assert all(abs(entry[1] - time.time()) < 60 and 0 <= entry[2] < 10_000_000 for entry in entries)
    mine = "{}:{}".format(*client.socket.getsockname()).encode()
    return [(words, address == mine, name) for _, _, _, words, address, name in entries]


SLOW = r"""
    CLIENT SETNAME slow
    CONFIG SET slowlog-max-len 200
    CONFIG SET slowlog-log-slower-than 0
    SLOWLOG RESET
    SLOWLOG LEN
    GET k
    get "\x00\xff"
    SET k <127>
    SET k <128>
    SET k <129>
    SET k <1000>
    RPUSH l 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29
    RPUSH l 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30
    RPUSH l 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31
    RPUSH l 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36
    NOSUCH
    GET
    LPUSH k x
    MULTI
    SET k v
    GET k
    EXEC
    MULTI
    SET k 1
    SET k 2
    SET k 3
    SET k 4
    SET k 5
    EXEC
    MULTI
    DISCARD
    AUTH secret
    AUTH default secret
    CONFIG SET masterauth secret
    CONFIG SET primaryauth secret
    CONFIG SET requirepass ""
    HELLO 3 AUTH default secret
    BLPOP none 0.001
    DEBUG SLEEP 0
    CLIENT SETNAME other
    PING
    SLOWLOG LEN
    SLOWLOG HELP
    CONFIG SET slowlog-log-slower-than -1
    PING
    CONFIG SET slowlog-log-slower-than 1000000
    PING
"""


SHORTER = (
    "CONFIG SET slowlog-max-len 4",
    "CONFIG SET slowlog-log-slower-than 0\nECHO last",
    "CONFIG SET slowlog-max-len 0",
    "PING",
    "CONFIG SET slowlog-max-len 2",
    "SLOWLOG RESET",
)


def test_slowlog(pair: Pair):
    """What takes longer than the setting is kept, newest first: its words cut short, without secrets, and who said them."""
    both = pair.fresh()
    with both[0], both[1]:
        for client in both:
            for line in lines_of(SLOW):
                client.call(*line_words(line))
        ours, oracle = (slowlog(client) for client in both)
        assert len(oracle) > 25
        for mine, its in zip(ours, oracle, strict=True):
            assert mine == its
        assert [slowlog(client, 3) for client in both] == [ours[:3]] * 2
        for lines in SHORTER:
            for client in both:
                for line in lines_of(lines):
                    client.call(*line_words(line))
            ours, oracle = (slowlog(client) for client in both)
            assert ours == oracle, lines
        for client in both:
            client.call("CONFIG", "SET", "slowlog-log-slower-than", -1)


def test_slow_is_slow(ours: Server):
    """Only what takes as long as the setting says is kept, with the time it took."""
    client = ours.client()
    client.call("CONFIG", "SET", "slowlog-log-slower-than", 20_000)
    client.call("SLOWLOG", "RESET")
    client.pipeline([("PING",), ("DEBUG", "SLEEP", "0.03"), ("PING",)])
    (entry,) = client.call("SLOWLOG", "GET").plain()

    assert [b"DEBUG", b"SLEEP", b"0.03"] == entry[3]
    assert 30_000 <= entry[2] < 5_000_000


def test_words(pair: Pair):
    """The subcommands and their errors."""
    pair.run(
        """
        CONFIG SET slowlog-log-slower-than -1
        SLOWLOG RESET
        SLOWLOG GET
        SLOWLOG GET 0
        SLOWLOG GET -1
        SLOWLOG GET -2
        SLOWLOG GET a
        SLOWLOG GET 1 2
        SLOWLOG LEN x
        SLOWLOG RESET x
        SLOWLOG NOSUCH
        SLOWLOG
        CONFIG SET latency-monitor-threshold 0
        CLIENT PAUSE
        CLIENT PAUSE a
        CLIENT PAUSE 1.5
        CLIENT PAUSE -1
        CLIENT PAUSE 9223372036854775807
        CLIENT PAUSE 9223372036854775808
        CLIENT PAUSE 10 FOO
        CLIENT PAUSE a FOO
        CLIENT PAUSE 0
        CLIENT PAUSE 0 WRITE
        CLIENT PAUSE 0 all
        CLIENT PAUSE 1 WRITE x
        CLIENT PAUSE 1 FOO x
        CLIENT PAUSE 1 WRITE WRITE WRITE
        CLIENT PAUSE a FOO x
        slowlog get 1 2
        Slowlog Get 1 2 3
        CLIENT PAUSE 5
        CLIENT PAUSE 5 write
        CLIENT UNPAUSE
        CLIENT UNPAUSE
        CLIENT UNPAUSE x
        """
    )


# --- INFO commandstats and errorstats ---------------------------------------------------------------------------------------------------

# What the test's own connections call; and the error of who is unblocked, which the oracle books on who unblocks.
OWN = {
    b"cmdstat_ping", b"cmdstat_client|list", b"cmdstat_info", b"cmdstat_client|id", b"cmdstat_hello", b"cmdstat_client|unblock",
}  # fmt: skip
_CALLS = re.compile(rb"calls=(\d+),usec=\d+,usec_per_call=\d+\.\d\d,rejected_calls=(\d+),failed_calls=(\d+)")


def stats(client: RawClient) -> tuple[dict[bytes, tuple[int, ...]], dict[bytes, bytes]]:
    """Return what was called how often, was rejected and failed; and the errors by their first word."""
    text = client.call("INFO", "commandstats", "errorstats").value
    lines = dict(line.split(b":", 1) for line in text.splitlines() if b":" in line and not line.startswith(b"txt"))
    calls = {}
    for name, value in lines.items():
        if name.startswith(b"cmdstat_") and name not in OWN:
            found = _CALLS.fullmatch(value)
            assert found, (name, value)
            calls[name] = tuple(map(int, found.groups()))
    return calls, {name: value for name, value in lines.items() if name.startswith(b"errorstat_")}


COUNTED = """
    a: SET k v
    a: set k v
    a: GET k
    a: GET
    a: LPUSH k x
    a: INCR k
    a: NOSUCH
    a: CONFIG GET nosuch
    a: CONFIG NOSUCH
    a: CONFIG
    a: OBJECT ENCODING k
    a: OBJECT ENCODING
    a: CLIENT GETNAME
    a: MULTI
    a: SET k 1
    a: LPUSH k 1
    a: EXEC
    a: MULTI
    a: SET k 2
    a: GET
    a: EXEC
    a: MULTI
    a: SET k 3
    a: DISCARD
    a: EXEC
    a: SETEX k 0 v
    a: WATCH k
    b: SET k 1
    a: MULTI
    a: EXEC
    b: BLPOP none 0.001
    b~ BLPOP l 0
    a: RPUSH l 1 2
    b~ BLMOVE x y LEFT RIGHT 0
    a: CLIENT UNBLOCK {b} ERROR
    b~ BLMOVE x k LEFT RIGHT 0
    a: RPUSH x 1
    b~ BLPOP z 0
    a: RPUSH z 1
    a: XGROUP CREATE k g $
    a: AUTH a b
    a: AUTH secret
    b: SUBSCRIBE room
    b: UNSUBSCRIBE
    a: DEBUG NOSUCH
    a: SELECT 99
"""


def test_counted(pair: Pair):
    """Every command is counted under its name as run, rejected or failed, every error under its code."""
    with Talk(pair) as talk:
        talk.run(["a: CONFIG RESETSTAT", *lines_of(COUNTED)])
        ours, oracle = (stats(client) for client in pair.clients())
        assert len(oracle[0]) > 15
        assert ours == oracle
        talk.run(["a: CONFIG RESETSTAT", "a: GET k"])
        ours, oracle = (stats(client) for client in pair.clients())
        assert ours == oracle


COUNTED_SCRIPTS = [
    "redis.call('SET', 'j', 1) return redis.call('INCR', 'j')",
    "return redis.pcall('LPUSH', 'k', 1)",
    "redis.pcall('LPUSH', 'k', 1) return 1",
    "return redis.call('LPUSH', 'k', 1)",
    "local ok, e = pcall(redis.call, 'LPUSH', 'k', 1) return e",
    "local e = redis.pcall('LPUSH', 'k', 1) error(e)",
    "local e = redis.pcall('LPUSH', 'k', 1) return {err=e.err}",
    "return redis.call('NOSUCH')",
    "redis.pcall('NOSUCH') return 1",
    "return redis.call('GET')",
    "redis.pcall('GET') return 1",
    "redis.pcall('SUBSCRIBE', 'x') return 1",
    "redis.pcall('EVAL', 'return 1', 0) return 1",
    "redis.pcall('CONFIG', 'GET', 'x') return 1",
    "redis.pcall('OBJECT', 'NOSUCH', 'x') return 1",
    "redis.pcall() return 1",
    "return redis.pcall()",
    "return redis.pcall({})",
    "return redis.error_reply('MINE own')",
    "return {err='MY own'}",
    "return {err='MY own', ignore_error_stats_update=true}",
    "error('boom')",
    "error({err='MY boom'})",
    "error({err='MY boom', ignore_error_stats_update=true})",
    "no lua (",
]


def test_counted_scripts(pair: Pair):
    """What a script calls is counted as well, and an error once: where the command was refused, whether or not the script catches it."""
    for script in COUNTED_SCRIPTS:
        for client in pair.clients():
            client.pipeline([[b"CONFIG", b"RESETSTAT"], [b"SET", b"k", b"v"], [b"EVAL", script.encode(), b"0"]])
        ours, oracle = (stats(client) for client in pair.clients())
        assert ours == oracle, script
    transaction = [[b"MULTI"], *([b"EVAL", script.encode(), b"0"] for script in COUNTED_SCRIPTS), [b"EXEC"]]
    for client in pair.clients():
        client.pipeline([[b"CONFIG", b"RESETSTAT"], [b"SET", b"k", b"v"], *transaction])
    ours, oracle = (stats(client) for client in pair.clients())
    assert len(oracle[1]) > 3
    assert ours == oracle


# --- CLIENT PAUSE --------------------------------------------------------------------------------------------------------------------

WRITES_PAUSED = r"""
    a: SET k v
    a: RPUSH l 1
    l: SCRIPT LOAD "#!lua flags=no-writes\nreturn 1"
    l: SCRIPT LOAD "return 2"
    e: MULTI
    e: SET k e
    g: MULTI
    g: GET k
    h: MULTI
    h: EVAL "#!lua flags=no-writes\nreturn 12" 0
    h: GET k
    w~ BLPOP waits 0
    p: CLIENT PAUSE 100000 WRITE
    a: GET k
    a: PING
    b~ SET k w
    c~ INCR n
    d~ PUBLISH room x
    e~ EXEC
    f~ BLPOP l 0
    g: EXEC
    h: EXEC
    i~ FLUSHALL
    j: SUBSCRIBE room
    o~ DEL k
    o! SET after 1
    a: NOSUCH
    a: SET
    a: DBSIZE
    s: MULTI
    s: GET k
    s~ SET k s
    l: SCRIPT LOAD "return 7"
    l: EVAL "#!lua flags=no-writes\nreturn 3" 0
    l: EVAL "#!lua flags=allow-oom,no-writes\nreturn 3" 1 k
    l: EVALSHA 77f21361171213377cb083e2ffc2ae24ffdff8fb 0
    l: EVAL_RO "return redis.call('get', 'k')" 0
    l: EVAL "#!lua flags=no-writes\nreturn redis.call('set', 'k', 'v')" 0
    l: EVAL "#!lua flags=no-writes\nreturn 3"
    t~ EVAL "#!lua\nreturn 3" 0
    u~ EVAL "return 3" 0
    v~ EVAL "#!lua flags=nonsense\nreturn 3" 0
    x~ EVALSHA 7f923f79fe76194c868d7e1d0820de36700eb649 0
    y~ EVALSHA nosuch 0
    z~ EVAL "#!lua flags=no-writes return 3" 0
    p: CLIENT UNBLOCK {b}
    p: CLIENT KILL ID {c}
    a: GET k
    p: CLIENT UNPAUSE
    a: GET k
    s: EXEC
    a: EXISTS n
    a: CLIENT PAUSE 100000 WRITE
    p: CLIENT PAUSE 100000 WRITE
    q~ RPUSH waits 1
    p: CLIENT UNPAUSE
    p: GET k
"""


@pytest.fixture
def pausing(pair: Pair) -> Iterator[Pair]:
    """Let both servers go on after the test, whatever became of it."""
    yield pair
    for client in pair.clients():
        client.call("CLIENT", "UNPAUSE")


def test_writes_paused(pausing: Pair):
    """While writes are paused, whatever writes or is sent on waits, and everything else goes on; then all go on in order."""
    converse(pausing, WRITES_PAUSED)


def test_pause_ends_in_time(pair: Pair):
    """What is paused goes on when the time is up, or has been set to nothing; reads and writes wait, or writes alone."""
    for server in (pair.oracle, pair.ours):
        with server.connect(pair.protocol) as client, server.connect(pair.protocol) as other:
            for mode, waits in ((("WRITE",), ("SET", "k", "v")), ((), ("PING",)), (("ALL",), ("GET", "k"))):
                begun = time.monotonic()
                assert client.call("CLIENT", "PAUSE", 60, *mode).value == b"OK"
                if mode == ("WRITE",):
                    assert other.call("GET", "k").value is None
                other.send(pack(waits) + pack(("ECHO", "behind")))
                reply = other.read()[0]
                assert not reply.is_error, show(reply)
                assert other.read()[0].value == b"behind"
                assert 0.055 < time.monotonic() - begun < 5


PAUSED_TWICE = """
    p: CLIENT PAUSE 100000 WRITE
    a~ SET k v
    p: CLIENT PAUSE 1 WRITE
    b~ SET k v
    c: PING
    p: MULTI
    p: CLIENT UNPAUSE
    p: CLIENT PAUSE 100000 WRITE
    p: EXEC
    c~ SET k v
    * close c
    p: CLIENT UNPAUSE
    a: GET k
"""


def test_paused_twice(pausing: Pair):
    """A second pause does not make the first one shorter."""
    converse(pausing, PAUSED_TWICE)
