"""Replication: whom this server copies, who copies it and how far they are, and who waits for that. States without sockets.

Theory. Every server has one log, and an address in it says how far a copy is. A replica tells up to where it has the log
(``REPLCONF ACK``) and up to where it has it on disk (``FACK``); whoever waits for copies (WAIT, WAITAOF, replies under
``synchronous-replicas``, ``min-replicas-to-write``) asks the same few numbers.

Laws:

1. What a replica has said never goes down while it is connected; what it has not said, it has not.
2. A server that copies another takes no writes of its own (`Lobby.deny`); the address of its log's end is its offset.

It knows no socket and no clock: times are told, in ms of a clock that never jumps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lmdbredis.session import Session

NEVER_MS: Final = -1

# States of a replica, in the words of INFO.
WAITS: Final = "wait_bgsave"  # has asked for nothing yet
COPIES: Final = "send_bulk"  # a snapshot is on its way to it
ONLINE: Final = "online"  # the log is

# States of the link to a primary, in the words of ROLE.
CONNECT: Final = "connect"  # there is none; it will be tried
CONNECTING: Final = "connecting"
SYNC: Final = "sync"  # a snapshot is coming
CONNECTED: Final = "connected"


class Replica:
    """One server that copies this one, and the session through which it does."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.state = WAITS
        self.port = 0  # where it listens, as it says
        self.host = ""  # its address, if it says another than the one it comes from
        self.reads_log = False  # it is of our kind
        self.key_events = ""  # its setting for key events, and those of its own replicas
        self.lsn = 0  # it has the log up to here; 0 = it has not said yet
        self.synced_lsn = 0  # and on disk up to here
        self.heard_ms = 0  # when it said so last

    @property
    def address(self) -> str:
        """Return the host where it listens."""
        return self.host or self.session.address.rpartition(":")[0].strip("[]")

    @property
    def is_fed(self) -> bool:
        """Tell whether it gets the log, or a snapshot first."""
        return self.state != WAITS

    @property
    def is_known(self) -> bool:
        """Tell whether it gets the log and has said how far it is: what was sent to it counts for nothing before."""
        return self.state == ONLINE and self.lsn > 0

    def acknowledge(self, lsn: int, synced_lsn: int, clock_ms: int) -> None:
        """Take note of how far it says it is (law 1)."""
        self.lsn, self.synced_lsn = max(self.lsn, lsn), max(self.synced_lsn, synced_lsn)
        self.heard_ms = clock_ms

    def lag_ms(self, clock_ms: int) -> int:
        """Return for how long it has said nothing."""
        return clock_ms - self.heard_ms


class Replicas:
    """All who copy this server."""

    def __init__(self) -> None:
        self._by_session: dict[Session, Replica] = {}

    def __iter__(self) -> Iterator[Replica]:
        """Yield those who get the log, or a snapshot of what it made."""
        return (replica for replica in list(self._by_session.values()) if replica.state != WAITS)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def of(self, session: Session) -> Replica:
        """Return the replica that speaks through a session: from now on it is one."""
        return self._by_session.setdefault(session, Replica(session))

    def forget(self, session: Session) -> None:
        """Take note that a client is gone."""
        self._by_session.pop(session, None)

    def having(self, lsn: int) -> int:
        """Return how many have the log up to `lsn`."""
        return sum(replica.is_known and replica.lsn >= lsn for replica in self)

    def having_synced(self, lsn: int) -> int:
        """Return how many have it on disk."""
        return sum(replica.is_known and replica.synced_lsn >= lsn for replica in self)

    def synced_by(self, count: int) -> int:
        """Return up to where `count` of them have the log on disk, 0 if there are not so many."""
        known = sorted((replica.synced_lsn for replica in self if replica.is_known), reverse=True)
        return known[count - 1] if len(known) >= count else 0

    def good(self, clock_ms: int, lag_ms_max: int) -> int:
        """Return how many have been heard of lately."""
        return sum(replica.is_known and (not lag_ms_max or replica.lag_ms(clock_ms) <= lag_ms_max) for replica in self)


class Following:
    """The server that this one copies, and how the link to it is."""

    def __init__(self, host: str, port: int, clock_ms: int, *, takes_over: bool = False) -> None:
        self.takes_over = takes_over  # it is to become a server of its own: FAILOVER
        self.host = host
        self.port = port
        self.state = CONNECT
        self.heard_ms = clock_ms  # when something came last
        self.down_since_ms = clock_ms  # while it is not connected; NEVER_MS while it is
        self.copy_bytes = 0  # of the snapshot that is coming
        self.copied_bytes = 0

    @property
    def is_up(self) -> bool:
        """Tell whether the log is coming."""
        return self.state == CONNECTED

    def become(self, state: str, clock_ms: int) -> None:
        """Take note of what the link is now."""
        if state == CONNECTED:
            self.down_since_ms = NEVER_MS
        elif self.state == CONNECTED:
            self.down_since_ms = clock_ms
        self.state = state
        self.heard_ms = clock_ms


class Awaited:
    """Copies that a session waits for: WAIT, WAITAOF."""

    def __init__(self, replicas: int, local: int | None = None) -> None:
        self.replicas = replicas
        self.local = local  # WAITAOF: how many times on this server's own disk; None: WAIT, where disks do not matter
        self.lsn = 0  # of what is waited for; told once it is logged

    def reply(self, replicas: Replicas, synced_lsn: int) -> int | list[int]:
        """Return what is there by now, as the reply says it; the log is on this server's disk up to `synced_lsn`."""
        if self.local is None:
            return replicas.having(self.lsn)
        return [int(synced_lsn >= self.lsn), replicas.having_synced(self.lsn)]

    def is_reached(self, replicas: Replicas, synced_lsn: int) -> bool:
        """Tell whether that is enough."""
        found = self.reply(replicas, synced_lsn)
        if isinstance(found, int):
            return found >= self.replicas
        assert self.local is not None
        return found[0] >= self.local and found[1] >= self.replicas
