"""The end of the process, orderly and otherwise, what is there afterwards, and keys that end by themselves.

Clients that write as fast as they are answered keep a ledger of what was acknowledged (`Writers`); whatever ended the server,
the next start must have all of it, and DEBUG CHECK must find nothing.
"""

from __future__ import annotations

import contextlib
import random
import signal
import sys
import threading
import time
from bisect import bisect_right
from collections import deque
from typing import TYPE_CHECKING

import pytest

from tests.client import Disconnected, RawClient, pack, portions
from tests.servers import Lmdbredis, Server
from tests.test_hostile import reset
from tests.test_process import LOG_LINE, WAIT_SECONDS_MAX, AsTold, info, settings, wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

VOLATILE_KEYS = 100_000
SPREAD_MS = 5000
LATE_MS_MAX = 100  # how late an expired key may still take room


class SlowDisk(Lmdbredis):
    """Our server on a disk that takes 20 ms for each sync: replies under `always` wait at the barrier, syncs go to a thread."""

    SLOWLY = """
import sys, time
from lmdbredis import disk
from lmdbredis.__main__ import main

class Slow(disk.Disk):
    def fdatasync(self, fd):
        time.sleep(0.02)
        super().fdatasync(fd)

sys.modules["lmdbredis.__main__"].Disk = Slow
sys.exit(main())
"""

    @classmethod
    def program(cls) -> list[str] | None:
        return [sys.executable, "-c", cls.SLOWLY]


class Writers:
    """Clients that write as fast as they are answered, until the server is gone; `acknowledged` is what was answered."""

    def __init__(self, server: Server, clients: int = 8, depth: int = 16) -> None:
        self.acknowledged = [0] * clients  # of client i, how many writes of ``i:n`` for n = 0, 1, 2 ...
        self.depth = depth
        self.threads = [threading.Thread(target=self._write, args=(server.connect(), i)) for i in range(clients)]
        for thread in self.threads:
            thread.start()

    def _write(self, client: RawClient, i: int) -> None:
        n = 0
        with client, contextlib.suppress(Disconnected):
            while True:
                client.send(b"".join(pack(["SET", f"{i}:{n + m}", n + m]) for m in range(self.depth)))
                for _ in range(self.depth):
                    assert client.read()[1] == b"+OK\r\n"
                    n += 1
                    self.acknowledged[i] = n

    def wait_for(self, writes: int) -> None:
        wait_until(lambda: min(self.acknowledged) >= writes)

    def join(self) -> None:
        for thread in self.threads:
            thread.join(WAIT_SECONDS_MAX)

    def missing(self, client: RawClient) -> list[str]:
        """Return the keys that were acknowledged and are not there."""
        keys = [f"{i}:{n}" for i, count in enumerate(self.acknowledged) for n in range(count)]
        replies = client.pipeline([("EXISTS", key) for key in keys])
        return [key for key, reply in zip(keys, replies, strict=True) if reply.value != 1]


def test_the_two_signals_end_it_in_order():
    """SIGTERM and SIGINT: status 0, a farewell in the log, nothing to replay afterwards, everything there."""
    for number in (signal.SIGTERM, signal.SIGINT):
        with Lmdbredis() as server:
            server.client().pipeline([("SET", f"k{n}", n) for n in range(300)])

            assert server.end(number) == 0
            text = server.log_path.read_text()
            assert f"# Received {number.name} scheduling shutdown..." in text
            assert text.rstrip().endswith("bye bye...")
            server.start()
            assert server.client().call("DBSIZE").value == 300
            assert info(server.client(), "replayed_rows") == "0"


class BadEnd(Lmdbredis):
    """Our server with a store that cannot be closed."""

    BADLY = """
import sys
from lmdbredis import store
from lmdbredis.__main__ import main

def close(_, *, checkpoint):
    raise RuntimeError("says the test")

store.Store.close = close
sys.exit(main())
"""

    @classmethod
    def program(cls) -> list[str] | None:
        return [sys.executable, "-c", cls.BADLY]


def test_an_end_that_goes_wrong():
    """A store that cannot be closed, whatever the reason, is told of and does not keep the process: status 1."""
    with BadEnd() as server:
        assert server.client().call("SET", "k", "v").value == b"OK"

        assert server.end(signal.SIGTERM) == 1
        text = server.log_path.read_text()
        assert "# The checkpoint at shutdown failed (says the test)" in text
        assert "RuntimeError: says the test" in text
        assert text.rstrip().endswith("bye bye...")


