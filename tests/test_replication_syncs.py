"""How a replica comes to have what its primary has: the handshake, snapshots, the log from where it ended, and every way to fail there.

Law of all: whatever is cut, killed, stopped or lost, once the link is good again both have the same, and no snapshot is sent where the
log would do.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lmdbredis import wal
from lmdbredis.check import check
from lmdbredis.snapshots import ReadOnly
from tests.client import RawClient, pack
from tests.crash import Load, dump
from tests.replicas import (
    BUSY,
    Family,
    check_same,
    client_role,
    control,
    digest,
    follow,
    info,
    is_linked,
    lead,
    offset,
    start_together,
    wait_for,
    wait_in_step,
)
from tests.servers import Lmdbredis
from tests.test_digest import VALUES
from tests.test_replication import run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import Server


@pytest.fixture(scope="module")
def together() -> Iterator[Family]:
    with Family(1) as family:
        yield family


@pytest.fixture
def family(together: Family) -> Iterator[Family]:
    """A primary and a replica in step; after the test they are again."""
    yield together
    together.mend()


FILE_BYTES_MAX = 1 << 20  # of a replica that has no room


def fill(server: Server, keys: int = 300, size_bytes: int = 500) -> None:
    """Write some keys of random bytes."""
    chance = random.Random(keys)
    server.client().pipeline([("SET", f"fill{number}", chance.randbytes(size_bytes)) for number in range(keys)])


def log_of(server: Server) -> str:
    """Return what a server has logged."""
    return server.log_path.read_text()


# --- the handshake ------------------------------------------------------------------------------------------------------------------

STRANGER = b"ERR This server ships its log, which only replicas of its own kind can read: they say so with REPLCONF capa lmdbredis"


def test_strangers(family: Family):
    """Who cannot read this server's log does not get it, whatever he says; a replica's words are refused in a transaction."""
    with family.primary.connect() as client:
        for words in (("PSYNC", "?", -1), ("SYNC",), ("REPLCONF", "capa", "eof", "capa", "psync2"), ("PSYNC", "?", -1)):
            reply = client.call(*words)
            assert reply.value == (b"OK" if words[0] == "REPLCONF" else STRANGER)
        client.call("MULTI")
        assert client.call("PSYNC", "?", -1).value == b"ERR Command 'psync' not allowed inside a transaction"
        assert client.call("EXEC").value.startswith(b"EXECABORT")
        for words in (("PSYNC", "?"), ("PSYNC", "?", "x"), ("PSYNC", "?", -1, "x"), ("REPLCONF", "nonsense", 1)):
            assert client.call(*words).is_error
        assert client.call("EVAL", "return redis.pcall('PSYNC', '?', '-1').err", 0).value
        assert client.call("PING").value == b"PONG"
        assert len(client_role(client)[2]) == 1, "who only says something is no replica"


@pytest.mark.parametrize(
    "words",
    [
        ("?", -1), ("?", 0), ("0" * 40, 5), ("{replid}", -1), ("{replid}", 1 << 62), ("{replid}", "{end}"), ("{replid}", "{end}", 0, "{end}", 0),
        ("{replid}", "{end}", 1 << 62, "{end}", 0), ("{replid}", "{end}", -5, -5, -5), ("{replid}", 7, 0, 7, 0),
    ],
)  # fmt: skip
def test_whatever_is_asked_gets_a_snapshot(words: tuple, family: Family):
    """A replica that names another history, no place in the log, or another record at its end, gets a snapshot."""
    client = control(family.primary)
    named = {"replid": info(client)["master_replid"], "end": offset(client)}
    with family.primary.connect() as replica:
        replica.call("REPLCONF", "listening-port", 5, "capa", "lmdbredis")
        replica.send(pack(("PSYNC", *(str(word).format(**named) for word in words))))
        while replica.buffer.count(b"\r\n") < 1:
            _receive(replica)
        assert bytes(replica.buffer).startswith(b"+FULLRESYNC " + named["replid"].encode())
        wait_for(lambda: len(client_role(client)[2]) == 2, "it to be a replica")
    wait_for(lambda: len(client_role(client)[2]) == 1, "it to be gone")


@pytest.mark.parametrize("policy", ["everysec", "always"])
def test_asked_in_one_piece(policy: str):
    """Who does not wait for the answers to what comes before PSYNC gets them before the log, also where they wait for a sync."""
    with Lmdbredis("--appendfsync", policy) as server, server.connect() as replica:
        replica.send(pack(("SET", "k", "v")) + pack(("REPLCONF", "capa", "lmdbredis")) + pack(("PSYNC", "?", -1)))
        while replica.buffer.count(b"\r\n") < 3:
            _receive(replica)
        assert bytes(replica.buffer).startswith(b"+OK\r\n+OK\r\n+FULLRESYNC ")


def _receive(client: RawClient) -> None:
    """Wait for more bytes, which no reply has to end."""
    client._receive()


def test_garbage_from_a_primary(tmp_path: Path):
    """A replica whose primary answers nonsense stays what it is, serves what it has, and tries again."""
    import socket
    import threading

    answers = [
        b"-ERR no\r\n", b"+PONG\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+CONTINUE\r\nno record of any log at all, but long enough for one",
        b"+PONG\r\n+OK\r\n+OK\r\n+OK\r\n+FULLRESYNC a b c d\r\n", b"+PONG\r\n+OK\r\n+OK\r\n+OK\r\n+FULLRESYNC " + b"a" * 40 + b" 100 " + b"0" * 40 + b" 0\r\n$x\r\n",
        b"+PONG\r\n+OK\r\n+OK\r\n+OK\r\n+FULLRESYNC " + b"a" * 40 + b" 100 " + b"0" * 40 + b" 0\r\n$16\r\n" + b"x" * 16 + b"$8192\r\n" + b"y" * 8192,
        b"\r\n" * 10, b"x" * (2 << 20),
    ]  # fmt: skip
    given = []
    with socket.create_server(("127.0.0.1", 0)) as listener, Lmdbredis() as server:
        listener.settimeout(10)

        def answer() -> None:
            for number in range(len(answers)):
                with listener.accept()[0] as one:
                    one.settimeout(0.2)
                    one.recv(100)
                    one.sendall(answers[number])
                    given.append(number)
                    try:
                        while one.recv(4096):
                            pass
                    except OSError:
                        pass

        thread = threading.Thread(target=answer)
        server.client().call("SET", "k", "v")
        thread.start()
        follow(server, listener.getsockname()[1])
        wait_for(lambda: len(given) == len(answers), "all the nonsense to be told")
        thread.join()
        assert server.client().call("GET", "k").value == b"v"
        lead(server)
        assert server.client().call("SET", "k", "w").value == b"OK"
        assert server.client().call("DEBUG", "CHECK").value == b"OK"
        assert "Traceback" not in log_of(server)


def test_passwords():
    """A replica with a wrong password or none is told so and tries again; with the right one it comes in. Its primary need not be asked twice."""
    with Lmdbredis(*BUSY, "--requirepass", "secret") as primary, Lmdbredis(*BUSY) as replica:
        client = replica.client()
        for password, said in (("", "NOAUTH"), ("wrong", "WRONGPASS")):
            client.call("CONFIG", "SET", "masterauth", password)
            follow(replica, primary.port)
            wait_for(lambda said=said: said in log_of(replica), f"{said} in the log")
            assert not is_linked(client)
            assert info(client)["master_link_status"] == "down"
            lead(replica)
        client.call("CONFIG", "SET", "masterauth", "secret")
        follow(replica, primary.port)
        wait_for(lambda: is_linked(client), "the link")


def test_a_replica_without_a_primary_feeds_nobody():
    """A replica whose own link is down sends who wants to copy it away, until it is up."""
    with Family(1) as family, Lmdbredis(*BUSY) as grandchild:
        family.proxy.cut()
        wait_for(lambda: not is_linked(control(family.replica)), "the link to be down")
        follow(grandchild, family.replica.port)
        wait_for(lambda: "NOMASTERLINK" in log_of(grandchild), "it to be sent away")
        family.proxy.heal()
        wait_in_step(family.primary, family.replica, grandchild)


# --- snapshots --------------------------------------------------------------------------------------------------------------------


def test_full_sync_while_it_is_served(tmp_path: Path):
    """A server with data of its own becomes a replica: it serves the old data while the new comes, then the new; its clients stay."""
    with Lmdbredis(*BUSY) as primary, Family(1) as other:
        for lines in VALUES.values():
            run(primary.client(), lines)
        fill(primary, 3000)
        server, proxy = other.replica, other.proxy
        run(other.primary.client(), "SET old v\nSELECT 2\nSET old two\nXADD x 1-1 f v")
        other.check()
        with server.connect() as client, server.connect() as reader, server.connect() as listener:
            run(client, "SELECT 2\nWATCH old")
            listener.call("SUBSCRIBE", "c")
            reader.send(pack(("XREAD", "BLOCK", 0, "STREAMS", "stream", "nothing", "1-1", "$")))
            proxy.target_port = primary.port
            proxy.slow(300_000)
            proxy.cut_once()
            proxy.slow(300_000)
            wait_for(lambda: info(control(server))["master_sync_in_progress"] == "1", "the snapshot to come")
            assert client.call("GET", "old").value == b"two"
            assert client.call("SET", "old", "v").value.startswith(b"READONLY")
            assert client_role(control(server))[3] == b"sync"
            wait_for(
                lambda: int(info(control(server))["master_sync_total_bytes"]) > 1_000_000, "the size of the snapshot"
            )
            control(server).call("CONFIG", "SET", "replica-serve-stale-data", "no")
            assert client.call("GET", "old").value.startswith(b"MASTERDOWN")
            assert control(server).call("INFO").kind == "="
            control(server).call("CONFIG", "SET", "replica-serve-stale-data", "yes")
            run(primary.client(), "SELECT 2\nSET new two\nSELECT 0")
            proxy.heal()
            check_same(primary, server)
            assert client.call("GET", "old").value is None
            assert client.call("GET", "new").value == b"two"
            run(client, "MULTI\nGET new")
            assert client.call("EXEC").value is None, "what it watched is another key now"
            # The stream that it waits for came with the snapshot.
            assert reader.read()[0].plain()[0][0] == b"stream"
            server.client().call("PUBLISH", "c", "m")
            assert listener.read()[0].plain() == [b"message", b"c", b"m"]
        other.primary.drop_clients()


def test_stale_data(family: Family):
    """With replica-serve-stale-data no, a replica without its primary answers MASTERDOWN to what reads, and serves again when it is back."""
    run(family.primary.client(), "SET k v")
    family.wait()
    replica = family.replica.client()
    run(replica, "CONFIG SET replica-serve-stale-data no")
    assert replica.call("GET", "k").value == b"v"
    other = control(family.replica)
    run(other, "MULTI\nGET k")
    family.proxy.cut()
    down = b"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."
    wait_for(lambda: replica.call("GET", "k").value == down, "reads to be refused")
    for words in (("PING",), ("EVAL", "return redis.call('GET','k')", 0), ("EVAL_RO", "return 1", 0), ("KEYS", "*")):
        assert replica.call(*words).value == down, words
    assert replica.call("SET", "k", "v").value.startswith((b"MASTERDOWN", b"READONLY"))
    allows = "#!lua flags=allow-stale,no-writes\nreturn "
    assert replica.call("EVAL", allows + "redis.call('TIME')[1]", 0).kind == "$"
    assert replica.call("EVAL", allows + "redis.call('GET','k')", 0).is_error
    run(replica, "INFO\nROLE\nCONFIG GET save\nMULTI")
    assert replica.call("GET", "k").value == down
    assert replica.call("EXEC").value.startswith(b"EXECABORT")
    assert other.call("EXEC").value == b"EXECABORT Transaction discarded because of: " + down
    family.proxy.heal()
    wait_for(lambda: replica.call("GET", "k").value == b"v", "reads to be served")
    run(replica, "CONFIG SET replica-serve-stale-data yes")


def test_a_snapshot_under_way_stands_still(tmp_path: Path):
    """What has been sent, and not been received yet, is as it was, whatever is written over the snapshot's pages meanwhile."""
    with Lmdbredis("--checkpoint-interval", "1") as server, server.connect() as client, server.connect() as replica:
        fill(server)
        client.call("SAVE")
        expected = client.call("GET", "fill0").value
        replica.call("REPLCONF", "capa", "lmdbredis")
        replica.send(pack(("PSYNC", "?", -1)))
        wait_for(lambda: "succeeded" in log_of(server), "all of it to be under way")
        for number in range(20):
            client.pipeline([("SET", f"fill{key}", b"%d" % number * 300) for key in range(300)])
            client.call("SAVE")
        (tmp_path / "data.mdb").write_bytes(_snapshot_that_comes(replica))
    reader = ReadOnly(tmp_path)
    try:
        assert check(reader) == []
        assert dump(reader)[b"fill0"][2] == expected
    finally:
        reader.close()


