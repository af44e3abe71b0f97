"""How a server behaves whose primary cannot be had: what it costs to try again and again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.replicas import Proxy, client_role, control, follow, wait_for
from tests.servers import Lmdbredis, free_port

TRIES = 10
LOG_BYTES = 4 << 20


def read_bytes(server: Lmdbredis) -> int:
    """Return how much a server has read so far, from files above all."""
    return int(Path(f"/proc/{server.pid}/io").read_text().partition("rchar: ")[2].split()[0])


def test_trying_again_does_not_read_the_log_again():
    """A replica whose primary has nothing to give asks it ten times a second, and looks only once for the end of its own log."""
    with (
        Lmdbredis("--replicaof", f"127.0.0.1 {free_port()}") as primary,
        Lmdbredis() as replica,
    ):
        client = replica.client()
        for number in range(LOG_BYTES >> 10):
            client.call("SET", f"k{number % 100}", b"v" * 1024)
        proxy = Proxy(primary.port)
        try:
            follow(replica, proxy.port)
            wait_for(lambda: proxy.connections > 2, "the first tries")
            before, tries = read_bytes(replica), proxy.connections
            wait_for(lambda: proxy.connections > tries + TRIES, "more of them")
            assert read_bytes(replica) - before < LOG_BYTES
            assert client_role(control(replica))[3] != b"connected"
        finally:
            proxy.close()


@pytest.mark.parametrize(("host", "port"), [("a..b", 1), ("x" * 70 + ".b", 1), (b"\xff", 1)])
def test_a_name_that_cannot_be(host: str | bytes, port: int):
    """A primary that nobody can look for is one that is not there: the server says so, and goes on."""
    with Lmdbredis() as server:
        client = server.client()
        assert client.call("CONFIG", "SET", "replica-serve-stale-data", "no").value == b"OK"
        assert client.call("REPLICAOF", host, port).value == b"OK"
        wait_for(
            lambda: "is no name of a host" in server.log_path.read_text(errors="replace"), "the name to be looked for"
        )

        assert client.call("ROLE").plain()[:3] == [b"slave", host.encode() if isinstance(host, str) else host, port]
        assert client.call("SET", "k", "v").value.startswith(b"READONLY ")
        assert client.call("GET", "k").value.startswith(b"MASTERDOWN ")
        assert client.call("REPLICAOF", "NO", "ONE").value == b"OK"
        assert client.call("SET", "k", "v").value == b"OK"