def test_an_end_with_files_that_cannot_be_removed(tmp_path: Path):
    """A spare segment, or a pid file, that cannot be removed keeps no process from its end."""
    with Lmdbredis("--pidfile", str(tmp_path / "pid")) as server:
        for path in (server.dir / "wal" / "spare", tmp_path / "pid"):
            path.unlink(missing_ok=True)
            path.mkdir()

        assert server.end(signal.SIGTERM) == 0
        assert "Traceback" not in server.log_path.read_text()


@pytest.mark.parametrize("how", ["SIGTERM", "SHUTDOWN", "SHUTDOWN NOSAVE"])
@pytest.mark.parametrize("appendfsync", ["everysec", "always", "always, slowly"])
def test_the_end_under_load(how: str, appendfsync: str):
    """An orderly end in the middle of pipelines has status 0, no complaint in the log, and loses nothing acknowledged."""
    kind = SlowDisk if "slowly" in appendfsync else Lmdbredis
    with kind("--appendfsync", appendfsync.partition(",")[0]) as server:
        writers = Writers(server)
        flood = server.connect()
        flood.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):  # more than one batch is waiting whenever the end comes
            flood.socket.send(pack(["INCR", "n"]) * 50_000)
        writers.wait_for(200)
        if how == "SIGTERM":
            server.process.terminate()
        else:
            with server.connect() as client:
                client.send(pack(how.split()))
                client.read_until_closed()

        assert server.process.wait(WAIT_SECONDS_MAX) == 0
        writers.join()
        flood.close()
        assert [line for line in server.log_path.read_text().splitlines() if not LOG_LINE.fullmatch(line)] == []
        server.start()
        assert writers.missing(server.client()) == []
        assert server.client().call("DEBUG", "CHECK").value == b"OK"


@pytest.mark.parametrize("appendfsync", ["everysec", "always", "always, slowly", "no"])
def test_kill_9_loses_nothing_acknowledged(appendfsync: str):
    """Killed in the middle of writes, twice, the server starts again with every write it had answered."""
    kind = SlowDisk if "slowly" in appendfsync else Lmdbredis
    with kind("--appendfsync", appendfsync.partition(",")[0]) as server:
        for _ in range(2):
            server.client().call("FLUSHALL")
            writers = Writers(server)
            writers.wait_for(300)
            server.kill9()
            writers.join()
            server.start()

            assert writers.missing(server.client()) == []
            assert server.client().call("DEBUG", "CHECK").value == b"OK"


def test_leaving_while_replies_wait():
    """Who leaves while his replies wait for a sync harms nobody: each client gets what he asked for and nothing else."""
    with SlowDisk("--appendfsync", "always") as server, server.connect() as steady:
        for number in range(100):
            leaver = server.connect()
            leaver.send(pack(["SET", "k", number]) + pack(["ECHO", f"for {number} alone"]) * 5)
            time.sleep(random.random() * 0.01)  # any moment of the sync
            if number % 3:
                reset(leaver.socket)
            leaver.close()
            with server.connect() as comer:  # gets the number of the file that the leaver had
                assert comer.call("ECHO", f"hello {number}").value == b"hello %d" % number
            if number % 10 == 0:
                assert steady.call("INCR", "n").value == number // 10 + 1
        assert "Traceback" not in server.log_path.read_text()


