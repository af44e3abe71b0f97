"""A primary and its replicas, for tests: started, awaited, cut from each other, and compared.

    with Family(2) as family:                       # a primary and two replicas, in step
        family.primary.client().call("SET", "k", "v")
        family.check()                              # in step, the same digest, clean checks
        family.proxies[0].cut()                     # the link of the first replica, until `heal`

Laws:
- Every replica reaches its primary through a proxy of its own, so that a link can be cut, stalled or slowed without a signal to anyone.
- Conditions are waited for, nothing is slept for.
- What is asked here is asked on connections of its own: a test's may be in a transaction, or wait.
- "In step" means: the link is up, and the replica's log ends where the primary's does.

Knows nothing of pytest.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from typing import TYPE_CHECKING, Self

from tests.servers import Lmdbredis, Server, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.client import RawClient

WAIT_SECONDS_MAX = 20.0
POLL_SECONDS = 0.005
_PART_BYTES = 1 << 16
_HELD_BYTES_MAX = 1 << 18  # what a proxy takes from one side before the other has taken it
# Small segments, frequent checkpoints, and replicas that are heard of often: much happens in little time.
BUSY = (
    "--wal-segment-size", "65536", "--checkpoint-interval", "20", "--checkpoint-dirty", "300", "--repl-ping-replica-period", "1",
)  # fmt: skip


class NotInTime(AssertionError):
    """Something that was waited for did not happen."""


def wait_for(
    condition: Callable[[], object], what: str, seconds_max: float = WAIT_SECONDS_MAX, servers: Sequence[Server] = ()
) -> None:
    """Return when the condition holds. Raises NotInTime, with what the servers have logged until then."""
    deadline = time.monotonic() + seconds_max
    while not condition():
        if time.monotonic() > deadline:
            logs = "".join(server.log_tail() for server in servers)
            raise NotInTime(f"waited {seconds_max} s for {what}{logs}")
        time.sleep(POLL_SECONDS)


# --- what a server says of itself -----------------------------------------------------------------------------------------------


def control(server: Server) -> RawClient:
    """Return the connection that is used here."""
    return server.client(3)


def info(client: RawClient, section: str = "replication") -> dict[str, str]:
    """Return a section of INFO."""
    lines = client.call("INFO", section).value.decode().removeprefix("txt:").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def offset(client: RawClient) -> int:
    """Return where a server's log ends, as ROLE says it."""
    items = client.call("ROLE").items()
    return items[1 if items[0].value == b"master" else 4].value


def is_linked(replica: RawClient) -> bool:
    """Tell whether the log is coming to a replica."""
    items = client_role(replica)
    return items[0] == b"slave" and items[3] == b"connected"


def client_role(client: RawClient) -> list:
    """Return the plain reply to ROLE."""
    return client.call("ROLE").plain()


def in_step(primary: RawClient, replica: RawClient) -> bool:
    """Tell whether the replica has what the primary has. The primary is asked first and last: it may have gone on."""
    before = offset(primary)
    return is_linked(replica) and offset(replica) == before == offset(primary)


def wait_in_step(primary: Server, *replicas: Server, seconds_max: float = WAIT_SECONDS_MAX) -> None:
    """Return when all replicas have what the primary has."""
    for replica in replicas:
        wait_for(
            lambda replica=replica: in_step(control(primary), control(replica)),
            "a replica to be in step",
            seconds_max,
            (primary, replica),
        )


def syncs(server: Server) -> tuple[int, int]:
    """Return how many snapshots a server has given since its start, and how often it has only gone on in the log."""
    found = info(control(server), "stats")
    return int(found["sync_full"]), int(found["sync_partial_ok"])


def digest(server: Server) -> bytes:
    """Return DEBUG DIGEST of all databases."""
    return control(server).call("DEBUG", "DIGEST").value


