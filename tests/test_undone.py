"""A batch that is undone did not happen: sessions are what they were before it, and its requests are run again, but for the one that failed.

Also what must not get lost between batches: who waits is served whoever wrote and however that ended; a busy key can be watched; an
element goes to nobody who has gone. Driven by hand on an engine where chance would decide, on a real server where sockets do.
"""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING
from unittest.mock import Mock, call

import lmdb
import pytest

from lmdbredis import wal
from lmdbredis.failover import Failover
from lmdbredis.registry import TABLE, Context, command
from lmdbredis.replication import ONLINE
from lmdbredis.session import Gate, Session, Sessions
from tests.client import pack
from tests.crash import Engine
from tests.servers import Lmdbredis
from tests.several import converse, wait_until
from tests.stores import HeldDisk, killed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.differential import Pair
    from tests.servers import Server

INTERNAL = b"-ERR internal error: RuntimeError. Nothing of this command was kept; the log has the details.\r\n"
SECONDS_MAX = 10.0


class Batches:
    """An engine, its clients, and a command that fails after it has written."""

    def __init__(self, directory: Path) -> None:
        self.engine = Engine(directory)
        self.sessions = Sessions()

    def client(self) -> Session:
        """Return a new client."""
        return self.sessions.open(self.engine.keyspace.databases[0], "test:1", "test:1", 0)

    def run(self, *asked: tuple[Session, str]) -> list[bytes]:
        """Run requests, `;` between them, as one batch; return what each client gets."""
        for session, requests in asked:
            session.requests = [request.encode().split() for request in requests.split("; ")]
            session.output = b""
        self.engine.executor.run([session for session, _ in asked], self.engine.clock_ms * 1000)
        return [session.output for session, _ in asked]


@pytest.fixture
def batches(tmp_path: Path) -> Iterator[Batches]:
    made = Batches(tmp_path / "store")

    @command("BOOM")
    def boom(cx: Context, key: bytes) -> None:
        """BOOM key -- Fails after a write. O(1). Since 1.0.0."""
        cx.db.put_string(key, b"1")
        raise RuntimeError("boom")

    yield made
    del TABLE[b"BOOM"], TABLE[b"boom"]
    assert made.engine.check() == []
    made.engine.close()


def test_quit(batches: Batches):
    """Who quits in a batch that is undone has his requests run all the same."""
    one, other = batches.client(), batches.client()

    assert [b"+OK\r\n+OK\r\n", INTERNAL] == batches.run((one, "SET q 1; QUIT"), (other, "BOOM k"))
    assert [b"$1\r\n1\r\n"] == batches.run((other, "GET q"))


def test_exec(batches: Batches):
    """A transaction whose handler failed is over, and nothing of it is kept."""
    one = batches.client()

    queued = b"+OK\r\n" + 2 * b"+QUEUED\r\n"
    assert [queued + INTERNAL + b"$-1\r\n"] == batches.run((one, "MULTI; SET q 1; BOOM z; EXEC; GET q"))
    assert [b"+PONG\r\n"] == batches.run((one, "PING"))


def test_reply_skip(batches: Batches):
    """CLIENT REPLY SKIP is kept until the next command has had no reply: over a batch that is undone, and one that puts it off."""
    one, other = batches.client(), batches.client()

    assert [b""] == batches.run((one, "CLIENT REPLY SKIP"))
    assert [b"$1\r\nx\r\n", INTERNAL] == batches.run((one, "PING; ECHO x"), (other, "BOOM k"))
    assert [b"+OK\r\n", b""] == batches.run((other, "SET k 1"), (one, "CLIENT REPLY SKIP; WATCH k; ECHO x"))
    assert [b"$1\r\nx\r\n"] == batches.run((one, "WATCH k; ECHO x"))


def test_pause(batches: Batches):
    """A pause that ends in a batch that is undone ends when it is run again; nobody stays held."""
    one, other = batches.client(), batches.client()
    batches.run((other, "CLIENT PAUSE 100000 WRITE"))

    assert [b"+PONG\r\n+OK\r\n", INTERNAL] == batches.run((one, "PING; CLIENT UNPAUSE; SET x 1"), (other, "BOOM k"))
    assert not batches.engine.executor.pauses.is_on
    assert not one.gate & Gate.PAUSED


def test_shutdown(batches: Batches):
    """SHUTDOWN in a batch that is undone ends the server when that is run again, once."""
    one, other = batches.client(), batches.client()
    batches.engine.executor.cx.server = server = Mock()

    assert [b"", INTERNAL] == batches.run((one, "SHUTDOWN NOSAVE"), (other, "BOOM k"))
    assert server.method_calls == [call.shutdown(save=False, now=False)]


def test_failover(batches: Batches):
    """FAILOVER in a batch that is undone begins when that is run again, and is not in its own way."""
    one, other, executor = batches.client(), batches.client(), batches.engine.executor
    executor.cx.server = server = Mock(executor=executor, store=batches.engine.store)
    server.role.following, server.role.failover = None, Failover(server)
    replica = executor.replicas.of(batches.client())
    replica.state, replica.port = ONLINE, 7

    assert [b"+OK\r\n", INTERNAL] == batches.run((one, "FAILOVER"), (other, "BOOM k"))
    assert executor.pauses.is_on
    assert [b"+OK\r\n"] == batches.run((one, "CLIENT PAUSE 100 WRITE"))
    assert [b"+OK\r\n"] == batches.run((one, "CLIENT UNPAUSE"))
    assert executor.pauses.is_on, "what holds writes for the failover is not the client's"
    assert [b"+OK\r\n"] == batches.run((one, "CLIENT PAUSE 100 WRITE"))
    assert [b"+OK\r\n"] == batches.run((one, "FAILOVER ABORT"))
    assert executor.pauses.is_on, "nor the other way round"
    assert [b"+OK\r\n"] == batches.run((one, "CLIENT UNPAUSE"))
    assert not executor.pauses.is_on