def _snapshot_that_comes(client: RawClient) -> bytes:
    """Return the pages of data.mdb that a server sends, behind a part of its log."""

    def take(end: int) -> bytes:
        while len(client.buffer) < end:
            _receive(client)
        taken = bytes(client.buffer[:end])
        del client.buffer[:end]
        return taken

    def line() -> bytes:
        while b"\r\n" not in client.buffer:
            _receive(client)
        return take(client.buffer.index(b"\r\n") + 2)

    assert line().startswith(b"+FULLRESYNC")
    take(int(line()[1:]))
    return take(int(line()[1:]))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.95])
def test_cut_in_the_middle_of_a_snapshot(share: float, family: Family):
    """A snapshot that breaks off is thrown away, what was served goes on, and the next one is whole."""
    primary, server = family.primary, family.replica
    run(primary.client(), "FLUSHALL")
    fill(primary, 2000)
    family.wait()
    size = (primary.dir / "data.mdb").stat().st_size
    before = digest(server)
    control(primary).call("DEBUG", "CHANGE-REPL-ID")  # a history that the replica does not know
    full, _ = family.syncs()
    family.proxy.cut_after(1000 + int(size * share))
    assert control(primary).call("CLIENT", "KILL", "TYPE", "replica").value == 1
    wait_for(lambda: family.proxy.is_cut, "the link to break")
    assert before == digest(server)
    family.proxy.heal()
    family.check()
    assert family.syncs()[0] >= full + 1 + (share > 0)
    wait_for(lambda: not (server.dir / "incoming").exists(), "what is left of it to be cleared away")


