"""Who waits for copies: WAIT, WAITAOF, synchronous-replicas, min-replicas-to-write, and what was promised when the primary is gone."""

from __future__ import annotations

import random
import shutil
import signal
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.client import Disconnected, pack
from tests.crash import Load
from tests.replicas import Family, control, follow, info, lead, offset, wait_for, wait_in_step
from tests.servers import Lmdbredis
from tests.several import _readable

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def together() -> Iterator[Family]:
    with Family(2) as family:
        yield family


@pytest.fixture
def family(together: Family) -> Iterator[Family]:
    """A primary and two replicas, good links, the configuration of the start."""
    yield together
    for setting in ("synchronous-replicas", "min-replicas-to-write"):
        control(together.primary).call("CONFIG", "SET", setting, 0)
    together.mend()


def stall(family: Family) -> None:
    """Let nothing come to the replicas any more."""
    family.wait()
    for proxy in family.proxies:
        proxy.stall()


def blocked(family: Family) -> int:
    return int(info(control(family.primary), "clients")["blocked_clients"])


# --- WAIT and WAITAOF ---------------------------------------------------------------------------------------------------------------


def test_wait(family: Family):
    """WAIT returns as soon as enough replicas have what was written, and how many have; with a timeout, how many had by then."""
    client = family.primary.client()
    for count in (0, 1, 2):
        client.call("SET", "k", count)
        assert count <= client.call("WAIT", count, 5000).value <= 2
    assert client.call("WAIT", 2, 0).value == 2
    client.call("SET", "k", "v")
    began = time.monotonic()
    assert client.call("WAIT", 3, 80).value == 2
    assert time.monotonic() - began >= 0.08
    family.proxy.stall()
    client.call("SET", "k", "w")
    assert client.call("WAIT", 1, 5000).value == 1
    assert client.call("WAIT", 2, 50).value == 1
    client.send(pack(("WAIT", 2, 0)))
    wait_for(lambda: blocked(family) == 1, "it to wait")
    family.proxy.heal()
    assert client.read()[0].value == 2


def test_copies_of_what_came_in_the_same_piece(family: Family):
    """Who waits for nobody is told how many have what came before in the same piece, too."""
    client = family.primary.client()
    stall(family)
    _, wait, waitaof = client.pipeline([("SET", "k", 1), ("WAIT", 0, 0), ("WAITAOF", 0, 0, 0)])

    assert (wait.value, waitaof.plain()[1]) == (0, 0)


def test_waitaof(family: Family):
    """WAITAOF returns when this server's disk, and those of enough replicas, have what was written."""
    client = family.primary.client()
    for local in (0, 1):
        for count in (0, 1, 2):
            client.call("SET", "k", count)
            found = client.call("WAITAOF", local, count, 5000).plain()
            assert local <= found[0] <= 1
            assert count <= found[1] <= 2
    client.call("SET", "k", "v")
    assert client.call("WAITAOF", 1, 3, 80).plain() == [1, 2]
    stall(family)
    client.call("SET", "k", "w")
    assert client.call("WAITAOF", 1, 1, 50).plain() == [1, 0]
    assert client.call("WAITAOF", 1, 0, 0).plain() == [1, 0]
    client.send(pack(("WAITAOF", 0, 2, 0)))
    wait_for(lambda: blocked(family) == 1, "it to wait")
    for proxy in family.proxies:
        proxy.heal()
    assert client.read()[0].plain()[1] == 2


def test_waiting_in_a_transaction(family: Family):
    """In a transaction, and in a script, nobody waits."""
    client = family.primary.client()
    stall(family)
    client.call("MULTI")
    for words in (("SET", "k", "v"), ("WAIT", 2, 0), ("WAITAOF", 0, 2, 0)):
        client.call(*words)
    replies = client.call("EXEC").plain()
    assert replies[0] == b"OK"
    assert replies[1] in {0, 1, 2}
    assert len(replies[2]) == 2
    assert client.call("EVAL", "return redis.call('WAIT', 2, 0)", 0).value in {0, 1, 2}
    assert client.call("PING").value == b"PONG"


