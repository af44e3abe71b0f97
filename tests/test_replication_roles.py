"""What a server is to others, as ROLE and INFO say it, and how it becomes the other: REPLICAOF, FAILOVER, chains, and who had written too much."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.client import pack
from tests.comparison import equal
from tests.crash import Load
from tests.differential import line_words
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
    syncs,
    wait_for,
    wait_in_step,
)
from tests.servers import ROOT, Lmdbredis, Valkey
from tests.several import _readable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers import Server


@pytest.fixture(scope="module")
def together() -> Iterator[Family]:
    with Family(2) as family:
        yield family


@pytest.fixture
def family(together: Family) -> Iterator[Family]:
    """A primary and two replicas; after the test the roles are what they were, and all have the same."""
    yield together
    together.mend()


@pytest.fixture(scope="module")
def oracles() -> Iterator[list[Server]]:
    """A primary and its replica, of the oracle's kind."""
    with Valkey("--repl-diskless-sync-delay", "0") as one, Valkey("--replicaof", f"127.0.0.1 {one.port}") as other:
        wait_for(lambda: info(other.client())["master_link_status"] == "up", "the oracle's replica")
        yield [one, other]


# --- what is said -------------------------------------------------------------------------------------------------------------------

ON_A_REPLICA = """
    SET k v
    MULTI
    SET k v
    EXEC
    MULTI
    GET none
    WAIT 0 0
    FAILOVER
    EXEC
    WAIT 0 0
    WAIT 1 10
    WAIT a b
    WAITAOF 0 0 0
    WAITAOF 1 0 10
    FAILOVER
    FAILOVER TO 127.0.0.1 1
    FAILOVER ABORT
    REPLICAOF NO WHERE
    REPLICAOF host 66000
    REPLICAOF host -1
    REPLICAOF a
    BLPOP k 1
    EVAL "return redis.call('SET','k','v')" 0
    EVAL "return redis.pcall('SET','k','v')" 0
    EVAL "#!lua\\nreturn redis.call('SET','k','v')" 0
    EVAL "#!lua flags=no-writes\\nreturn redis.call('GET','none')" 0
    EVAL "#!lua flags=no-writes\\nreturn redis.call('SET','k','v')" 0
    MULTI
    EVAL "#!lua\\nreturn 1" 0
    EXEC
    MULTI
    EVAL "#!lua flags=no-writes\\nreturn 1" 0
    EVAL "return 1" 0
    EXEC
    SYNC a
    PSYNC
    PSYNC ? x
"""
ON_A_PRIMARY = """
    FAILOVER ABORT
    FAILOVER TO 127.0.0.1 1
    FAILOVER TO nohost 1 FORCE TIMEOUT 10
    FAILOVER TO
    FAILOVER TO a
    FAILOVER TO a b
    FAILOVER FORCE
    FAILOVER FORCE FORCE
    FAILOVER TIMEOUT
    FAILOVER TIMEOUT 0
    FAILOVER TIMEOUT -1
    FAILOVER TIMEOUT a
    FAILOVER FORCE TIMEOUT 100
    FAILOVER TO 127.0.0.1 1 FORCE
    FAILOVER TO 127.0.0.1 70000
    FAILOVER TO 127.0.0.1 1 TO 127.0.0.1 1
    FAILOVER TIMEOUT 1 TIMEOUT 2
    FAILOVER ABORT ABORT
    FAILOVER ABORT TIMEOUT 10
    FAILOVER TIMEOUT 10 ABORT
    FAILOVER x
    MULTI
    FAILOVER TO 127.0.0.1 1
    FAILOVER ABORT
    EXEC
    WAIT
    WAIT 0
    WAIT a 0
    WAIT 0 a
    WAIT 0 -1
    WAIT 1 10 1
    WAIT 0 99999999999999999999
    WAIT 0 9223372036854775807
    WAITAOF 0 0
    WAITAOF 2 0 0
    WAITAOF -1 0 0
    WAITAOF a 0 0
    WAITAOF 0 a 0
    WAITAOF 0 -1 0
    WAITAOF 0 0 a
    WAITAOF 0 0 -1
    REPLCONF
    REPLCONF a
    REPLCONF a b
    REPLCONF listening-port a
    REPLCONF ip-address <300>
    REPLCONF listening-port 5
    MULTI
    REPLICAOF no one
    EXEC
    MULTI
    PSYNC ? -1
    SYNC
    EXEC
    REPLICAOF no one
    REPLICAOF
    SLAVEOF NO ONE
    ROLE a
"""
_OLDER = b" since Redis 4.0"  # words of Redis 7.2 that are in the oracle no more