def check_same(primary: Server, *replicas: Server, seconds_max: float = WAIT_SECONDS_MAX) -> None:
    """Wait until all are in step; then they have the same data, and the rows of all are in order."""
    wait_in_step(primary, *replicas, seconds_max=seconds_max)
    expected = digest(primary)
    for server in (primary, *replicas):
        assert control(server).call("DEBUG", "CHECK").value == b"OK", server.name
        assert expected == digest(server)


# --- a link that can fail ---------------------------------------------------------------------------------------------------------


class Proxy:
    """A port of 127.0.0.1 that leads to another one, until it is cut, stalled or slowed. One thread."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = free_port()
        self.forwarded_bytes = 0  # to the one who connects
        self.connections = 0  # so far
        self.bytes_per_second = 0  # to the one who connects; 0 = as fast as it goes
        self._is_cut = self._is_stalled = self._ends = False
        self._cuts_after_bytes = -1
        self._turns = 0
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._held: dict[socket.socket, bytearray] = {}  # what is to be sent to a socket
        self._inner: set[socket.socket] = set()  # those that lead to the target
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._listener.setblocking(False)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """Close all connections, and whatever comes, until `heal`."""
        self._is_cut = True
        wait_for(lambda: not self._pairs, "the proxy to cut its links")

    def cut_once(self) -> None:
        """Close all connections that are open now."""
        self.cut()
        self.heal()

    def cut_after(self, size_bytes: int) -> None:
        """Cut when so many bytes more have been forwarded to the one who connects."""
        self._cuts_after_bytes = self.forwarded_bytes + size_bytes

    @property
    def is_cut(self) -> bool:
        return self._is_cut

    def stall(self) -> None:
        """Take nothing any more and send nothing, until `heal`; connections stay."""
        self._is_stalled = True
        turns = self._turns
        wait_for(lambda: self._turns > turns + 1, "the proxy to stand still")  # what it had begun is done

    def slow(self, bytes_per_second: int) -> None:
        """Forward no more than so much to the one who connects, until `heal`."""
        self.bytes_per_second = bytes_per_second

    def heal(self) -> None:
        """Be a good link again."""
        self._cuts_after_bytes = -1
        self._is_cut = self._is_stalled = False
        self.bytes_per_second = 0

    def close(self) -> None:
        """End it."""
        self._ends = True
        self._thread.join(5)

    def _run(self) -> None:
        room = 0.0
        before = time.monotonic()
        while not self._ends:
            now = time.monotonic()
            room = min(room + (now - before) * self.bytes_per_second, _PART_BYTES)
            before = now
            if self._is_cut:
                self._close_all()
            room -= self._turn(int(room) if self.bytes_per_second else _PART_BYTES)
        self._close_all()
        self._listener.close()

    def _turn(self, room_bytes: int) -> int:
        """Move what can be moved, wait a little if nothing can; return how much went to those who connect."""
        moved = 0
        self._turns += 1
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            for one, other in self._pairs.items():
                events = 0
                if not self._is_stalled:
                    if len(self._held[other]) < _HELD_BYTES_MAX:
                        events |= selectors.EVENT_READ
                    if self._held[one] and (one in self._inner or room_bytes > 0):
                        events |= selectors.EVENT_WRITE
                if events:
                    selector.register(one, events)
            for key, events in selector.select(0.01):
                one = key.fileobj
                if one is self._listener:
                    self._accept()
                elif one in self._pairs:
                    moved += self._move(one, events, room_bytes - moved)
        return moved

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            outer, _ = self._listener.accept()
            if self._is_cut:
                outer.close()
                return
            try:
                inner = socket.create_connection(("127.0.0.1", self.target_port), 2)
            except OSError:
                outer.close()
                return
            self.connections += 1
            for one in (outer, inner):
                one.setblocking(False)
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._held[one] = bytearray()
            self._inner.add(inner)
            self._pairs |= {outer: inner, inner: outer}

    def _move(self, one: socket.socket, events: int, room_bytes: int) -> int:
        """Read from a socket and write to it; return how many bytes of the room that took."""
        moved = 0
        try:
            if events & selectors.EVENT_WRITE:
                is_outer = one not in self._inner
                part = self._held[one][: max(room_bytes, 0)] if is_outer else self._held[one]
                if is_outer and self._cuts_after_bytes >= 0:
                    part = part[: max(self._cuts_after_bytes - self.forwarded_bytes, 0)]
                sent = one.send(part) if part else 0
                del self._held[one][:sent]
                if is_outer:
                    moved = sent
                    self.forwarded_bytes += sent
                    if 0 <= self._cuts_after_bytes <= self.forwarded_bytes:
                        self._is_cut = True
            if events & selectors.EVENT_READ:
                data = one.recv(_PART_BYTES)
                if not data:
                    self._close_pair(one)
                else:
                    self._held[self._pairs[one]] += data
        except BlockingIOError:
            pass
        except OSError:
            self._close_pair(one)
        return moved

    def _close_pair(self, one: socket.socket) -> None:
        for each in (one, self._pairs[one]):
            self._pairs.pop(each, None)
            self._inner.discard(each)
            del self._held[each]
            each.close()

    def _close_all(self) -> None:
        while self._pairs:
            self._close_pair(next(iter(self._pairs)))


# --- a family -----------------------------------------------------------------------------------------------------------------------


def follow(replica: Server, port: int) -> None:
    """Let a server be a replica of the one at a port."""
    reply = control(replica).call("REPLICAOF", "127.0.0.1", port)
    assert reply.value == b"OK", reply


def lead(server: Server) -> None:
    """Let a server be a primary."""
    reply = control(server).call("REPLICAOF", "NO", "ONE")
    assert reply.value == b"OK", reply


def start_together(*servers: Server) -> None:
    """Start servers, side by side."""
    for server in servers:
        server.begin()
    for server in servers:
        server.wait_ready()


class Family:
    """A primary and replicas, each behind a proxy. Entering starts them and waits until they are in step."""

    def __init__(
        self, replicas: int = 1, *options: str, of_primary: Sequence[str] = (), of_replicas: Sequence[str] = ()
    ) -> None:
        self.primary = Lmdbredis(*BUSY, *options, *of_primary)
        self.proxies = [Proxy(self.primary.port) for _ in range(replicas)]
        self.replicas = [
            Lmdbredis(*BUSY, *options, *of_replicas, "--replicaof", f"127.0.0.1 {proxy.port}") for proxy in self.proxies
        ]

    @property
    def replica(self) -> Lmdbredis:
        """Return the first replica."""
        return self.replicas[0]

    @property
    def proxy(self) -> Proxy:
        """Return the link of the first replica."""
        return self.proxies[0]

    @property
    def servers(self) -> list[Lmdbredis]:
        """Return all of them."""
        return [self.primary, *self.replicas]

    def __enter__(self) -> Self:
        try:
            start_together(*self.servers)
            self.wait()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is not None:
            for server in self.servers:
                error.add_note(server.log_tail())
        self.close()

    def close(self) -> None:
        """End all of them."""
        for proxy in self.proxies:
            proxy.close()
        for server in self.servers:
            server.kill9()
            server.stop()  # its directory and log go

    def wait(self) -> None:
        """Return when all replicas have what the primary has."""
        wait_in_step(self.primary, *self.replicas)

    def check(self) -> None:
        """Wait until all are in step; then all have the same, and are in order."""
        check_same(self.primary, *self.replicas)

    def mend(self) -> None:
        """Let all be as at the start: good links, each in its role and in step, and nobody else connected."""
        for proxy in self.proxies:
            proxy.heal()
            proxy.target_port = self.primary.port
        for server in self.servers:
            server.drop_clients()
        if client_role(control(self.primary))[0] != b"master":
            lead(self.primary)
        for replica, proxy in zip(self.replicas, self.proxies, strict=True):
            follow(replica, proxy.port)
        self.check()
        wait_for(lambda: len(client_role(control(self.primary))[2]) == len(self.replicas), "older links to be gone")

    def syncs(self) -> tuple[int, int]:
        """Return how many snapshots the primary has given, and how often it has only gone on in the log."""
        return syncs(self.primary)