@pytest.mark.parametrize(
    "first",
    [
        [("MULTI",), ("WAITAOF", 1, 0, 0), ("EXEC",)],
        [("EVAL", "return redis.call('WAITAOF', 1, 0, 0)", 0)],
    ],
)
def test_who_does_not_wait_for_copies_is_not_answered_later(first: list[tuple], family: Family):
    """WAIT and WAITAOF in a transaction or script answer at once, and nothing that the client waits for after that."""
    client = family.primary.client()
    client.call("SET", "k", "v")
    client.send(b"".join(pack(words) for words in (*first, ("BLPOP", "no:such", 0.3))))
    replies = [client.read() for _ in range(len(first) + 1)]
    assert replies[-1][1] == b"*-1\r\n", replies


@pytest.mark.parametrize("words", [("WAIT", 2, 0), ("WAITAOF", 0, 2, 0)])
def test_unblocked(words: tuple, family: Family):
    """CLIENT UNBLOCK ends the wait with what is there, or with an error; CLIENT KILL and a close end it, too."""
    stall(family)
    other = control(family.primary)
    other.call("SET", "k", "v")
    for how, expected in (((), 0), (("TIMEOUT",), 0), (("ERROR",), b"UNBLOCKED client unblocked via CLIENT UNBLOCK")):
        with family.primary.connect() as client:
            number = client.call("CLIENT", "ID").value
            client.send(pack(words) + pack(("PING",)))
            wait_for(lambda: blocked(family) == 1, "it to wait")
            assert other.call("CLIENT", "UNBLOCK", number, *how).value == 1
            reply = client.read()[0]
            if reply.is_error:
                assert expected == reply.value
            else:
                assert (reply.plain() if words[0] == "WAIT" else reply.plain()[1]) == expected
            assert client.read()[0].value == b"PONG"
            client.send(pack(words))
            wait_for(lambda: blocked(family) == 1, "it to wait again")
            if how:
                other.call("CLIENT", "KILL", "ID", number)
        wait_for(lambda: blocked(family) == 0, "it to be gone")


def test_waiting_for_one_who_goes(family: Family):
    """Who waits for a replica that is cut off waits on, and is answered when it is back and has everything."""
    client = family.primary.client()
    for proxy in family.proxies:
        proxy.cut()
    client.call("SET", "k", "v")
    client.send(pack(("WAIT", 2, 0)))
    wait_for(lambda: blocked(family) == 1, "it to wait")
    assert not _readable(client, 0)
    for proxy in family.proxies:
        proxy.heal()
    assert client.read()[0].value == 2


def test_a_snapshot_that_has_left_does_not_count(family: Family):
    """Who was sent a snapshot has nothing until he says so, be he asked for by WAIT, min-replicas-to-write or FAILOVER."""
    primary = family.primary
    client = primary.client()
    family.wait()
    for server in family.replicas:
        lead(server)
    wait_for(lambda: info(client)["connected_slaves"] == "0", "the replicas to be gone")
    client.call("SET", "k", "v")
    client.call("CONFIG", "SET", "min-replicas-to-write", 1)
    client.call("SAVE")  # the snapshot has all that was written
    before = primary.log_path.read_text().count("Synchronization with replica")
    with primary.connect() as replica:
        replica.call("REPLCONF", "listening-port", 5, "capa", "lmdbredis")
        replica.send(pack(("PSYNC", "?", -1)))
        wait_for(lambda: primary.log_path.read_text().count("Synchronization with replica") > before, "it to have left")
        assert client.call("WAIT", 1, 50).value == 0
        assert client.call("WAITAOF", 0, 1, 50).plain()[1] == 0
        assert info(client)["min_slaves_good_slaves"] == "0"
        assert "state=online,offset=0," in info(client)["slave0"]
        assert client.call("FAILOVER", "TIMEOUT", 50).value == b"OK"
        wait_for(lambda: info(client)["master_failover_state"] == "no-failover", "it to be over")
        assert client.call("ROLE").plain()[0] == b"master"

        replica.send(pack(("REPLCONF", "ACK", offset(client), "FACK", 0)))
        wait_for(lambda: info(client)["min_slaves_good_slaves"] == "1", "it to be heard")
        wait_for(lambda: client.call("SET", "k", "w").value == b"OK", "writes to be taken")
        replica.send(pack(("REPLCONF", "ACK", offset(client))))
        assert client.call("WAIT", 1, 5000).value >= 1


# --- synchronous replicas -----------------------------------------------------------------------------------------------------------