def test_config_rewrite_and_restart():
    """What CONFIG SET changed and CONFIG REWRITE wrote is in force after the next start, comments and the rest kept."""
    server = AsTold("some.conf")
    text = server.told(
        '# mine\nport {port}\nbind 127.0.0.1\ndir data\nrename-command FLUSHDB ""\nuser default on nopass ~* &* +@all\ntimeout 3\n'
    )
    (server.dir / "some.conf").write_text(text)
    changed = {
        "timeout": "44",
        "maxclients": "123",
        "appendfsync": "always",
        "maxmemory": "1048576",
        "client-output-buffer-limit": "normal 1000000 500000 7 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
        "notify-keyspace-events": "AKE",
        "proto-max-bulk-len": "2097152",
        "loglevel": "verbose",
        "hash-max-listpack-entries": "7",
    }
    with server:
        client = server.client()
        client.call("SET", "k", "v")

        assert client.call("CONFIG", "SET", *[word for pair in changed.items() for word in pair]).value == b"OK"
        assert client.call("CONFIG", "REWRITE").value == b"OK"
        rewritten = (server.dir / "some.conf").read_text()
        assert rewritten.startswith("# mine\n")
        assert 'rename-command FLUSHDB ""\nuser default on nopass ~* &* +@all\ntimeout 44\n' in rewritten
        server.restart()
        client = server.client()
        assert settings(client, *changed) == changed
        assert client.call("FLUSHDB").is_error
        assert client.call("GET", "k").value == b"v"
        assert client.call("CONFIG", "REWRITE").value == b"OK"
        assert (server.dir / "some.conf").read_text() == rewritten


# --- time ---------------------------------------------------------------------------------------------------------------------


def test_expired_keys_go_by_themselves():
    """Of 100,000 keys that expire within five seconds, each is gone for all at its time, and its row 100 ms later at most.

    DBSIZE counts rows that are there. On a loaded machine the tester waits as the server does, and a server that has waited has
    to catch up: so the longest time between two answers of the last second is added to the 100 ms.
    """
    with Lmdbredis() as server, server.connect() as client:
        times_ms = volatile_keys(client, wait_ms=4000)
        client.call("SET", "lasting", "v")
        late: list[tuple[int, int]] = []
        looks, left, answered = 0, VOLATILE_KEYS, time.monotonic()
        gaps: deque[tuple[float, int]] = deque()  # (when, ms between two answers) of the last second
        while left:
            time.sleep(0.002)  # a look every few ms is enough, and leaves the server its processor
            seconds, microseconds, size, seen = look(client, times_ms)
            now_ms = seconds * 1000 + microseconds // 1000
            gaps.append((time.monotonic(), int((time.monotonic() - answered) * 1000)))
            answered = time.monotonic()
            while gaps[0][0] < answered - 1:
                gaps.popleft()
            left, looks = size - 1, looks + 1
            due = bisect_right(times_ms, now_ms - LATE_MS_MAX - max(gap_ms for _, gap_ms in gaps))  # these must be gone
            if left > VOLATILE_KEYS - due:
                late.append((left - (VOLATILE_KEYS - due), now_ms))

            assert seen == [], "an expired key was visible"
            assert now_ms < times_ms[-1] + WAIT_SECONDS_MAX * 1000
        assert late == []
        assert looks > 50
        assert client.call("DBSIZE").value == 1
        assert info(client, "expired_keys") == str(VOLATILE_KEYS)


def volatile_keys(client: RawClient, wait_ms: int) -> list[int]:
    """Make keys that begin to expire soon, but after the last has been made; return their times."""
    first_ms = int(time.time() * 1000) + wait_ms
    times_ms = [first_ms + n * SPREAD_MS // VOLATILE_KEYS for n in range(VOLATILE_KEYS)]
    for portion in portions(("SET", f"volatile:{n}", "x" * 32, "PXAT", times_ms[n]) for n in range(VOLATILE_KEYS)):
        client.send(b"".join(portion))
        assert {client.read()[1] for _ in portion} == {b"+OK\r\n"}
    if time.time() * 1000 < first_ms:
        return times_ms
    client.pipeline([("FLUSHALL",), ("CONFIG", "RESETSTAT")])  # a slow machine
    return volatile_keys(client, 2 * wait_ms)


def look(client: RawClient, times_ms: Sequence[int]) -> tuple[int, int, int, list[object]]:
    """Return the server's time, DBSIZE, and whatever it still shows of the keys whose time came just before."""
    now_ms = int(time.time() * 1000)
    stop = bisect_right(times_ms, now_ms - 1)
    recent = range(max(stop - 20, 0), stop)  # expired by our clock, which is the server's
    replies = client.pipeline(
        [("TIME",), ("DBSIZE",), *((name, f"volatile:{n}") for n in recent for name in ("EXISTS", "GET", "PTTL"))]
    )
    seconds, microseconds = (int(item.value) for item in replies[0].items())
    seen = [reply for reply in replies[2:] if reply.value not in {0, None, -2}]
    return seconds, microseconds, replies[1].value, seen