@pytest.mark.parametrize("side", [0, 1])
def test_what_is_said(side: int, family: Family, oracles: list[Server]):
    """Every refusal is the oracle's, to the word: of a primary with a replica, and of a replica."""
    script = (ON_A_PRIMARY, ON_A_REPLICA)[side]
    with oracles[side].connect() as oracle, (family.primary, family.replica)[side].connect() as ours:
        for line in filter(None, map(str.strip, script.splitlines())):
            words = line_words(line)
            expected, found = (client.exchange([words])[0] for client in (oracle, ours))
            if _OLDER in found[1]:
                raw = found[1].replace(_OLDER, b"")
                found = (
                    found[0]._replace(value=found[0].value.replace(_OLDER, b"")) if found[0].is_error else expected[0],
                    raw,
                )
            assert equal(words, found, expected), (line, expected[1], found[1])


# What only the oracle tells, or only we.
THEIRS = {"replicas_waiting_psync", "replicas_repl_buffer_size", "replicas_repl_buffer_peak"}


@pytest.mark.parametrize("side", [0, 1])
def test_info(side: int, family: Family, oracles: list[Server]):
    """INFO replication has the oracle's fields in its order, with values of the same form, and ROLE the same shape."""
    ours = control((family.primary, family.replica)[side])
    theirs = oracles[side].client()
    expected, found = (info(client) for client in (theirs, ours))
    expected = {name: value for name, value in expected.items() if name not in THEIRS}
    found.pop("slave1", None)  # we have two
    assert list(expected) == list(found)
    for name, value in expected.items():
        if name == "slave0":
            mine, its = (dict(part.split("=") for part in text.split(",")) for text in (found[name], value))
            its.pop("type")
            assert list(its) == [part for part in mine if part != "synced"]
            assert mine["state"] == its["state"] == "online"
        elif "replid" in name:
            assert len(value) == len(found[name]) == 40
        elif value.lstrip("-").isdigit():
            assert found[name].lstrip("-").isdigit(), name
        else:
            assert value == found[name], name
    for client in (theirs, ours):
        assert client.call("HELLO", 3).plain()[b"role"] == (b"master", b"replica")[side]
    its, mine = (client.call("ROLE").plain() for client in (theirs, ours))
    assert [type(part) for part in its] == [type(part) for part in mine]
    assert its[0] == mine[0]
    if not side:
        assert [type(part) for part in its[2][0]] == [type(part) for part in mine[2][0]]
        assert len(mine[2]) == 2
        assert sorted(int(one[1]) for one in mine[2]) == sorted(server.port for server in family.replicas)
    else:
        assert its[3] == mine[3] == b"connected"
        assert mine[2] == family.proxy.port


def test_replicas_in_client_list(family: Family):
    """CLIENT LIST shows who copies this server as such, and nobody else."""
    client = family.primary.client()
    lines = client.call("CLIENT", "LIST", "TYPE", "replica").value.decode().splitlines()
    assert len(lines) == 2
    assert all(" flags=S " in line for line in lines)
    assert client.call("CLIENT", "LIST", "TYPE", "normal").value.count(b"flags=N") >= 1
    assert client.call("CLIENT", "KILL", "TYPE", "replica").value == 2
    family.check()