def test_no_reply_before_the_replica_has_it(family: Family):
    """Under synchronous-replicas a write is answered when so many replicas have it on disk, and not before; order is kept."""
    client = family.primary.client()
    client.call("CONFIG", "SET", "synchronous-replicas", 1)
    replies = client.pipeline([("INCR", "n") for _ in range(100)])
    assert [reply.value for reply in replies] == list(range(1, 101))
    end = offset(client)
    synced = [line for name, line in info(client).items() if name.startswith("slave") and "synced=" in line]
    assert max(int(line.rpartition("synced=")[2].split(",")[0]) for line in synced) >= end - 200
    stall(family)
    with family.primary.connect() as other, family.primary.connect() as third:
        other.send(pack(("INCR", "n")) + pack(("GET", "n")))
        third.send(pack(("GET", "n")))
        assert not _readable(other, 0.15)
        assert not _readable(third, 0), "what it would read may be lost"
        family.proxies[1].heal()
        assert [other.read()[0].value for _ in range(2)] == [101, b"101"]
        assert third.read()[0].value in {b"100", b"101"}


def test_setting_it_to_zero_lets_everybody_go(family: Family):
    """CONFIG SET synchronous-replicas 0 is heard while everybody waits, and ends the waiting."""
    stall(family)
    control(family.primary).call("SET", "k", "before")
    assert control(family.primary).call("CONFIG", "SET", "synchronous-replicas", 2).value == b"OK", "it does not wait"
    with family.primary.connect() as client:
        client.send(pack(("SET", "k", "v")))
        assert not _readable(client, 0.1)
        with family.primary.connect() as other:
            assert other.call("CONFIG", "SET", "synchronous-replicas", 0).value == b"OK"
            assert client.read()[0].value == b"OK"


def test_a_replica_can_come_back(family: Family):
    """While everybody waits for a replica that is gone, it can come back: what servers say to each other does not wait."""
    control(family.primary).call("CONFIG", "SET", "synchronous-replicas", 2)
    family.wait()
    for server in family.replicas:
        server.kill9()
    with family.primary.connect() as client:
        client.send(pack(("SET", "k", "v")))
        assert not _readable(client, 0.1)
        with family.primary.connect() as other:
            assert other.call("PING").value == b"PONG"
            assert other.call("INFO", "replication").value
        for server in family.replicas:
            server.start()
        assert client.read()[0].value == b"OK"


def test_start_with_synchronous_replicas():
    """A primary that starts with synchronous-replicas answers PING, and writes as soon as its first replica has come."""
    with Family(1, of_primary=("--synchronous-replicas", "1")) as family:
        assert family.primary.client().call("SET", "k", "v").value == b"OK"
        assert family.primary.client().call("GET", "k").value == b"v"
        family.check()


def test_acknowledged_writes_survive_the_primary():
    """Under synchronous-replicas 1 a primary is lost with its disk under load, the replica is killed: it has every acknowledged write."""
    with Family(1) as family:
        load = Load(random.Random(3))
        control(family.primary).call("CONFIG", "SET", "synchronous-replicas", 1)
        load.start(family.primary.port)
        wait_for(lambda: load.acknowledged() > 200, "some writes")
        family.primary.kill9()
        family.replica.kill9()
        load.wait()
        shutil.rmtree(family.primary.dir)
        family.replica.start()
        lead(family.replica)
        assert load.verify(family.replica.client()) == []

        # And back: the other server is empty, and copies what is there.
        family.primary.dir.mkdir()
        family.primary.start()
        follow(family.primary, family.replica.port)
        wait_in_step(family.replica, family.primary)
        lead(family.primary)
        assert load.verify(family.primary.client()) == []
        follow(family.replica, family.proxy.port)
        family.check()


def test_who_becomes_a_replica_acknowledges_nothing():
    """Who waits for replicas when his server becomes one is cut off and never told OK; who asks for no data is answered, several requests at once too."""
    with Family(1) as family, family.primary.connect() as client, family.primary.connect() as other:
        family.primary.client().call("CONFIG", "SET", "synchronous-replicas", 1)
        stall(family)
        client.send(pack(("SET", "k", "v")))
        assert not _readable(client, 0.1)
        asked = (
            ("PING",),
            ("INFO", "replication"),
            ("PUBLISH", "c", "m"),
            ("MULTI",),
            ("REPLICAOF", "127.0.0.1", family.replica.port),
            ("EXEC",),
        )
        replies = other.pipeline(asked)
        assert replies[-1].plain() == [b"OK"]
        with pytest.raises(Disconnected):
            client.read()
        with family.primary.connect() as third:  # it waits for no replica of its own
            assert third.call("SET", "k", "w").value.startswith(b"READONLY")
            assert third.call("GET", "k").value == b"v"


