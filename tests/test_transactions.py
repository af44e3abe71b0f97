"""Transactions against the oracle: MULTI EXEC DISCARD WATCH UNWATCH, several clients, and crashes.

Law: an EXEC is there whole or not at all, in the replies as in the store.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

import pytest

from lmdbredis.errors import EXEC_ABORT, MISCONF_FULL
from tests.crash import Engine, FaultyDisk, whole_or_not_at_all
from tests.differential import compare, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.client import RawClient
    from tests.comparison import Words
    from tests.differential import Pair
    from tests.servers import Server

QUEUES = """
    MULTI
    SET k 1
    INCR k
    GET k
    EXEC
    MULTI
    EXEC
    MULTI
    DISCARD
    EXEC
    DISCARD
    MULTI
    MULTI
    SET k 2
    EXEC
    MULTI
    SET k v
    LPUSH k v
    INCR k
    GET k
    HGETALL h
    EXEC
    EXEC extra
    MULTI extra
"""
REFUSED = """
    MULTI
    SET k v
    NOSUCH x
    EXEC
    GET k
    MULTI
    GET
    EXEC
    MULTI
    SET k v
    WATCH k
    EXEC
    MULTI
    WATCH
    EXEC
    MULTI
    UNWATCH
    EXEC
    MULTI
    EXEC extra
    EXEC
    MULTI
    GET
    DISCARD
    MULTI
    CONFIG NOSUCH
    EXEC
    MULTI
    CONFIG
    EXEC
    MULTI
    CLIENT REPLY ON
    EXEC
    MULTI
    client reply skip
    PING
    EXEC
    MULTI
    PUBSUB CHANNELS a b
    PUBSUB CHANNELS
    EXEC
"""
STATE = """
    MULTI
    SELECT 3
    SET k three
    SELECT 0
    SET k zero
    HGETALL none
    PING
    EXEC
    GET k
    MULTI
    CLIENT SETNAME queued
    CLIENT GETNAME
    EXEC
    MULTI
    SET k v
    RESET
    EXEC
    MULTI
    FLUSHALL
    DBSIZE
    EXEC