def test_no_room_for_a_snapshot():
    """A replica whose disk cannot take the snapshot says so before it has come, goes on with what it has, and does not ask all the time."""
    with Family(1) as family:
        primary, replica = family.servers
        lead(replica)
        assert replica.client().call("SET", "own", 1).value == b"OK"  # what it cannot go on with
        fill(primary, 2000, 1000)
        own_bytes = (replica.dir / "data.mdb").stat().st_size
        assert own_bytes < FILE_BYTES_MAX < 2000 * 1000, "its own files have room"
        _limit(replica, FILE_BYTES_MAX)
        follow(replica, family.proxy.port)
        wait_for(lambda: "nothing more can be copied" in log_of(replica), "it to say so")
        assert replica.client().call("GET", "own").value == b"1"
        time.sleep(0.5)  # more than it takes to try again after any other failure
        assert family.syncs()[0] == 1 + 1
        assert info(control(replica))["master_link_status"] == "down"
        _limit(replica, resource.RLIM_INFINITY)
        family.check()
        assert replica.client().call("GET", "own").value is None


def _limit(server: Server, file_bytes_max: int) -> None:
    """Let no file of a server become larger, as if its disk were full."""
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (file_bytes_max, resource.RLIM_INFINITY))


# --- going on where it ended ---------------------------------------------------------------------------------------------------------