def test_counts(family: Family):
    """A replica is no client in INFO; what replication sends is in the totals; CONFIG RESETSTAT forgets that, too."""
    primary, replica = control(family.primary), control(family.replica)
    family.wait()
    sessions = len(primary.call("CLIENT", "LIST").value.splitlines())
    assert int(info(primary, "clients")["connected_clients"]) == sessions - 2
    sent, came = info(primary, "stats"), info(replica, "stats")
    assert 0 < int(sent["total_net_repl_output_bytes"]) < int(sent["total_net_output_bytes"])
    assert 0 < int(came["total_net_repl_input_bytes"]) < int(came["total_net_input_bytes"])
    for client in (primary, replica):
        assert client.call("CONFIG", "RESETSTAT").value == b"OK"
    fields = info(primary, "stats") | {"saves": info(primary, "persistence")["rdb_saves"]}
    for name in ("sync_full", "sync_partial_ok", "sync_partial_err", "saves"):
        assert fields[name] == "0", name
    assert int(fields["total_net_repl_output_bytes"]) < 1000
    assert int(info(replica, "stats")["total_net_repl_input_bytes"]) < 1000


# --- REPLICAOF ------------------------------------------------------------------------------------------------------------------------


def test_a_primary_becomes_a_replica():
    """Who waits for keys is told so, writes are refused from then on, and what it had is replaced by what its primary has."""
    with Lmdbredis(*BUSY) as one, Lmdbredis(*BUSY) as other:
        one.client().call("SET", "one", 1)
        other.client().call("SET", "other", 2)
        other.client().call("RPUSH", "l", "a")
        with other.connect() as waiting, other.connect() as reader, other.connect() as wait:
            waiting.send(pack(("BLPOP", "none", 0)) + pack(("PING",)))
            reader.send(pack(("XREAD", "BLOCK", 0, "STREAMS", "x", "$")))
            wait.send(pack(("WAIT", 1, 0)))
            wait_for(lambda: info(control(other), "clients")["blocked_clients"] == "3", "three to wait")
            follow(other, one.port)
            unblocked = b"UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)"
            for client in (waiting, reader, wait):
                assert client.read()[0].value == unblocked
            assert waiting.read()[0].value == b"PONG"
        check_same(one, other)
        assert other.client().call("SET", "k", "v").value.startswith(b"READONLY")
        lead(other)
        assert other.client().call("SET", "own", "v").value == b"OK"
        assert other.client().call("RPUSH", "l", "a").value == 1, "the list of before is gone"
        assert control(other).call("DEBUG", "CHECK").value == b"OK"
        assert digest(one) != digest(other)
        other.kill9()
        other.start()
        assert other.client().call("MGET", "one", "other", "own").plain() == [b"1", None, b"v"]


def test_replicaof_in_a_pipeline(family: Family):
    """Commands behind REPLICAOF in a pipeline meet the new role; saying it again changes nothing."""
    client = family.primary.client()
    replies = client.pipeline([("SET", "a", 1), ("REPLICAOF", "NO", "ONE"), ("SET", "b", 2), ("GET", "a")])
    assert [reply.value for reply in replies] == [b"OK", b"OK", b"OK", b"1"]
    other = family.replica.client()
    family.wait()
    replid = info(other)["master_replid"]
    words = ("REPLICAOF", "127.0.0.1", family.proxy.port)
    replies = other.pipeline([("SET", "a", 1), words, ("SET", "b", 2), words])
    assert [reply.value[:8] for reply in replies] == [b"READONLY", b"OK", b"READONLY", b"OK"]
    assert info(other)["master_replid"] == replid
    replies = other.pipeline([("REPLICAOF", "NO", "ONE"), ("SET", "b", 2), words, ("SET", "b", 3)])
    assert [reply.value[:8] for reply in replies] == [b"OK", b"OK", b"OK", b"READONLY"]


def test_changing_its_mind(family: Family):
    """A replica that is told again and again whom to copy has one link in the end: none that was stopped lives on."""
    primary, one, _ = family.servers
    ports = (primary.port, family.proxy.port)
    for pings in range(8):  # so many turns of the loop between
        words = [("REPLICAOF", "127.0.0.1", port) for port in ports * 20]
        control(one).pipeline([part for each in words for part in (each, *[("DEBUG", "SLEEP", 0)] * pings)])
    follow(one, primary.port)
    family.check()
    primary.client().call("CLIENT", "KILL", "TYPE", "replica")
    for _ in range(2):
        family.check()
        wait_for(lambda: len(client_role(control(primary))[2]) == 2, "two replicas, and no link more")


