"""The role: what this server is to others, a primary or a replica, and how it becomes the other.

Theory. A primary logs what its clients write; a replica has its primary's log, and nothing of its own. The two differ in two switches
(`Store.is_copy`, `Keyspace.is_copy`), in what the executor refuses, and in a link. Becoming a primary gives the history a new name, and
keeps the old one for what was logged under it, so that whoever has that can go on (``REPLICAOF NO ONE``, FAILOVER).

Laws: the role changes between batches; what it is stands in the configuration (``replicaof``), so that CONFIG REWRITE keeps it. A
directory with another server's history has the file ``REPLICA``: who is started on it as a primary begins a history of his own, too.

It belongs to the server's room: one room, several files.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Final

from lmdbredis import errors
from lmdbredis.directive_kinds import to_bytes
from lmdbredis.errors import DiskFull, ReplyError, SyncFailed
from lmdbredis.failover import Failover
from lmdbredis.feeds import Feeds
from lmdbredis.format import WANTS_SYNC
from lmdbredis.link import Link
from lmdbredis.measures import clock_ms, now_us
from lmdbredis.replication import Following, Replica
from lmdbredis.resp import encode2
from lmdbredis.session import Gate
from lmdbredis.shipping import LastRecord

if TYPE_CHECKING:
    from pathlib import Path

    from lmdbredis.server import RedisServer
    from lmdbredis.session import Session

_AGAIN_S: Final = 0.01  # while replies wait to leave

log = logging.getLogger("lmdbredis")


class Role:
    """See the module."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self.feeds = Feeds(server)
        self.failover = Failover(server)
        self.link: Link | None = None  # to the server that this one copies
        self._beat_ms = 0  # when replicas were last told that this server lives

    def begin(self) -> None:
        """Take note of what was opened: another server's history goes on under a name of its own if this is a primary now.

        Raises DiskFull, SyncFailed: nothing may be written under a name that is another server's.
        """
        store = self._server.store
        if not store.is_copy and self._mark.exists() and self.link is None:
            try:
                self._name_history()
            except DiskFull as full:
                text = f"{store.directory} was a replica's, and there is no room to give its history a name of its own: {full}"
                raise DiskFull(text) from full
        self.apply()

    @property
    def _mark(self) -> Path:
        """Return the file that tells whose history the directory has: another server's."""
        return self._server.store.directory / "REPLICA"

    def mark_copy(self, following: Following) -> None:
        """Let the directory say whose history it will have; where there is no room for that now, it is tried again with the next link."""
        said = b"%b %d\n" % (to_bytes(following.host), following.port)
        if self._mark.exists() and self._mark.read_bytes() == said:
            return
        try:
            self._server.store.disk.replace(self._mark, said)
        except DiskFull as full:
            log.warning("The disk is full (%s): the directory does not say that this is a replica", full)

    def _name_history(self) -> None:
        """Give what is logged from now on a name of its own, durably. Raises DiskFull: then all is as before; SyncFailed."""
        store = self._server.store
        store.set_history(os.urandom(20).hex(), store.control.replid, store.wal.end_lsn)
        self._mark.unlink(missing_ok=True)

    def apply(self) -> None:
        """Let the executor know what this server is, and how the link to its primary is."""
        executor, config = self._server.executor, self._server.config
        executor.is_copy = self._server.store.is_copy
        self._server.store.record_flags = WANTS_SYNC if config.synchronous_replicas and not executor.is_copy else 0
        executor.has_replicas = not executor.is_copy and len(executor.replicas) > 0
        executor.events.note(() if executor.is_copy else self._wanted_events())
        if executor.is_copy:
            is_up = self.link is not None and self.link.following.is_up
            executor.deny(errors.READ_ONLY, masks_all=not is_up and not config.replica_serve_stale_data)
        else:
            wanted = config.min_replicas_to_write if config.min_replicas_max_lag_s else 0
            good = executor.replicas.good(clock_ms(), config.min_replicas_max_lag_s * 1000)
            executor.deny(errors.NO_REPLICAS if good < wanted else None)
        executor.look()

    def _wanted_events(self) -> list[str]:
        """Return the settings of replicas for key events."""
        return [replica.key_events for replica in self._server.executor.replicas]

    def follow_events(self) -> None:
        """Tell the server that this one copies which events are wanted here, and by replicas of this one."""
        if self.link is not None:
            self.link.want_events()

    @property
    def following(self) -> Following | None:
        """Return the server that this one copies, and how the link is; None if it copies none."""
        return self.link.following if self.link is not None else None

    def replicate(self, address: tuple[str, int] | None, *, takes_over: bool = False) -> None:
        """Copy the server at this address from now on, or none any more: REPLICAOF. Between batches.

        With `takes_over` that server, which is a replica of this one, is told to be a server of its own first. Who has no room for the
        name of a history of his own stays a replica.
        """
        self._server.config.follow(address)
        if address == (self.link and (self.link.following.host, self.link.following.port)):
            return
        if self.link is not None:
            if address is None and not self._begin_history(self.link.following):
                return
            self.link.stop()
            self.link = None
        is_strict = self._server.store.record_flags != 0
        try:
            if address is None:
                self.feeds.let_go()
            self._be_copy(address is not None)
        except (DiskFull, SyncFailed) as failure:
            self._server.die(failure)
        if address is None:
            log.warning("MASTER MODE enabled")
        else:
            log.warning("Connecting to MASTER %s:%d: this server is its replica now", *address)
            if is_strict:
                self._server.barrier.refuse()
            self._server.executor.refuse_waiters(ReplyError(errors.UNBLOCKED_BY_ROLE))
            self.connect(takes_over=takes_over)

    def _begin_history(self, following: Following) -> bool:
        """Give what is logged from now on a name of its own; tell whether there was room for it: if not, all is as before."""
        try:
            self._name_history()
        except DiskFull as full:
            log.warning(
                "The disk is full (%s): this server stays a replica of %s:%d", full, following.host, following.port
            )
            self._server.config.follow((following.host, following.port))
            return False
        except SyncFailed as failure:
            self._server.die(failure)
        return True

    def _be_copy(self, is_copy: bool) -> None:
        """Take rows from another server and none of one's own, or the other way round."""
        store = self._server.store
        changes = is_copy != store.is_copy
        store.is_copy = self._server.keyspace.is_copy = is_copy
        if changes and not is_copy:
            self._server.keyspace.load()  # what a copy need not know: the ids in reserve, databases that nobody made
        elif changes:
            if any(table.batch for table in store.tables):  # of a moment as a primary: nobody may log them any more
                store.repair()
            self._server.keyspace.due.forget()  # it is not told of rows that come
        self.apply()

    def connect(self, *, takes_over: bool = False) -> None:
        """Begin to copy the server that the configuration names, if it names one."""
        if self._server.config.replicaof is not None and self.link is None:
            self.link = Link(self._server, Following(*self._server.config.replicaof, clock_ms(), takes_over=takes_over))

    def feed(self, session: Session, replid: str, lsn: int, last: list[int] | None) -> None:
        """Let a replica have what it lacks, once the replies to what it asked before have left: PSYNC."""
        loop = self._server.loop
        session.gate |= Gate.REPLICATES

        def begin() -> None:
            if self._server.barrier.is_waiting(session):
                loop.call_later(_AGAIN_S, begin)
            elif not session.closing:
                self.feeds.begin(session, replid, lsn, None if last is None else LastRecord(*last))

        loop.call_soon(begin)

    def take_place(self, session: Session, replid: str) -> None:
        """Be a server of its own, because the one that is copied, which speaks through the session, wants that. In a batch, at its end."""
        if self.link is None or self._server.store.control.replid != replid:
            return
        self.replicate(None)
        if self.link is not None:  # it must not be told that it can go on: it would be a replica, too
            session.output += encode2(ReplyError(errors.MISCONF_FULL))
            session.closing = True

    def acknowledge(self, replica: Replica, lsn: int, synced_lsn: int) -> None:
        """Take note of how far a replica is. In a batch."""
        replica.acknowledge(lsn, synced_lsn, clock_ms())
        if self._server.barrier or self._server.executor.awaited or self.failover.is_on:
            self._server.executor.after_batch.append(self.look_at_copies)

    def look_at_copies(self) -> None:
        """Let go what has waited for copies, now that there are more. At the end of a batch."""
        self._server.barrier.release()
        self._server.executor.note_copies()
        self.failover.look()

    def sync_soon_for(self, *, replicas: int, local: int) -> None:
        """Let the log be synced here, and by replicas: WAITAOF. Between batches."""
        if local:
            self._server.barrier.sync()
        if replicas:
            self.beat(WANTS_SYNC)

    def synced(self) -> None:
        """Take note that this server's log has got further to disk: who waits for that goes on. Between batches."""
        if self.link is not None:
            self.link.acknowledge()
        executor = self._server.executor
        if not executor.awaited:
            return
        executor.note_copies()
        executor.end()
        self._server.send_heard()
        synced_lsn = self._server.store.wal.synced_lsn
        if any(awaited.local and awaited.lsn > synced_lsn for awaited in executor.awaited.values()):
            self._server.barrier.sync()

    def cron(self) -> None:
        """Look after the servers that this one copies, or that copy it: once a second."""
        self.feeds.cron()
        if self.link is not None:
            self.link.cron()
        config = self._server.config
        if config.min_replicas_to_write:
            self.apply()
        if self.failover.is_on:
            self.failover.look()
            self._server.send_heard()  # no tick is under way that would: who waited for keys has been answered
        now_ms = clock_ms()
        if self.feeds and now_ms - self._beat_ms >= config.repl_ping_replica_period_s * 1000:
            self._beat_ms = now_ms
            self.beat()

    def beat(self, flags: int = 0) -> None:
        """Log an empty record for replicas to hear."""
        executor = self._server.executor
        try:
            if executor.refusal is None:
                self._server.store.beat(now_us() // 1000, flags)
        except DiskFull as error:
            executor.refuse_writes(error)
        self.feeds.nudge()