def test_no_snapshot_where_the_log_will_do():
    """After a cut, after kill -9 of either side or both, after an orderly restart: the log goes on where the replica's ended."""
    with Family(1) as family:
        primary, replica = family.servers
        fill(primary)
        family.check()
        assert family.syncs() == (1, 0)
        for number in range(2):
            family.proxy.cut()
            fill(primary, 100 + number)
            family.proxy.heal()
            family.check()
        assert family.syncs() == (1, 2)
        replica.kill9()
        fill(primary, 110)
        replica.start()
        family.check()
        replica.restart()
        family.check()
        assert family.syncs() == (1, 4)
        fill(primary, 120)
        primary.kill9()
        primary.start()
        family.check()
        assert family.syncs() == (0, 1), "counted since its start"
        primary.kill9()
        replica.kill9()
        primary.start()
        replica.start()
        family.check()
        primary.restart()
        family.check()
        assert family.syncs() == (0, 1)
        assert not list(replica.dir.glob("diverged*"))


def test_cuts_under_load():
    """Cut anywhere, again and again, slow and fast, under load: nothing is lost, and nothing but the log is sent."""
    chance = random.Random(11)
    with Family(1) as family:
        load = Load(chance)
        load.start(family.primary.port)
        for _ in range(3):
            family.proxy.slow(chance.choice((100_000, 1_000_000, 0)))
            family.proxy.cut_after(chance.randrange(200_000))
            wait_for(lambda: family.proxy.is_cut, "the link to break")
            before = load.acknowledged()
            wait_for(lambda before=before: load.acknowledged() > before + 50, "some writes")
            family.proxy.heal()
        load.stop()
        family.check()
        assert load.verify(family.replica.client()) == []
        full, partial = family.syncs()
        assert full == 1
        assert partial >= 1


