"""Histories that part: what one server wrote and the others do not know is set aside, named, and whole, however the logs compare.

test_replication_roles has the plain failovers, test_install how a state is put in place.

Law: what was acknowledged and is not in the primary's history is in a `diverged-*` of the server that acknowledged it.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import pytest

from lmdbredis import format as fmt
from lmdbredis import wal
from tests.replicas import Proxy, control, follow, info, lead, offset, syncs, wait_for, wait_in_step
from tests.servers import Lmdbredis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.servers import Server

    Start = Callable[..., Lmdbredis]

SMALL = ("--wal-segment-size", "65536", "--repl-backlog-size", "16384", "--checkpoint-interval", "20")


@pytest.fixture
def start() -> Iterator[Start]:
    """Start servers; all end with the test."""
    with contextlib.ExitStack() as stack:
        yield lambda *options: stack.enter_context(Lmdbredis(*SMALL, *options))


@pytest.fixture
def pair(start: Start) -> Iterator[tuple[Lmdbredis, Proxy, Lmdbredis]]:
    """A primary, a link that can be cut, and its replica; both have the key `both`."""
    primary = start()
    with contextlib.closing(Proxy(primary.port)) as proxy:
        replica = start("--replicaof", f"127.0.0.1 {proxy.port}")
        primary.client().call("SET", "both", 1)
        wait_in_step(primary, replica)
        yield primary, proxy, replica


def write(server: Server, name: str, count: int) -> None:
    """Write so many keys that begin with this name."""
    replies = server.client().pipeline([("SET", f"{name}{number}", "x" * 100) for number in range(count)])
    assert all(reply.value == b"OK" for reply in replies)


def kept(server: Lmdbredis) -> dict[str, set[bytes]]:
    """Return the keys that stand in each log that was set aside, by the log's name."""
    return {path.name: set(keys_in(path / "wal")) for path in server.dir.glob("diverged-*")}


def keys_in(log: Path) -> Iterator[bytes]:
    """Yield the keys of the rows in a log."""
    for base in wal.segments(log):
        for record in wal.read_segment(log, base):
            yield from (key[4:] for key in fmt.unpack_write_set(record.payload).get(fmt.KEYS, {}))


def names(name: str, count: int) -> set[bytes]:
    """Return the keys that `write` has written."""
    return {f"{name}{number}".encode() for number in range(count)}


def test_a_second_failover(start: Start, pair: tuple[Lmdbredis, Proxy, Lmdbredis]):
    """Two promotions and a segment of log later nothing can be compared with the first primary's log: all of it is kept."""
    first, proxy, second = pair
    third = start("--replicaof", f"127.0.0.1 {second.port}")
    wait_in_step(second, third)
    proxy.cut()
    write(first, "lost", 5)
    first.kill9()
    lead(second)
    write(second, "later", 3000)
    wait_in_step(second, third)
    second.kill9()
    lead(third)
    first.start()
    follow(first, third.port)
    wait_in_step(third, first)

    assert first.client().call("EXISTS", "lost0", "later0").value == 1
    assert [names("lost", 5) <= keys for keys in kept(first).values()] == [True]
    assert f"kept in {first.dir}/{next(iter(kept(first)))}" in first.log_path.read_text()


def test_twice_at_one_address(pair: tuple[Lmdbredis, Proxy, Lmdbredis]):
    """The second log that parts at an address does not take the place of the first."""
    primary, _, other = pair
    lead(other)
    for name in ("first", "second"):
        lead(primary)
        write(primary, name, 1)
        follow(primary, other.port)
        wait_in_step(other, primary)

    found = kept(primary)
    assert sorted(map(len, found)) == [len("diverged-") + 16, len("diverged-") + 18]
    assert sorted(next(iter(keys - {b"both"})) for keys in found.values()) == [b"first0", b"second0"]


def test_a_long_tail_after_a_start(pair: tuple[Lmdbredis, Proxy, Lmdbredis]):
    """A primary that is killed and started keeps its log for a while: a replica that was lost goes on, or its own tail is kept whole."""
    primary, proxy, replica = pair
    proxy.cut()
    write(primary, "lost", 3000)
    primary.restart()
    wait_for(lambda: info(control(primary), "storage")["checkpoint_lsn"] != "0", "a checkpoint")
    assert wal.segments(primary.dir / "wal")[0] == 0
    lead(replica)
    follow(primary, replica.port)
    wait_in_step(replica, primary)

    assert [names("lost", 3000) <= keys for keys in kept(primary).values()] == [True]
    assert "That log begins at" not in primary.log_path.read_text()


def test_a_replica_goes_on_after_its_primarys_start(pair: tuple[Lmdbredis, Proxy, Lmdbredis]):
    """Who was cut off while much was written needs no snapshot, though the primary was started anew in between."""
    primary, proxy, replica = pair
    proxy.cut()
    write(primary, "more", 3000)
    primary.restart()
    proxy.heal()
    wait_in_step(primary, replica)

    assert syncs(primary) == (0, 1)


@pytest.mark.parametrize("written", [20, 3000])
def test_a_replica_that_was_started_as_a_primary(pair: tuple[Lmdbredis, Proxy, Lmdbredis], written: int):
    """Its history is its own from then on: what it has written is kept when it becomes a replica again, from where they part."""
    primary, _, other = pair
    assert (other.dir / "REPLICA").read_text().startswith("127.0.0.1 ")
    other.options = other.options[: len(SMALL)]
    other.restart()
    parted = offset(control(other))
    assert not (other.dir / "REPLICA").exists()
    mine, its = info(control(other)), info(control(primary))
    assert mine["master_replid"] != its["master_replid"] == mine["master_replid2"]
    write(other, "own", 5)
    write(primary, "more", written)
    follow(other, primary.port)
    wait_in_step(primary, other)

    (name, keys), *others = kept(other).items()
    assert others == []
    assert names("own", 5) <= keys
    assert name == f"diverged-{parted if written == 20 else 0:016x}"


def test_a_primary_started_again_keeps_its_name(pair: tuple[Lmdbredis, Proxy, Lmdbredis]):
    """Only a copy begins a history of its own."""
    primary, _, _ = pair
    before = info(control(primary))["master_replid"]
    primary.restart()

    assert info(control(primary))["master_replid"] == before


def test_a_damaged_log(pair: tuple[Lmdbredis, Proxy, Lmdbredis]):
    """A replica that gets a damaged record asks for a snapshot, once, and goes on."""
    primary, proxy, replica = pair
    proxy.cut()
    write(primary, "key", 100)
    segment = wal.segment_path(primary.dir / "wal", wal.segments(primary.dir / "wal")[-1])
    with segment.open("r+b") as file:
        at = file.read().index(b"key50")
        os.pwrite(file.fileno(), b"X", at)
    primary.client().call("SAVE")
    proxy.heal()
    wait_in_step(primary, replica)

    assert replica.client().call("EXISTS", *names("key", 100)).value == 100
    assert syncs(primary)[0] <= 2
    assert "cannot be used: the record that came for address" in replica.log_path.read_text()
    assert control(replica).call("DEBUG", "CHECK").value == b"OK"