def test_config_rewrite_keeps_the_role(tmp_path: Path):
    """CONFIG REWRITE writes what REPLICAOF said, and a start with that file goes on in that role."""

    class Configured(Lmdbredis):
        @classmethod
        def program(cls) -> list[str]:
            return [sys.executable, "-m", "lmdbredis", str(tmp_path / "redis.conf")]

    (tmp_path / "redis.conf").write_text("# mine\nmaxclients 100\n")
    with Lmdbredis(*BUSY) as primary, Configured() as server:
        follow(server, primary.port)
        assert control(server).call("CONFIG", "REWRITE").value == b"OK"
        assert f"replicaof 127.0.0.1 {primary.port}" in (tmp_path / "redis.conf").read_text()
        server.restart()
        wait_in_step(primary, server)
        lead(server)
        assert control(server).call("CONFIG", "REWRITE").value == b"OK"
        assert "replicaof" not in (tmp_path / "redis.conf").read_text()
        server.restart()
        assert client_role(control(server))[0] == b"master"
        assert "# mine" in (tmp_path / "redis.conf").read_text()


# --- promotion --------------------------------------------------------------------------------------------------------------------------


def test_siblings_go_on(family: Family):
    """A replica becomes the primary: the other one, and the old primary when it is back, go on in the log without a snapshot."""
    primary, one, other = family.servers
    load = Load(random.Random(4))
    primary.client().call("FLUSHALL")
    load.start(primary.port)
    wait_for(lambda: load.acknowledged() > 100, "some writes")
    load.stop()
    family.wait()
    replid, end = info(control(one))["master_replid"], offset(control(one))
    full, partial = syncs(one)
    diverged = set(primary.dir.glob("diverged*"))
    primary.kill9()
    lead(one)
    found = info(control(one))
    assert found["master_replid"] != replid
    assert found["master_replid2"] == replid
    assert int(found["second_repl_offset"]) in {end, end + 1}
    one.client().call("SET", "new", 1)
    follow(other, one.port)
    wait_in_step(one, other)
    primary.start()
    follow(primary, one.port)
    check_same(one, other, primary)
    assert syncs(one) == (full, partial + 2)
    assert diverged == set(primary.dir.glob("diverged*"))
    assert load.verify(other.client()) == []

    # And back again, twice renamed: who was there each time goes on, but for who wrote meanwhile, were it a sign of life for replicas.
    assert control(one).call("CONFIG", "SET", "repl-ping-replica-period", 3600).value == b"OK"
    wait_in_step(one, primary, other)
    lead(primary)
    primary.client().call("SET", "newer", 1)
    for server in (one, other):
        follow(server, primary.port)
    check_same(primary, one, other)
    assert syncs(primary)[0] == 0, "since it was started"
    assert control(one).call("CONFIG", "SET", "repl-ping-replica-period", 1).value == b"OK"


def test_a_primary_that_wrote_too_much(family: Family):
    """The old primary has writes that the new one never saw: it copies the new one, and their log is kept, named and readable."""
    primary, one, other = family.servers
    primary.client().call("SET", "both", 1)
    family.wait()
    full, _ = syncs(one)
    for proxy in reversed(family.proxies):  # what the primary says at this moment, `other` must not have alone
        proxy.cut()
    wait_for(lambda: not is_linked(control(one)), "it to have noticed")
    parted = offset(control(one))
    for number in range(20):
        primary.client().call("SET", f"lost{number}", number)
    lead(one)
    one.client().call("SET", "new", 1)
    follow(other, one.port)
    follow(primary, one.port)
    check_same(one, other, primary)
    assert primary.client().call("MGET", "both", "new", "lost3").plain() == [b"1", b"1", None]
    assert syncs(one)[0] == full + 1, "only the one that had parted"
    kept = [path for path in primary.dir.glob("diverged-*") if int(path.name.partition("-")[2], 16) == parted]
    assert len(kept) == 1
    assert f"their log is kept in {kept[0]}" in primary.log_path.read_text()
    words = _tool("wal", "cat", str(kept[0]))
    said = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=20, check=True).stdout
    assert "lost0" in said
    assert "lost19" in said