def test_failover_lets_go_first():
    """FAILOVER under synchronous-replicas hands over when those who wait have been answered: none of them is cut off, and nothing is missing."""
    with Family(1) as family:
        control(family.primary).call("CONFIG", "SET", "synchronous-replicas", 1)
        clients = [family.primary.connect() for _ in range(20)]
        for number, client in enumerate(clients):
            client.send(pack(("SET", f"k{number}", "v")))
        assert family.primary.client().call("FAILOVER").value == b"OK"
        answers = [client.read()[0] for client in clients]
        for client in clients:
            client.close()
        wait_for(lambda: family.replica.client().call("ROLE").items()[0].value == b"master", "the other to take over")
        have = [family.replica.client().call("GET", f"k{number}").value == b"v" for number in range(20)]

        assert all(answer.value == b"OK" or answer.value.startswith(b"READONLY") for answer in answers)
        assert have == [answer.value == b"OK" for answer in answers]


def test_failover_answers_who_waits():
    """Who waits for keys when a failover's time is up is answered at once, before any request that he has sent since."""
    with Family(1) as family:
        port = family.replica.port
        clients = [family.primary.connect() for _ in range(20)]
        for client in clients:
            client.send(pack(("BLPOP", "none", 0)))
        wait_for(lambda: blocked(family) == len(clients), "them to wait")
        stall(family)
        family.primary.client().call("SET", "k", "v")
        asked = ("FAILOVER", "TO", "127.0.0.1", port, "FORCE", "TIMEOUT", 100)
        assert family.primary.client().call(*asked).value == b"OK"
        while not _readable(clients[0], 0.0005):
            for client in clients:
                client.send(pack(("PING",)))
        answers = [client.read()[0].value for client in clients]
        for client in clients:
            client.close()

        assert (
            answers
            == [b"UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)"] * 20
        )


# --- min-replicas-to-write ------------------------------------------------------------------------------------------------------------

NO_REPLICAS = b"NOREPLICAS Not enough good replicas to write."


def test_enough_replicas_to_write(family: Family):
    """Writes are refused while fewer replicas than that are heard of, in transactions and scripts, too; reads are not."""
    client = family.primary.client()
    assert client.call("CONFIG", "SET", "min-replicas-to-write", 3).value == b"OK"
    assert client.call("SET", "k", "v").value == NO_REPLICAS
    assert client.call("GET", "k").kind == "$"
    client.call("MULTI")
    assert client.call("SET", "k", "v").value == NO_REPLICAS
    assert client.call("EXEC").value.startswith(b"EXECABORT")
    assert client.call("EVAL", "return redis.call('SET','k','v')", 0).value.startswith(b"NOREPLICAS")
    assert client.call("CONFIG", "SET", "min-replicas-to-write", 2).value == b"OK"
    assert client.call("SET", "k", "v").value == b"OK"
    assert info(client)["min_slaves_good_slaves"] == "2"
    family.proxy.cut()
    wait_for(lambda: client.call("SET", "k", "v").value == NO_REPLICAS, "writes to be refused")
    family.proxy.heal()
    wait_for(lambda: client.call("SET", "k", "v").value == b"OK", "writes to be taken again")


def test_enough_replicas_in_one_piece(family: Family):
    """What was set holds for what follows in the same piece; a lag of 0 turns the refusal off."""
    client = family.primary.client()
    settings = ("min-replicas-to-write", "min-replicas-max-lag")
    before = client.call("CONFIG", "GET", settings[1]).plain()[1]
    replies = client.pipeline(
        [
            ("CONFIG", "SET", settings[0], 3),
            ("SET", "k", "v"),
            ("CONFIG", "SET", settings[1], 0),
            ("SET", "k", "w"),
            ("INFO", "replication"),
            ("CONFIG", "SET", settings[0], 0, settings[1], before),
        ]
    )

    assert [reply.value for reply in replies[:4]] == [b"OK", NO_REPLICAS, b"OK", b"OK"]
    assert b"min_slaves_good_slaves" not in replies[4].value


