"""The barrier: replies that wait for the log to be safe, and the syncs of the log.

Theory. A reply leaves when what it tells is as safe as was promised: under ``appendfsync always`` on this server's disk, under
``synchronous-replicas`` on those of so many replicas. Replies that cannot leave at once stand here with the address that the log had when
they were made; a sync serves all that came before it, and while it is under way the loop goes on.

What a server, Sentinel or an operator asks of this one tells nothing of the data (`_TELL_NO_DATA`) and does not wait for replicas: else
a replica that is gone could not come back, no other server could take this one's place, and nobody could find out why all stand still.

Laws: behind replies that wait, all wait; one sync of the log at a time; a failed sync ends the process; who waits for replicas is cut
off when this server becomes one, or ends: nobody will say whether what he wrote lives on. Replies that wait count as unread output.

It belongs to the server's room: one room, several files.
"""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from lmdbredis.errors import SyncFailed
from lmdbredis.registry import name_of
from lmdbredis.session import Gate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lmdbredis.server import RedisServer
    from lmdbredis.session import Session

_QUICK_SYNC_US: Final = 1000  # syncs that take longer are left to a thread
_KEPT_BYTES: Final = 64 << 10  # of one session, beyond which its limit is looked at
_TELL_NO_DATA: Final = frozenset(
    ("ping", "auth", "hello", "replconf", "psync", "role", "info", "config", "client", "command", "replicaof", "slaveof", "failover", "shutdown",
     "publish", "subscribe", "multi", "exec")
)  # fmt: skip