def _tool(*words: str) -> list[str]:
    return [sys.executable, "-c", "import sys; from lmdbredis_tools.main import main; sys.exit(main())", *words]


def test_chains(family: Family):
    """A replica of a replica has the same, through the restart of either, and goes on when the one in the middle becomes the primary."""
    primary, middle, last = family.servers
    follow(last, middle.port)
    primary.client().call("SET", "a", 1)
    check_same(primary, middle, last)
    assert client_role(control(middle))[0] == b"slave"
    assert info(control(middle))["connected_slaves"] == "1"
    assert info(control(primary))["connected_slaves"] == "1"
    middle.kill9()
    primary.client().call("SET", "a", 2)
    middle.start()
    check_same(primary, middle, last)
    last.restart()
    follow(last, middle.port)
    primary.client().call("RPUSH", "l", 1, 2)
    check_same(primary, middle, last)
    full, _ = syncs(middle)
    lead(middle)
    middle.client().call("SET", "b", 1)
    wait_in_step(middle, last)
    check_same(middle, last)
    assert syncs(middle)[0] == full
    assert last.client().call("GET", "b").value == b"1"
    # A snapshot for the middle is one for its replicas, too.
    control(primary).call("DEBUG", "CHANGE-REPL-ID")
    primary.client().call("SET", "c", 1)
    follow(middle, primary.port)
    check_same(primary, middle, last)


def test_a_ring(family: Family):
    """Servers that are told to copy each other, or themselves, find out, serve what they have, and can be led out of it."""
    primary, one, other = family.servers
    family.wait()
    before = digest(one)
    follow(one, other.port)
    follow(other, one.port)
    follow(primary, primary.port)
    wait_for(lambda: not any(is_linked(control(server)) for server in family.servers), "nobody to be linked")
    for server in family.servers:
        assert before == digest(server)
    lead(primary)


def test_no_room_to_become_a_primary(family: Family):
    """A replica whose disk is full stays one when it is told to be a primary, and says so; so does one that is to take a primary's place."""
    primary, one, _ = family.servers
    family.wait()
    full = one.dir / "CONTROL.new"  # what the history's name is written into

    def fill() -> bool:
        with contextlib.suppress(FileExistsError):  # it is being written just now
            full.symlink_to("/dev/full")
        return full.is_symlink()

    wait_for(fill, "the disk to be full")
    assert control(one).call("REPLICAOF", "NO", "ONE").value == b"OK"
    assert client_role(control(one))[0] == b"slave"
    assert "this server stays a replica" in one.log_path.read_text()
    assert control(one).call("CONFIG", "GET", "replicaof").plain()[b"replicaof"] == b"127.0.0.1 %d" % family.proxy.port
    primary.client().call("SET", "k", "v")
    family.wait()

    assert control(primary).call("FAILOVER", "TO", "127.0.0.1", one.port).value == b"OK"
    wait_for(lambda: state(primary) == "no-failover", "it to be refused")
    assert "it answers PSYNC with -MISCONF" in primary.log_path.read_text()
    assert [client_role(control(server))[0] for server in (primary, one)] == [b"master", b"slave"]
    assert primary.client().call("SET", "k", "w").value == b"OK"
    full.unlink()
    wait_for(
        lambda: control(one).call("SAVE").value == b"OK" and info(control(one), "storage")["writes_refused"] == "0",
        "it to have found out that there is room",
    )
    family.check()


# --- FAILOVER -----------------------------------------------------------------------------------------------------------------------------


def state(server: Server) -> str:
    return info(control(server))["master_failover_state"]