def test_a_busy_key_can_be_watched(batches: Batches):
    """WATCH of a key that everybody writes all the time is put off by one batch, not for ever."""
    watcher, writers = batches.client(), [batches.client() for _ in range(6)]
    watcher.requests = [[b"WATCH", b"hot"]]
    for _ in range(3):
        for writer in writers:
            writer.requests = [[b"SET", b"hot", b"v"]]
        batches.engine.executor.run([watcher, *writers], batches.engine.clock_ms * 1000)

    assert not watcher.requests


def test_a_waiting_request_that_fails(batches: Batches, monkeypatch: pytest.MonkeyPatch):
    """If it fails when it is run again, only who waited is told so, and whoever pushed has pushed."""
    waiter, pusher = batches.client(), batches.client()
    batches.run((waiter, "BLPOP k 0"))

    def fails(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(TABLE[b"BLPOP"], "handler", fails)

    assert [b":1\r\n"] == batches.run((pusher, "RPUSH k v"))
    assert waiter.output.startswith(b"-ERR internal error: ZeroDivisionError")
    assert [b":1\r\n"] == batches.run((pusher, "LLEN k"))


FAILING_SCRIPTS = """
    a~ BLPOP x 0
    b: EVAL "redis.call('RPUSH', 'x', '1') return redis.call('NOSUCH')" 0
    a~ BLPOP x 0
    b: EVAL "redis.call('RPUSH', 'x', '2') return redis.error_reply('MINE own')" 0
    a~ BLPOP x y 0
    b: EVAL "redis.call('RPUSH', 'y', '3') error('raised')" 0
    b: EXISTS x y
"""


def test_scripts_that_fail(pair: Pair):
    """What a script wrote before it failed serves who waits, at once."""
    converse(pair, FAILING_SCRIPTS)


@pytest.mark.parametrize("requests", [1, 1500])
def test_who_has_gone_gets_nothing(ours: Server, requests: int):
    """A client that goes while his requests are still to run, one of which waits then, takes no element with him."""
    client = ours.client()
    with socket.create_connection(("127.0.0.1", ours.port)) as gone:
        gone.sendall(pack(("SET", "q", "1")) * requests + pack(("BLPOP", "k", 0)) + pack(("PING",)))
    before = client.call("CLIENT", "LIST").value.count(b"id=")
    wait_until(lambda: client.call("CLIENT", "LIST").value.count(b"cmd=blpop") == 0, f"he is forgotten ({before})")

    deadline = time.monotonic() + SECONDS_MAX
    while client.call("GET", "q").value != b"1":
        assert time.monotonic() < deadline
    assert client.call("RPUSH", "k", "v").value == 1
    assert client.call("LLEN", "k").value == 1


# --- no room ------------------------------------------------------------------------------------------------------------------------


def test_a_full_map():
    """Where the map has no room writes are refused as on a full disk, reads go on, and it is no failure of a command."""
    with Lmdbredis("--map-size", "8mb") as server, server.connect() as client:
        replies = []
        for batch in range(40):
            words = [word for number in range(200) for word in (f"k{batch * 200 + number}", "x" * 1000)]
            replies.append(client.call("MSET", *words))
        replies += client.pipeline([("SET", f"s{number}", "y" * 1000) for number in range(20)])
        refused = [reply for reply in replies if reply.is_error]
        assert len(refused) > 20
        assert all(reply.value.startswith(b"MISCONF") for reply in refused)
        assert client.call("GET", "k1").value == b"x" * 1000
        assert client.call("DEBUG", "CHECK").value == b"OK"
        assert "Traceback" not in server.log_path.read_text()


def test_a_copy_without_room_whose_readers_wait(tmp_path: Path):
    """A reader that waits is tried on a copy whose commit fails for want of room: the copy goes on, and he is served later."""
    primary = Engine(tmp_path / "primary")
    primary.run([b"XADD", b"s", b"1-1", b"a", b"b"])
    disk = HeldDisk()
    copy = Engine(killed(tmp_path / "primary", tmp_path / "copy"), disk)
    copy.store.is_copy = True
    copy.executor.look()
    begin_lsn = copy.store.wal.end_lsn
    assert copy.run([b"XREAD", b"BLOCK", b"0", b"STREAMS", b"s", b"$"]) == []

    def follow(entry: bytes) -> None:
        primary.run([b"XADD", b"s", entry, b"a", b"b"])
        records = wal.read(tmp_path / "primary" / "wal", copy.store.wal.end_lsn)
        copy.executor.follow(list(records), copy.clock_ms * 1000)

    disk.commits.clear()
    disk.commits_fail = lmdb.DiskError("no room, says the test")
    copy.store.dirty_rows = 1
    copy.store.begin_commit()
    threading.Timer(0.05, disk.commits.set).start()
    follow(b"2-1")
    assert copy.store.wal.end_lsn > begin_lsn
    assert copy.executor.refusal is not None
    disk.commits_fail = None
    follow(b"3-1")
    heard, _ = copy.executor.take_heard()
    faults = copy.check()
    primary.close()
    copy.close(checkpoint=False)

    assert [b"2-1" in session.output and b"3-1" in session.output for session in heard] == [True]
    assert faults == []