def test_a_silent_replica_does_not_count(family: Family):
    """Nor does one that says nothing for longer than min-replicas-max-lag."""
    client = family.primary.client()
    client.call("CONFIG", "SET", "min-replicas-to-write", 2, "min-replicas-max-lag", 1)
    assert client.call("SET", "k", "v").value == b"OK"
    family.proxy.stall()
    wait_for(lambda: client.call("SET", "k", "v").value == NO_REPLICAS, "writes to be refused")
    family.proxy.heal()
    wait_for(lambda: client.call("SET", "k", "v").value == b"OK", "writes to be taken again")
    client.call("CONFIG", "SET", "min-replicas-max-lag", 10)


@pytest.mark.parametrize("how", ["SIGTERM", "SHUTDOWN"])
def test_the_end_acknowledges_nothing(how: str):
    """Who waits for replicas that do not have his write when the server ends is cut off without a reply."""
    with Lmdbredis("--synchronous-replicas", "1") as server, server.connect() as waiting, server.connect() as other:
        waiting.send(pack(("SET", "k", "v")))
        wait_for(lambda: b"cmd=set" in other.call("CLIENT", "LIST").value, "it to be run")
        if how == "SIGTERM":
            assert server.process is not None
            server.process.send_signal(signal.SIGTERM)
        else:
            other.send(pack(("SHUTDOWN",)))
        assert waiting.read_until_closed() == b""


def test_replies_that_wait_are_limited():
    """Replies that wait for a replica count as unread output: a client with too many of them is cut off, and they are gone."""
    options = ("--synchronous-replicas", "1", "--client-output-buffer-limit", "normal 2mb 0 0")
    with Lmdbredis(*options) as server, server.connect() as greedy, server.connect() as other:
        greedy.send(pack(("SET", "k", "x" * 1_000_000)) + pack(("GET", "k")) * 10)
        assert greedy.read_until_closed() == b""
        wait_for(lambda: other.call("CLIENT", "LIST").value.count(b"id=") == 1, "it to be gone")
        assert b" omem=0 " in other.call("CLIENT", "LIST").value


# --- replies that wait, and another state -------------------------------------------------------------------------------------------


class HeldSyncs(Lmdbredis):
    """Our server on a disk that syncs the log only while there is no file `held` in the directory: replies wait meanwhile, the loop goes on."""

    HELD = """
import os, sys, threading, time
from lmdbredis import disk
from lmdbredis.__main__ import main

class Held(disk.Disk):
    def fdatasync(self, fd):
        is_log = threading.current_thread().name.startswith("wal-sync")
        time.sleep(0.002 * is_log)  # else the loop would do it
        while is_log and os.path.exists(HELD):
            time.sleep(0.001)
        super().fdatasync(fd)

HELD = os.path.join(sys.argv[sys.argv.index("--dir") + 1], "held")
sys.modules["lmdbredis.__main__"].Disk = Held
sys.exit(main())
"""

    @classmethod
    def program(cls) -> list[str] | None:
        return [sys.executable, "-c", cls.HELD]


def test_a_snapshot_while_replies_wait():
    """Replies that wait for a sync leave when another server's state comes, whose log may have smaller addresses; those after them, too."""
    with Lmdbredis() as old, Lmdbredis() as young, HeldSyncs("--appendfsync", "always") as replica:
        old.client().pipeline([("SET", f"k{i}", "x" * 100_000) for i in range(40)])
        young.client().call("SET", "other", "v")
        follow(replica, old.port)
        wait_in_step(old, replica)
        held = replica.dir / "held"
        held.touch()
        old.client().call("SET", "k0", "y")
        with replica.connect() as reader, replica.connect() as other:
            come = f"offset={offset(control(old))},"
            wait_for(lambda: come in info(control(old))["slave0"], "the record to come")
            reader.send(pack(("GET", "k0")))
            other.send(pack(("REPLICAOF", "127.0.0.1", young.port)))
            wait_for(lambda: "receiving" in replica.log_tail().rpartition("Full resync")[2], "the snapshot to come")
            time.sleep(0.2)  # it is put in place now, or waits for that
            held.unlink()
            assert reader.read()[0].value == b"y"
            assert other.read()[0].value == b"OK"
            assert replica.client().call("PING").value == b"PONG"
        wait_in_step(young, replica)