"""
# What happens to the watched key `k`, having been made by the first line, and whether EXEC then finds it changed.
STARTS = ["DEL k", "SET k 1", "HSET k f v g w", "RPUSH k a b c", "SADD k a b", "ZADD k 1 a 2 b"]
CHANGES = [
    "GET k", "TYPE k", "SET other x", "SET k 1", "DEL k", "EXPIRE k 100", "PERSIST k", "APPEND k x", "HSET k f other",
    "HSET k f v", "HDEL k f", "HDEL k none", "LSET k 0 z", "LPUSH k x", "LREM k 0 none", "SADD k a", "SADD k z", "SREM k a",
    "ZADD k 1 a", "ZADD k 5 a", "ZADD k 5 new", "RENAME k other", "COPY k other", "MOVE k 1", "FLUSHALL", "FLUSHDB", "SWAPDB 0 1",
    "SWAPDB 1 2", "TOUCH k", "GETEX k", "RPUSHX k x", "LPOP k", "SPOP k 5", "INCR k", "PEXPIREAT k 1",
]  # fmt: skip
STREAM_STARTS = [
    ["XADD k 1-1 f v", "XADD k 2-1 f v", "XGROUP CREATE k g 0"],
    ["XADD k 1-1 f v", "XGROUP CREATE k g 0", "XREADGROUP GROUP g c STREAMS k >", "PEXPIREAT k 99999999999999"],
]
STREAM_CHANGES = [
    "XADD k 9-1 f v", "XADD k NOMKSTREAM 9-1 f v", "XADD k MAXLEN 1 9-1 f v", "XADD k MAXLEN 0 9-1 f v", "XADD k 1-1 f v",
    "XDEL k 1-1", "XDEL k 5-5", "XTRIM k MAXLEN 0", "XTRIM k MAXLEN 1", "XTRIM k MAXLEN 9", "XTRIM k MINID 2",
    "XSETID k 9-1", "XSETID k 9-1 ENTRIESADDED 9 MAXDELETEDID 3-0",
    "XGROUP CREATE k h 0", "XGROUP CREATE k h $ MKSTREAM", "XGROUP CREATE k g 0", "XGROUP DESTROY k g", "XGROUP DESTROY k none",
    "XGROUP SETID k g 0", "XGROUP CREATECONSUMER k g d", "XGROUP DELCONSUMER k g c",
    "XREADGROUP GROUP g c STREAMS k >", "XREADGROUP GROUP g c STREAMS k 0", "XACK k g 1-1", "XCLAIM k g d 0 1-1", "XAUTOCLAIM k g d 0 0",
    "XLEN k", "TYPE k", "TOUCH k", "DEL k", "UNLINK k", "SET k 1", "EXPIRE k 100", "PEXPIREAT k 99999999999999", "PERSIST k",
    "PEXPIREAT k 1", "RENAME k other", "RENAME from k", "COPY k other", "COPY from k", "COPY from k REPLACE", "MOVE k 1",
    "FLUSHALL", "SWAPDB 0 1",
]  # fmt: skip


def talk(pair: Pair, script: str, *, databases: Sequence[int] = (0,)) -> None:
    """Run a script of several clients, each line ``who> command``, one after another; each client has a connection of its own."""
    with contextlib.ExitStack() as stack:
        clients: dict[str, tuple[RawClient, RawClient]] = {}
        history: list[Words] = []
        for line in filter(str.strip, script.splitlines()):
            who, _, said = line.strip().partition("> ")
            if who not in clients:
                clients[who] = pair.fresh()
                for client in clients[who]:
                    stack.enter_context(client)
            compare(pair, said, databases=(), clients=clients[who], history=history)
        compare(pair, "", databases=databases, history=history)


@pytest.mark.parametrize("script", [QUEUES, REFUSED, STATE], ids=["queues", "refused", "state"])
def test_queue(pair: Pair, script: str):
    """What is queued, refused and run, and with which words."""
    talk(pair, "\n".join(f"a> {line.strip()}" for line in script.splitlines() if line.strip()), databases=(0, 3))


@pytest.mark.parametrize("start", STARTS)
def test_watch(pair: Pair, start: str):
    """EXEC is refused if, and only if, a watched key was changed, by anybody, in any way."""
    script = []
    for who in "ab":
        for change in CHANGES:
            script += [
                "c> FLUSHALL", f"c> {start}", "a> WATCH none k", f"{who}> {change}", "a> MULTI", "a> SET done 1", "a> EXEC",
                "c> EXISTS done",
            ]  # fmt: skip
    talk(pair, "\n".join(script), databases=(0, 1))


@pytest.mark.parametrize("start", STREAM_STARTS, ids=["forever", "for a while"])
def test_watch_stream(pair: Pair, start: list[str]):
    """A watched stream is changed by its entries, its expiry and what becomes of its key: not by groups, nor by XSETID."""
    script = []
    for who in "ab":
        for change in STREAM_CHANGES:
            script += ["c> FLUSHALL", "c> XADD from 1-1 a b", *(f"c> {line}" for line in start)]
            script += ["a> WATCH none k", f"{who}> {change}", "a> MULTI", "a> PING", "a> EXEC"]
    talk(pair, "\n".join(script), databases=(0, 1))


def test_watch_stream_in_one_batch(pair: Pair):
    """What a stream's groups went through in the same batch, or a transaction, before or behind WATCH, is no change either."""
    script = []
    for change in ("XGROUP CREATE k h 0", "XSETID k 9-1", "XADD k 9-1 f v", "PEXPIREAT k 99999999999999", "DEL k"):
        for start in STREAM_STARTS:
            script += ["FLUSHALL", *start, change, "WATCH k", "MULTI", "PING", "EXEC"]
            script += ["FLUSHALL", *start, "WATCH k", change, "MULTI", "PING", "EXEC"]
            script += [
                "FLUSHALL",
                *start,
                "MULTI",
                change,
                "EXEC",
                "WATCH k",
                "MULTI",
                change,
                "EXEC",
                "XGROUP CREATE k i 0 MKSTREAM",
            ]
    pair.run(script)


