"""What a server sends to its replicas, seen from one that does not behave: it reads nothing, asks again, or is cut off in the middle.

The replica is a bare connection here: it says that it reads the log, and what comes is looked at as bytes.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lmdbredis.shipping import last_record
from tests.client import RawClient, pack
from tests.replicas import client_role, control, info, offset, syncs, wait_for
from tests.servers import Lmdbredis

if TYPE_CHECKING:
    from collections.abc import Iterator

VALUES = 40  # of a megabyte each: more than the buffers between two sockets take


@pytest.fixture(scope="module")
def server() -> Iterator[Lmdbredis]:
    """A primary with some data."""
    with Lmdbredis() as one:
        for number in range(VALUES):
            one.client().call("SET", f"k{number}", b"v" * (1 << 20))
        one.client().call("SAVE")
        yield one


@pytest.fixture
def replica(server: Lmdbredis) -> Iterator[RawClient]:
    """A connection that may ask for the log; when it has gone, the server has nothing open for it any more."""
    before = open_files(server)
    with server.connect() as client:
        client.call("REPLCONF", "listening-port", 5, "capa", "lmdbredis")
        yield client
    wait_for(lambda: open_files(server) <= before, "its files to be closed")


def open_files(server: Lmdbredis) -> int:
    """Return how many files and sockets a server has open."""
    control(server).call("PING")  # its own connection is there
    return len(list(Path(f"/proc/{server.pid}/fd").iterdir()))


def ask(client: RawClient, *words: object) -> bytes:
    """Send PSYNC and return the first line of the answer."""
    client.send(pack(("PSYNC", *words)))
    while b"\r\n" not in client.buffer:
        client._receive()
    line, _, rest = bytes(client.buffer).partition(b"\r\n")
    client.buffer[:] = rest
    return line


def place(server: Lmdbredis) -> tuple[object, ...]:
    """Return the words of a PSYNC that asks to go on where the server's log ends."""
    lsn = offset(control(server))
    last = last_record(server.dir / "wal", lsn)
    assert last is not None
    return info(control(server))["master_replid"], lsn, *last


def receive(client: RawClient, size_bytes: int) -> None:
    """Return when so many bytes have come."""
    while len(client.buffer) < size_bytes:
        client._receive()


@pytest.mark.parametrize("words", [("CLIENT", "KILL", "TYPE", "replica"), ("DEBUG", "RELOAD")])
def test_cut_in_the_middle_of_a_snapshot(words: tuple[str, ...], server: Lmdbredis, replica: RawClient):
    """Who is cut off gets nothing more of his snapshot, whose pages may be used again: he sees the end, and not the whole of it."""
    assert ask(replica, "?", -1).startswith(b"+FULLRESYNC ")
    assert not control(server).call(*words).is_error
    wait_for(lambda: client_role(control(server))[2] == [], "it to be gone")
    came = replica.read_until_closed()

    assert len(came) < VALUES << 20
    assert control(server).call("DEBUG", "CHECK").value == b"OK"


def test_the_limit_of_other_clients_is_not_a_replicas(server: Lmdbredis, replica: RawClient):
    """A replica that does not read for a moment may have more under way than other clients may."""
    server.client().call("CONFIG", "SET", "client-output-buffer-limit", "normal 100kb 100kb 1")
    asked = place(server)
    assert ask(replica, *asked).startswith(b"+CONTINUE ")

    def under_way_bytes() -> int:
        text = control(server).call("CLIENT", "LIST", "TYPE", "replica").value.decode()
        return int(text.partition(" omem=")[2].split()[0])

    while under_way_bytes() < 1 << 19:
        server.client().call("SET", "k0", b"w" * (1 << 20))
    receive(replica, offset(control(server)) - asked[1])
    server.client().call("CONFIG", "SET", "client-output-buffer-limit", "normal 0 0 0")


def test_asked_again_on_the_same_connection(server: Lmdbredis, replica: RawClient):
    """Each PSYNC ends what the one before it had begun."""
    before, answered = open_files(server), syncs(server)[1]
    for count in range(1, 21):
        replica.send(pack(("PSYNC", *place(server))))
        wait_for(lambda count=count: syncs(server)[1] == answered + count, "it to be answered")

    assert open_files(server) <= before + 1  # the segment of the log that it is sent from


def test_many_who_take_no_snapshot(server: Lmdbredis):
    """Each pins a snapshot until it is cut off: writes go on, and who comes when there are too many is turned away."""
    with contextlib.ExitStack() as stack:
        for _ in range(260):
            client = stack.enter_context(server.connect())
            client.call("REPLCONF", "capa", "lmdbredis")
            client.send(pack(("PSYNC", "?", -1)))
        wait_for(
            lambda: "256 snapshots are on their way already" in server.log_path.read_text(), "one to be turned away"
        )
        for number in range(5):
            assert server.client().call("SET", "k", number).value == b"OK"
            assert server.client().call("SAVE").value == b"OK"
    wait_for(lambda: client_role(control(server))[2] == [], "all to be gone")
    assert control(server).call("DEBUG", "CHECK").value == b"OK"
    assert "Traceback" not in server.log_path.read_text()