@pytest.mark.parametrize("point", ["wal.rotated", "wal.appended", "committed"])
def test_killed_at_a_point(point: str, family: Family):
    """A replica that is killed at a named point of a row's way goes on where its log ended."""
    chance = random.Random(point)
    run(family.primary.client(), "FLUSHALL")
    family.wait()
    full, _ = family.syncs()
    load = Load(chance)
    family.replica.kill9()
    family.replica.env["LMDBREDIS_CRASH_AT"] = f"{point}:{chance.randint(3, 6)}"
    family.replica.start()
    load.start(family.primary.port)
    wait_for(lambda: family.replica.pid is None, "it to end itself")
    load.stop()
    family.replica.kill9()
    family.replica.env.clear()
    family.replica.start()
    family.check()
    assert load.verify(family.replica.client()) == []
    assert family.syncs()[0] == full


# --- what the primary has not any more ------------------------------------------------------------------------------------------------


def cut_log(server: Server, lsn: int) -> None:
    """Let the log of a server that does not run end at `lsn`, as if the rest had never reached its disk."""
    directory = server.dir / "wal"
    bases = wal.segments(directory)
    for base in bases:
        path = wal.segment_path(directory, base)
        if base > lsn:
            path.unlink()
        elif base == max(one for one in bases if one <= lsn):
            size = path.stat().st_size
            os.truncate(path, lsn - base)
            os.truncate(path, size)


@pytest.mark.parametrize("writes_on", [False, True])
def test_a_primary_that_lost_its_tail(writes_on: bool):
    """The history has the same name, but the last record is another, or none: a snapshot comes, and the replica keeps what it had."""
    with Family(1, "--checkpoint-interval", "100000", "--checkpoint-dirty", "1000000") as family:
        primary, replica = family.servers
        fill(primary, 20)
        family.wait()
        kept = offset(control(primary))
        run(primary.client(), "SET lost 1\nRPUSH lost2 a")
        family.wait()
        end = offset(control(replica))
        primary.kill9()
        cut_log(primary, kept)
        primary.options = primary.options[: len(primary.options) - 4]
        family.proxy.cut()
        primary.start()
        assert primary.client().call("EXISTS", "lost").value == 0
        if writes_on:  # beyond where the replica ends
            while offset(control(primary)) < end + 100:
                run(primary.client(), "SET other v")
        family.proxy.heal()
        family.check()
        assert family.syncs() == (1, 0)
        assert replica.client().call("EXISTS", "lost").value == 0
        diverged = list(replica.dir.glob("diverged-*"))
        assert len(diverged) == 1
        assert diverged[0].name in log_of(replica)
        records = list(wal.read(diverged[0] / "wal", kept))
        assert [record.end_lsn for record in records][-1] == end
        run(primary.client(), "SET k v")
        family.check()


def test_a_log_that_does_not_reach_back():
    """What a replica will ask for is kept for repl-timeout after it was lost; after that a snapshot comes, which is no divergence."""
    with Family(1, "--repl-backlog-size", "16kb", "--repl-timeout", "2") as family:
        family.wait()
        family.proxy.cut()
        wait_for(lambda: len(client_role(control(family.primary))[2]) == 0, "it to be lost")
        fill(family.primary, 500)
        family.proxy.heal()
        family.check()
        assert family.syncs() == (1, 1)
        family.proxy.cut()
        first = wal.segments(family.primary.dir / "wal")[0]

        def trimmed() -> bool:
            fill(family.primary, 100)
            return wal.segments(family.primary.dir / "wal")[0] > first + (100 << 10)

        wait_for(trimmed, "the log to be trimmed")
        wait_for(trimmed, "the log to be trimmed beyond what the replica has")
        family.proxy.heal()
        family.check()
        if family.syncs()[0] == 2:
            assert not list(family.replica.dir.glob("diverged*"))
            assert "does not know" not in log_of(family.replica)


# --- installing -------------------------------------------------------------------------------------------------------------------------