def test_watch_ends(pair: Pair):
    """UNWATCH, DISCARD, EXEC and RESET end it; WATCH may be said again; the other database is another key."""
    talk(
        pair,
        """
        a> WATCH k
        b> SET k 1
        a> UNWATCH
        a> MULTI
        a> PING
        a> EXEC
        a> WATCH k
        a> MULTI
        a> DISCARD
        b> SET k 2
        a> MULTI
        a> PING
        a> EXEC
        a> WATCH k
        b> SET k 3
        a> MULTI
        a> EXEC
        a> MULTI
        a> PING
        a> EXEC
        a> WATCH k
        b> SET k 4
        a> RESET
        a> MULTI
        a> PING
        a> EXEC
        a> WATCH k
        b> SELECT 1
        b> SET k 5
        a> MULTI
        a> PING
        a> EXEC
        a> WATCH k
        a> WATCH other
        b> SET other 1
        a> MULTI
        a> SET k x
        a> EXEC
        a> WATCH k other
        b> SELECT 0
        b> SET k 6
        b> DEL k
        a> WATCH k
        a> MULTI
        a> PING
        a> EXEC
    """,
    )


def test_exec_refused(pair: Pair):
    """An EXEC that is refused ends what was watched, in a transaction and outside of one."""
    script = []
    for refused in ("EXEC zz", "EXEC"):
        for queue in ("", "a> MULTI"):
            script += [
                "a> SET k 1",
                "a> WATCH k",
                "b> SET k 2",
                *filter(None, [queue]),
                f"a> {refused}",
                "a> MULTI",
                "a> PING",
                "a> EXEC",
            ]
    script += ["a> UNWATCH"]
    talk(pair, "\n".join(script))


def test_watch_expiry(pair: Pair):
    """A watched key that expires has changed; one that had expired before has not."""
    talk(
        pair,
        """
        b> SET k 1 PX 500
        a> WATCH k
        b> EXISTS k
        c> DEBUG SLEEP 0.6
        a> MULTI
        a> PING
        a> EXEC
        b> SET k 1 PX 1
        c> DEBUG SLEEP 0.05
        a> WATCH k
        a> MULTI
        a> PING
        a> EXEC
    """,
    )


def test_client_list(ours: Server):
    """CLIENT INFO says how many commands wait, and that a watched key has changed."""
    with ours.connect() as client, ours.connect() as other:
        client.call("WATCH", "k")
        other.call("SET", "k", "v")
        assert b" flags=d " in client.call("CLIENT", "INFO").value
        client.pipeline([("MULTI",), ("PING",), ("PING",)])
        line = next(line for line in other.call("CLIENT", "LIST").value.splitlines() if b" multi=2 " in line)
        assert b" flags=xd " in line


def test_pipelines(pair: Pair):
    """Transactions in one pipeline, with what comes before and after."""
    rows = table("RPUSH l", [str(number) for number in range(20)])
    script = [
        "MULTI",
        *rows,
        "EXEC",
        "LRANGE l 0 -1",
        "MULTI",
        "SET k v",
        "EXEC",
        "GET k",
        "WATCH k",
        "SET k w",
        "MULTI",
        "EXEC",
    ]
    pair.run(script)