@pytest.mark.parametrize("words", [(), ("TO",), ("TIMEOUT", 5000)])
def test_failover(words: tuple, family: Family):
    """FAILOVER lets a replica take the primary's place under load: no acknowledged write is lost, and nobody needs a snapshot."""
    primary, one, other = family.servers
    family.wait()
    load = Load(random.Random(f"{words}"))
    primary.client().call("FLUSHALL")
    load.start(primary.port)
    wait_for(lambda: load.acknowledged() > 100, "some writes")
    full = sum(syncs(server)[0] for server in family.servers)
    if words == ("TO",):
        words = ("TO", "127.0.0.1", other.port)
    assert control(primary).call("FAILOVER", *words).value == b"OK"
    wait_for(lambda: is_linked(control(primary)), "the old primary to be a replica")
    wait_for(lambda: state(primary) == "no-failover", "the failover to be over")
    load.stop()
    new = next(server for server in (one, other) if client_role(control(server))[0] == b"master")
    assert new is other or "TO" not in words
    for ledger in load.ledgers:
        assert all(error.startswith(b"READONLY") for error in ledger.errors), ledger.errors[:3]
    assert new.client().call("SET", "new", 1).value == b"OK"
    third = other if new is one else one
    follow(third, new.port)
    check_same(new, primary, third)
    assert full == sum(syncs(server)[0] for server in family.servers)
    assert [wrong for wrong in load.verify(new.client()) if "new" not in wrong] == []


def test_failover_that_cannot_be(family: Family):
    """While the target does not have everything, writes wait; ABORT, or the end of the time, ends that, and nothing has changed."""
    primary, one, _ = family.servers
    family.wait()
    replid = info(control(primary))["master_replid"]
    target = ("TO", "127.0.0.1", one.port)
    family.proxy.stall()
    for how in ("ABORT", "TIMEOUT"):
        primary.client().call("SET", "k", how)
        timeout = ("TIMEOUT", 200) if how == "TIMEOUT" else ()
        with primary.connect() as client:
            assert control(primary).call("FAILOVER", *target, *timeout).value == b"OK"
            assert state(primary) == "waiting-for-sync"
            assert control(primary).call("FAILOVER").value == b"ERR FAILOVER already in progress."
            refused = b"ERR REPLICAOF not allowed while failing over."
            assert control(primary).call("REPLICAOF", "127.0.0.1", 1).value == refused
            client.send(pack(("SET", "k", "late")))
            assert control(primary).call("GET", "k").value == how.encode()
            if how == "ABORT":
                assert not _readable(client, 0.05)
                assert control(primary).call("FAILOVER", "ABORT").value == b"OK"
            assert client.read()[0].value == b"OK"
            assert state(primary) == "no-failover"
    assert info(control(primary))["master_replid"] == replid
    assert control(primary).call("FAILOVER", "ABORT").value == b"ERR No failover in progress."


def test_failover_by_force(family: Family):
    """With FORCE the target takes over when the time is up, with what it has; what it lacks is kept at the old primary."""
    primary, one, _ = family.servers
    family.wait()
    parted = offset(control(one))
    family.proxy.stall()
    primary.client().call("SET", "forced", 1)
    assert control(primary).call("FAILOVER", "TO", "127.0.0.1", one.port, "FORCE", "TIMEOUT", 100).value == b"OK"
    wait_for(lambda: client_role(control(one))[0] == b"master", "it to take over")
    wait_for(lambda: is_linked(control(primary)), "the old primary to be a replica")
    check_same(one, primary)
    assert primary.client().call("GET", "forced").value is None
    assert any(int(path.name.partition("-")[2], 16) == parted for path in primary.dir.glob("diverged-*"))


def test_failover_to_one_who_is_gone(family: Family):
    """The target dies between: the old primary sees it, stays what it was, and takes writes again."""
    primary, one, _ = family.servers
    family.wait()
    family.proxy.stall()
    primary.client().call("SET", "gone", 1)
    one.kill9()
    reply = control(primary).call("FAILOVER", "TO", "127.0.0.1", one.port, "FORCE", "TIMEOUT", 50)
    if reply.value == b"OK":
        wait_for(lambda: state(primary) == "no-failover", "it to be over")
    assert client_role(control(primary))[0] == b"master"
    assert primary.client().call("SET", "later", 1).value == b"OK"
    assert primary.client().call("GET", "gone").value == b"1"
    family.proxy.heal()
    one.start()
