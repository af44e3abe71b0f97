"""Real sentinels over our servers: a primary is killed, stopped or cut off, a replica takes its place, and clients write on.

What Sentinel sends and reads is its own affair; that it works is the test. Skipped where redis-server 7 (Debian, Ubuntu:
`apt-get install redis-server`) is not installed. See `sentinels` for who is who.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
import redis

from tests.client import Disconnected
from tests.sentinels import (
    CLIENT_SECONDS,
    DOWN_AFTER_MS,
    HOST,
    NAME,
    SENTINELS,
    AsyncWriter,
    Group,
    Node,
    Writer,
    plain_client,
    wait_until,
)
from tests.servers import Lmdbredis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

GAP_SECONDS_MAX = 5.0  # of which DOWN_AFTER_MS pass before anybody does anything
# What may be set here -> what it is for all others.
SETTINGS = {
    "synchronous-replicas": 0,
    "replica-priority": 100,
    "replica-announced": "yes",
    "busy-reply-threshold": 5000,
}
DISASTERS: dict[str, tuple[Callable[[Node], object], Callable[[Node], object]]] = {  # what happens, and what ends it
    "killed": (Node.kill9, Node.start),
    "stopped": (Node.pause, Node.resume),
    "cut off": (lambda node: node.proxy.cut(), lambda node: node.proxy.mend()),
}
# What a client may be told while there is no primary, or another one than it thinks.
EXPECTED_ERRORS = (
    "ConnectionError", "TimeoutError", "MasterNotFoundError", "ReadOnlyError", "ResponseError: UNBLOCKED",
)  # fmt: skip


@pytest.fixture(scope="module")
def shared() -> Iterator[list[Group]]:
    """The group that all tests use, as long as it is whole after each."""
    groups: list[Group] = []
    yield groups
    for group in groups:
        group.close()


@pytest.fixture
def group(shared: list[Group], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    """A primary, two replicas, three sentinels, no keys; whole and checked afterwards."""
    if not shared:
        shared.append(Group(tmp_path_factory.mktemp("group")))
    group = shared[0]
    begin(group)
    yield group
    try:
        finish(group)
    except BaseException:
        shared.clear()
        group.close()
        raise


def begin(group: Group) -> None:
    """Let it be as at the start."""
    for node in group.nodes:
        for name, value in SETTINGS.items():
            node.redis.config_set(name, value)
    group.split()[0].redis.flushall()
    group.wait_whole()


def finish(group: Group) -> None:
    """Fail unless all is well: one primary, two replicas, and DEBUG CHECK says so everywhere."""
    group.wait_whole()

    assert [node.redis.execute_command("DEBUG CHECK") for node in group.nodes] == ["OK"] * 3


def missing(node: Node, writer: Writer) -> list[str]:
    """Return what was acknowledged to a client and is not there."""
    keys = list(writer.acknowledged)
    return [key for key, value in zip(keys, node.redis.mget(keys), strict=True) if value != key]


def fail_over(group: Group, how: str, *, waits: int, synchronous: int = 0) -> None:
    """Let it happen while two clients write; nothing that was acknowledged to them is missing, and both go on soon."""
    strike, mend = DISASTERS[how]
    for node in group.nodes:
        node.redis.config_set("synchronous-replicas", synchronous)
    before, _ = group.split()
    with Writer(group, waits) as writer, AsyncWriter(group, waits) as async_writer:
        writers = (writer, async_writer)
        strike(before)
        if how == "cut off":
            write_alone(before, synchronous)
        promoted = group.wait_promoted(before)
        for one in writers:
            one.wait_more(20)
        mend(before)
        wait_until(lambda: before.role == ("slave", promoted.proxy.port), group.describe)
        for one in writers:
            one.wait_more(20)
    group.wait_whole()

    assert group.primary() is promoted
    if how == "cut off":
        assert [node.redis.get("alone") for node in group.nodes] == [None] * 3
        assert before.keeps_apart
    for one in writers:
        assert DOWN_AFTER_MS / 1000 < one.gap_seconds() <= GAP_SECONDS_MAX
        assert [missing(node, one) for node in group.nodes] == [[], [], []]
        assert [error for error in one.errors if not error.startswith(EXPECTED_ERRORS)] == []


def write_alone(node: Node, synchronous: int) -> None:
    """Write to a primary that is cut off from all others: it says OK, but not under ``synchronous-replicas``."""
    with node.connect(timeout_seconds=CLIENT_SECONDS) as client:
        if synchronous:
            with pytest.raises(Disconnected):
                client.call("SET", "alone", "v")
        else:
            assert client.call("SET", "alone", "v").value == b"OK"


@pytest.mark.parametrize("how", DISASTERS)
def test_nothing_that_wait_counted_is_lost(group: Group, how: str):
    """Every write that ``WAIT 1`` has counted is there after the failover, on all servers; the old primary is a replica then.

    What nobody else had is gone from all, and its log is kept.
    """
    fail_over(group, how, waits=1)


@pytest.mark.parametrize("how", ["killed", "cut off"])
def test_nothing_synchronous_is_lost(group: Group, how: str):
    """Under ``synchronous-replicas 1`` every write that was acknowledged at all is there."""
    fail_over(group, how, waits=0, synchronous=1)


def test_valkeys_sentinels(tmp_path: Path):
    """Valkey's sentinels do as Redis's; and where every server wants a password, all goes on as well."""
    with contextlib.closing(Group(tmp_path, SENTINELS["valkey"], "secret")) as group:
        fail_over(group, "killed", waits=1)
        finish(group)


def test_by_hand_and_for_good(group: Group):
    """SENTINEL FAILOVER lets a replica take over though nothing is wrong; what both replicas had is there. CONFIG REWRITE, which Sentinel asks for, keeps the roles: after a restart of all servers everybody has the one it had."""
    before, _ = group.split()
    with Writer(group, 2) as writer, AsyncWriter(group, 2) as async_writer:
        promoted = fail_over_by_hand(group, before)
        wait_until(lambda: before.role == ("slave", promoted.proxy.port), group.describe)
        writer.wait_more(20)
        async_writer.wait_more(20)
    group.wait_whole()
    roles = [node.role for node in group.nodes]
    restart_all(group)

    assert sorted(role[0] for role in roles) == ["master", "slave", "slave"]
    assert roles == [node.role for node in group.nodes]
    assert group.primary() is promoted
    for one in (writer, async_writer):
        assert one.gap_seconds() <= GAP_SECONDS_MAX
        assert [missing(node, one) for node in group.nodes] == [[], [], []]


def restart_all(group: Group) -> None:
    """Start all servers anew while no sentinel sees it; the roles must be right before one comes."""
    for sentinel in group.sentinels:
        sentinel.kill9()
    roles = [node.role for node in group.nodes]
    for node in group.nodes:
        node.restart()

    assert roles == [node.role for node in group.nodes]
    for sentinel in group.sentinels:
        sentinel.start()
    group.set_periods()
    group.wait_whole()


def fail_over_by_hand(group: Group, before: Node) -> Node:
    """Ask the first sentinel for it, again if it gives up; return who has taken over."""

    def is_done() -> bool:
        if group.agreed() is before:
            with contextlib.suppress(redis.ResponseError):  # it is at it, or knows of no good replica yet
                group.sentinels[0].ask("FAILOVER", NAME)
        return group.primary(before) is not None

    wait_until(is_done, group.describe)
    return group.wait_promoted(before)


def test_what_sentinels_know(group: Group):
    """SENTINEL MASTER and REPLICAS show runs, roles, offsets, priorities and addresses as the servers announce them."""
    primary, replicas = group.split()
    primary.redis.set("k", "v")
    group.wait_whole()
    lsn = primary.info()["master_repl_offset"]
    wait_until(lambda: min(_offsets(group)) >= lsn, group.describe)

    assert max(_offsets(group)) <= primary.info()["master_repl_offset"]  # it goes on: Sentinel publishes
    for sentinel in group.sentinels:
        master, known = sentinel.master(), sentinel.replicas()

        assert (master["runid"], master["role-reported"]) == (primary.redis.info("server")["run_id"], "master")
        assert (int(master["num-slaves"]), int(master["num-other-sentinels"])) == (2, 2)
        assert set(known) == {f"{HOST}:{node.proxy.port}" for node in replicas}
        assert {node.port for node in replicas}.isdisjoint(int(fields["port"]) for fields in known.values())
        for node in replicas:
            fields = known[f"{HOST}:{node.proxy.port}"]
            expected = {
                "runid": node.redis.info("server")["run_id"], "flags": "slave", "role-reported": "slave", "master-link-status": "ok",
                "master-link-down-time": "0", "master-host": HOST, "master-port": str(primary.proxy.port), "slave-priority": "100",
                "replica-announced": "1",
            }  # fmt: skip

            assert {name: fields[name] for name in expected} == expected
        assert sentinel.ask("CKQUORUM", NAME)
        assert sentinel.redis.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", NAME) in (
            (HOST, primary.proxy.port), [HOST, str(primary.proxy.port)],
        )  # fmt: skip


def _offsets(group: Group) -> set[int]:
    return {int(fields["slave-repl-offset"]) for one in group.sentinels for fields in one.replicas().values()}


def test_priority_zero(group: Group):
    """A replica of priority 0 is never promoted: with one of them the other is, with two of them nobody."""
    primary, (never, other) = group.split()
    for node in (never, other):
        node.redis.config_set("replica-priority", 0)
    wait_until(lambda: _priorities(group) == {"0"}, group.describe)
    for sentinel in group.sentinels:
        with pytest.raises(redis.ResponseError, match="NOGOODSLAVE"):
            sentinel.ask("FAILOVER", NAME)
    other.redis.config_set("replica-priority", 1)
    wait_until(lambda: _priorities(group) == {"0", "1"}, group.describe)

    assert fail_over_by_hand(group, primary) is other


def _priorities(group: Group) -> set[str]:
    found = [{fields["slave-priority"] for fields in one.replicas().values()} for one in group.sentinels]
    return set.union(*found) if all(one == found[0] for one in found) else set()


def test_not_announced(group: Group):
    """``replica-announced no`` keeps a replica out of the list that clients get."""
    _, (hidden, shown) = group.split()
    hidden.redis.config_set("replica-announced", "no")
    wait_until(
        lambda: all(set(one.replicas()) == {f"{HOST}:{shown.proxy.port}"} for one in group.sentinels), group.describe
    )
    hidden.redis.config_set("replica-announced", "yes")
    group.wait_whole()


def test_announced_address(group: Group):
    """A replica is known by the address that it announces, to its primary and so to Sentinel."""
    primary, _ = group.split()
    host, port = "127.0.0.2", 7  # nobody is there
    words = (
        "--replicaof",
        f"{HOST} {primary.proxy.port}",
        "--replica-announce-ip",
        host,
        "--replica-announce-port",
        str(port),
    )
    with Lmdbredis(*words):
        wait_until(
            lambda: {"ip": host, "port": port}.items() <= primary.info().get("slave2", {}).items(), group.describe
        )
        wait_until(lambda: all(f"{host}:{port}" in one.replicas() for one in group.sentinels), group.describe)

        assert [host, str(port)] in [[one[0], str(one[1])] for one in primary.redis.role()[2]]
    for sentinel in group.sentinels:
        sentinel.ask("RESET", NAME)  # or it is looked for as long as they live


def test_a_busy_script(group: Group):
    """A script without an end makes a primary look down; Sentinel ends it with SCRIPT KILL, and whoever is the primary then goes on."""
    primary, _ = group.split()
    primary.redis.config_set("busy-reply-threshold", 100)
    with primary.connect() as client:
        reply = client.call("EVAL", "while true do end", 0)
    group.wait_whole()

    assert reply.is_error
    assert b"SCRIPT KILL" in reply.value
    assert group.split()[0].redis.set("k", "v")


def test_a_replica_takes_no_writes(group: Group):
    """A client that is pointed at a replica may read, and is told READONLY when it writes; through Sentinel it finds replicas to read from."""
    primary, replicas = group.split()
    primary.redis.set("k", "v")
    group.wait_whole()
    for node in replicas:
        with contextlib.closing(plain_client(node.proxy.port)) as client:
            assert client.get("k") == "v"
            with pytest.raises(redis.exceptions.ReadOnlyError):
                client.set("k", "w")
    finder = redis.sentinel.Sentinel([(HOST, one.port) for one in group.sentinels])
    with contextlib.closing(finder.slave_for(NAME, decode_responses=True)) as client:
        assert client.get("k") == "v"
        assert client.info("replication")["role"] == "slave"
    for one in finder.sentinels:
        one.close()