def test_all_counters_agree(ours: Server):
    """Clients that count with WATCH, MULTI and EXEC at once lose no step."""
    steps, clients = 60, 4

    def count() -> None:
        with ours.connect() as client:
            done = 0
            while done < steps:
                client.call("WATCH", "counter")
                value = int(client.call("GET", "counter").value or 0)
                client.call("MULTI")
                client.call("SET", "counter", value + 1)
                done += client.call("EXEC").value is not None

    threads = [threading.Thread(target=count) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert b"%d" % (steps * clients) == ours.client().call("GET", "counter").value


# --- the store ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """Return an engine whose disk can fail."""
    disk = FaultyDisk()
    made = Engine(tmp_path / "store", disk)
    yield made
    disk.room_bytes = None
    assert made.check() == []
    made.close()


def test_a_full_disk_refuses_all_of_it(engine: Engine):
    """A transaction that finds no room leaves nothing, and is refused whole; later it goes through."""
    disk = engine.store.disk
    assert isinstance(disk, FaultyDisk)
    engine.run([b"SET", b"k", b"old"])
    queued = engine.run([b"MULTI"], [b"SET", b"k", b"new"], [b"SET", b"l", b"x"])
    disk.room_bytes = 0
    refused, kept = engine.run([b"EXEC"], [b"GET", b"k"])
    late = engine.run([b"MULTI"], [b"SET", b"k", b"v"], [b"EXEC"])

    assert [b"OK", b"QUEUED", b"QUEUED", b"old"] == [reply.value for reply in (*queued, kept)]
    assert f"EXECABORT Transaction discarded because of: {MISCONF_FULL}".encode() == refused.value
    assert [b"OK", MISCONF_FULL.encode(), EXEC_ABORT.encode()] == [reply.value for reply in late]
    disk.room_bytes = None
    for _ in range(300):
        engine.tick(10)
    assert [b"OK", b"OK"] == engine.run([b"MULTI"], [b"SET", b"k", b"new"], [b"SET", b"l", b"x"], [b"EXEC"])[3].plain()


def test_a_failed_batch_gives_everything_back(engine: Engine, monkeypatch: pytest.MonkeyPatch):
    """If a batch is undone, its sessions queue, watch and are stale as before it."""
    disk = engine.store.disk
    assert isinstance(disk, FaultyDisk)
    engine.run([b"WATCH", b"k"], [b"MULTI"], [b"PING"])
    disk.room_bytes = 0
    engine.run([b"PING"], [b"DISCARD"], [b"SET", b"other", b"v"], [b"WATCH", b"z"], [b"MULTI"], [b"PING"])
    disk.room_bytes = None
    session = engine.session
    assert [b"z"] == [key for _, key in session.watched]
    assert [1] == [len(session.queued)]
    del monkeypatch


def test_whole_or_not_at_all(tmp_path: Path):
    """Wherever the log is cut off, a transaction is there with all its keys, or with none."""
    whole_or_not_at_all(
        tmp_path / "store",
        (
            [[b"MULTI"], *([b"SET", b"key%d" % key, b"%d" % number] for key in range(5)), [b"EXEC"]]
            for number in range(30)
        ),
    )


def test_what_others_watch_costs_a_write_nothing(ours: Server):
    """A record is looked up among what is watched, however much that is: a write takes as long as before."""
    with ours.connect() as watcher, ours.connect() as writer:

        def seconds() -> float:
            began = time.perf_counter()
            for n in range(200):
                writer.call("SET", "other", n)
            return time.perf_counter() - began

        alone = min(seconds() for _ in range(3))
        for start in range(0, 20_000, 1000):
            watcher.call("WATCH", *(f"w{n}" for n in range(start, start + 1000)))
        beside = min(seconds() for _ in range(3))
        assert beside < 5 * alone + 0.1, (alone, beside)  # it was 250 times as long
        writer.call("SET", "w19999", "x")
        assert watcher.pipeline([("MULTI",), ("PING",), ("EXEC",)])[-1].value is None


@pytest.mark.parametrize("both", [False, True], ids=["one", "both"])
def test_swapped_with_what_has_expired(pair: Pair, both: bool):
    """A key whose time has come, and that nobody has deleted yet, is none: it comes and goes without a change."""
    pair.run(
        [
            "DEBUG SET-ACTIVE-EXPIRE 0",
            "SET x v PX 1",
            "SELECT 1",
            *(["SET x w PX 1"] if both else []),
            "DEBUG SLEEP 0.01",
            *("WATCH x", "SWAPDB 0 1", "MULTI", "PING", "EXEC"),
            *("WATCH x", "SWAPDB 0 1", "GET x", "MULTI", "PING", "EXEC"),
            "DEBUG SET-ACTIVE-EXPIRE 1",
            "SELECT 0",
        ]
    )