INSTALL_POINTS = {"install.sealed": "install.old", "install.old": "install.wal", "install.done": ""}


@pytest.mark.parametrize("point", INSTALL_POINTS)
def test_killed_while_installing(point: str, family: Family):
    """Killed at a point at which a snapshot takes the place of what was there, and again in its start, a server has the new state.

    Every operation of the disk in between is in `test_install`.
    """
    primary = family.primary
    run(primary.client(), "FLUSHALL")
    fill(primary, 400)
    with Lmdbredis(*BUSY) as server:
        run(server.client(), "SET old v\nRPUSH l a b\nSELECT 3\nSET three v")
        server.kill9()
        server.env["LMDBREDIS_CRASH_AT"] = f"{point}:1"
        server.start()
        follow(server, primary.port)
        wait_for(lambda: server.pid is None, "it to end itself")
        server.kill9()
        if INSTALL_POINTS[point]:
            server.env["LMDBREDIS_CRASH_AT"] = f"{INSTALL_POINTS[point]}:1"
            server.start_and_wait(5)
            assert server.pid is None, "it has ended itself again"
            server.kill9()
        server.env.clear()
        server.start()
        assert digest(primary) == digest(server)
        assert control(server).call("DEBUG", "CHECK").value == b"OK"
        assert not (server.dir / "incoming").exists()
        assert not (server.dir / "wal.old").exists()
        run(server.client(), "SET own v")
        follow(server, primary.port)
        check_same(primary, server)


# --- who does not read ---------------------------------------------------------------------------------------------------------------


def memory_bytes(server: Server) -> int:
    """Return how much memory of its own a server has, pages of files not counted."""
    status = Path(f"/proc/{server.pid}/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) << 10


def test_a_replica_that_is_stopped(family: Family):
    """A replica that does not read costs its primary no memory, is cut off at its limit, and comes back when it reads again."""
    primary, replica = family.servers
    run(primary.client(), "FLUSHALL")
    fill(primary, 2000, 2000)
    family.wait()
    control(primary).call("CONFIG", "SET", "client-output-buffer-limit", "replica 4mb 4mb 1")
    before = memory_bytes(primary)
    os.kill(replica.pid, signal.SIGSTOP)
    try:
        for number in range(20):
            fill(primary, 1000 + number, 2000)
        wait_for(lambda: len(client_role(control(primary))[2]) == 0, "it to be cut off")
    finally:
        os.kill(replica.pid, signal.SIGCONT)
    assert memory_bytes(primary) - before < 25 << 20, "forty megabytes were logged meanwhile"
    assert "overcoming of output buffer limits" in log_of(primary)
    assert primary.client().call("PING").value == b"PONG"
    full, _ = family.syncs()
    family.check()
    assert family.syncs()[0] == full


def test_a_link_that_is_silent(family: Family):
    """A link on which nothing comes is cut by both sides after repl-timeout, and made anew."""
    for server in family.servers:
        control(server).call("CONFIG", "SET", "repl-timeout", 2)
    family.wait()
    connections = family.proxy.connections
    family.proxy.stall()
    wait_for(lambda: not is_linked(control(family.replica)), "the replica to see it")
    wait_for(lambda: len(client_role(control(family.primary))[2]) == 0, "the primary to see it")
    family.proxy.heal()
    run(family.primary.client(), "SET k v")
    family.wait()
    assert family.proxy.connections > connections
    for server in family.servers:
        control(server).call("CONFIG", "SET", "repl-timeout", 60)


def test_ten_replicas(family: Family):
    """Ten replicas at once get the same snapshot and the same log, and all come back when their primary does."""
    primary = family.primary
    fill(primary, 2000)
    others = [Lmdbredis(*BUSY, "--replicaof", f"127.0.0.1 {primary.port}") for _ in range(10)]
    load = Load(random.Random(9))
    try:
        load.start(primary.port)
        start_together(*others)
        load.stop()
        check_same(primary, *others, family.replica)
        assert control(primary).call("WAIT", 11, 5000).value == 11
        primary.kill9()
        primary.start()
        load.start(primary.port)
        before = load.acknowledged()
        wait_for(lambda: load.acknowledged() > before + 50, "some writes")
        load.stop()
        check_same(primary, *others, family.replica)
        assert family.syncs() == (0, 11)
    finally:
        load.stop()
        for server in others:
            server.kill9()
            server.stop()