class Barrier:
    """See the module."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        # An lsn, and the sessions whose replies wait for it: the first of each one's `kept`.
        self._waiting: deque[tuple[int, Sequence[Session]]] = deque()
        self._syncer = ThreadPoolExecutor(1, "wal-sync")
        self._syncing: Future[int] | None = None
        self._sync_us = 0.0  # how long a sync of the log takes, running mean
        self._sync_began_ns = 0
        self._passing: list[Session] = []  # of the batch: who asks for no data
        self._is_strict = False  # at its beginning replies had to wait for replicas

    def __bool__(self) -> bool:
        """Tell whether replies wait."""
        return bool(self._waiting)

    def begin(self, sessions: list[Session]) -> None:
        """Look at what a batch is going to ask."""
        self._is_strict, self._passing = self._server.store.record_flags != 0, []
        if self._server.config.synchronous_replicas:
            self._passing = [one for one in sessions if _asks_for_no_data(one) and not self.is_waiting(one)]

    def must_wait(self) -> bool:
        """Tell whether replies made now have to wait; where they need only a sync that is quick of late, it is done here. Raises SyncFailed."""
        server = self._server
        store, config = server.store, server.config
        # The log may be safe already, but those before have not left yet.
        return bool(
            self._waiting
            or (config.appendfsync == "always" and store.wal.synced_lsn < store.wal.end_lsn and not self._sync_here())
            or (store.record_flags and self._replicated_lsn() < store.wal.end_lsn)
            or (self._is_strict and store.is_copy)
        )

    def _replicated_lsn(self) -> int:
        """Return up to where as many replicas as must have it have the log on disk."""
        server = self._server
        return server.executor.replicas.synced_by(server.config.synchronous_replicas)

    def keep_batch(self, sessions: list[Session], lsn: int) -> list[Session]:
        """As `keep` for the sessions of a batch; return those whose replies need not wait for replicas."""
        passing, self._passing = self._passing, []
        if self._server.store.record_flags and not self._is_strict:
            # Since a CONFIG SET or REPLICAOF of somebody in this batch, who is not to wait either.
            passing += [one for one in sessions if one.run_now == 1 and name_of(one.last_words[0]) == "config"]
        free = dict.fromkeys(passing)
        waiting = [session for session in sessions if session not in free]
        if self._is_strict and self._server.store.is_copy:  # it has become a replica in the middle of the batch
            self._is_strict = False
            for session in waiting:
                if session.output:
                    session.kill()
        else:
            self.keep(waiting, lsn)
        return list(free)

    def refuse(self) -> None:
        """Cut off who waits for replicas, because this server becomes one."""
        waiting, self._waiting = self._waiting, deque()
        for _, sessions in waiting:
            for session in sessions:
                _cut_off(session)

    def keep(self, sessions: list[Session], lsn: int) -> None:
        """Keep the replies of these sessions until the log is safe up to `lsn`."""
        for session in sessions:
            self._keep(session, session.output)
            session.output = b""
        self._waiting.append((lsn, sessions))
        self.sync()

    def _keep(self, session: Session, data: bytes) -> None:
        """Keep replies of a session, if it does not have too many unread ones already."""
        session.kept.append(data)
        session.kept_bytes += len(data)
        if session.kept_bytes > _KEPT_BYTES:
            self._server.limit_output(session, session.unsent_bytes)

    def is_waiting(self, session: Session) -> bool:
        """Tell whether replies of the session wait."""
        return bool(session.kept)

    def send_behind(self, session: Session, data: bytes) -> None:
        """Send replies behind those that wait."""
        if self._waiting:
            self._keep(session, data)
            self._waiting.append((self._server.executor.lsn, [session]))
            self.sync()
        else:
            session.send(data)
            session.sent_bytes += len(data)

    def release(self) -> None:
        """Let the replies go whose part of the log is safe by now."""
        server, store = self._server, self._server.store
        safe_lsn = store.wal.synced_lsn if server.config.appendfsync == "always" else store.wal.end_lsn
        if store.record_flags:
            safe_lsn = min(safe_lsn, self._replicated_lsn())
        waiting = self._waiting
        while waiting and waiting[0][0] <= safe_lsn:
            for session in waiting.popleft()[1]:
                self._send_first(session)
                if session.closing or session.ends:
                    server.finish(session)

    @staticmethod
    def _send_first(session: Session) -> None:
        """Send the first of the replies that a session waits for, if it has not gone."""
        output = session.kept.pop(0) if session.kept else b""
        if output:
            session.kept_bytes -= len(output)
            session.send(output)
            session.sent_bytes += len(output)

    def let_go(self) -> None:
        """Let all go, for the log has been synced and closed, but for those whose replicas do not have it: they are cut off."""
        safe_lsn = self._replicated_lsn() if self._server.store.record_flags else self._server.executor.lsn
        for lsn, sessions in self._waiting:
            for session in sessions:
                if lsn <= safe_lsn:
                    self._send_first(session)
                else:
                    _cut_off(session)

    # --- syncs --------------------------------------------------------------------------------------------------------------------

    def _sync_here(self) -> bool:
        """Sync the log in the loop if syncs are quick of late; tell whether it was done. Raises SyncFailed.

        To hand a sync to a thread and its end back costs some 100 us and makes the interpreter's lock change hands while the loop
        is busy: measured, a quick disk served a third fewer SETs that way. On a slow disk the loop goes on meanwhile.
        """
        if self._syncing is not None or self._sync_us > _QUICK_SYNC_US:
            return False
        began = time.perf_counter_ns()
        self._server.store.wal.sync()
        self._note_sync(began)
        return True

    def _note_sync(self, began_ns: int) -> None:
        """Keep a running mean of how long syncs take."""
        self._sync_us += (((time.perf_counter_ns() - began_ns) / 1000) - self._sync_us) / 8

    def sync(self) -> None:
        """Let the sync thread sync the log, one sync at a time."""
        if self._syncing is None:
            self._sync_began_ns = time.perf_counter_ns()
            self._syncing = self._syncer.submit(self._server.store.wal.sync)
            self._syncing.add_done_callback(lambda _: self._server.loop.call_soon_threadsafe(self._synced))

    def _synced(self) -> None:
        """Take note of the sync that has finished."""
        if self._syncing is None:  # the store was closed meanwhile
            return
        syncing, self._syncing = self._syncing, None
        self._note_sync(self._sync_began_ns)
        try:
            lsn = syncing.result()
        except SyncFailed as failure:
            self._server.die(failure)
            return
        self.release()
        if self._waiting and self._waiting[0][0] > lsn:
            self.sync()
        self._server.role.synced()

    def apart(self, work: Callable[..., Any], *words: Any) -> None:
        """Do something else with the log in the sync thread."""
        self._syncer.submit(work, *words)

    def settle(self) -> None:
        """Wait for the sync that is under way, and for what else is done `apart`: the log is about to be closed. Raises SyncFailed."""
        if self._syncing is not None:
            self._syncing.result()
        self._syncer.submit(int).result()

    def close(self) -> None:
        """End the sync thread."""
        self._waiting.clear()
        self._syncer.shutdown()


def _cut_off(session: Session) -> None:
    """Cut off a client whose replies must not leave any more."""
    session.kept.clear()
    session.kept_bytes = 0
    session.kill()


def _asks_for_no_data(session: Session) -> bool:
    """Tell whether nothing that a session has asked, and nothing that is on its way to it, is of the data."""
    return not (session.pushed or session.gate & (Gate.LISTENS | Gate.MONITORS)) and all(
        name_of(words[0]) in _TELL_NO_DATA
        for words in (*session.requests, *(words for _, words in session.queued))
        if words
    )
