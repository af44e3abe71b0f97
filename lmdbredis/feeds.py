"""Feeds: what this server sends to those who copy it: a snapshot where one is needed, then the log.

Theory. A replica asks where it wants to go on (PSYNC). If its log agrees with this one and this one still has the bytes, it gets them
(``+CONTINUE``); else a snapshot first (``+FULLRESYNC``): the segment of the log that the snapshot's lsn stands in, up to there, then the
pages of data.mdb, and from then on the log. A thread sends the snapshot from file to socket, so the loop goes on and nothing is held in
memory; the log is read back from its file, where it was just written, so a replica that is slow costs no memory either.

Laws:

1. What a feed still has to send, and what a replica that was lost a moment ago will ask for, is not trimmed from the log; nor is
   anything for a while after the start, for whoever was lost with the last process. A full disk ends both.
2. Who does not read is cut off: past the output-buffer limit of replicas if it takes nothing for a second, and after repl-timeout in
   any case.
3. A replica's session gets nothing but this: its commands have no replies.
4. Who is cut off gets nothing more, at once: the pages of his snapshot may be used again.

It belongs to the server's room: one room, several files.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from lmdbredis import format as fmt
from lmdbredis import shipping, wal
from lmdbredis.errors import StorageError
from lmdbredis.measures import clock_ms
from lmdbredis.replication import COPIES, ONLINE
from lmdbredis.session import Gate

if TYPE_CHECKING:
    import asyncio

    from lmdbredis.replication import Replica
    from lmdbredis.server import RedisServer
    from lmdbredis.session import Session
    from lmdbredis.snapshots import Copy

log = logging.getLogger("lmdbredis")

_SHIP_S: Final = (
    0.01  # what is logged so soon after the last goes out together with what follows, unless somebody waits for it
)
_AGAIN_S: Final = 0.001  # to a socket that has not taken everything
_PART_BYTES: Final = 256 << 10
_UNSENT_BYTES: Final = 1 << 20  # what a socket has not taken: more is not read from the log
_ANYBODY: Final = ""  # the address of a replica of whom this process does not know
_ANYBODY_SEGMENTS: Final = 4  # so much may be logged while the log is kept for him
_COPIES_MAX: Final = 256  # snapshots that are on their way at once: each has a place in the engine's table of readers
NOTHING_KEPT: Final = 1 << 63
# So far before an address the last record ends that a log has there, at the latest: a segment may have been all but begun.
_RECORD_BEFORE: Final = fmt.SEGMENT_HEADER_BYTES + 1


class Feed:
    """What one replica gets."""

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self.session: Session = replica.session
        self.outgoing: shipping.Outgoing | None = None  # of the log, once it is its turn
        self.sock: socket.socket | None = None  # through which a thread sends the snapshot, until it has ended
        self.keep_lsn = 0  # where it begins
        self.seen_lsn = -1  # how far it was at the last look

    @property
    def lsn(self) -> int:
        """Return the address of the next byte that it gets."""
        return self.outgoing.lsn if self.outgoing is not None else self.keep_lsn

    @property
    def needed_lsn(self) -> int:
        """Return where it goes on if the connection breaks now: where it began, until it has said more."""
        return min(max(self.replica.lsn, self.keep_lsn), self.outgoing.lsn) if self.outgoing else self.keep_lsn

    def cut(self) -> None:
        """Send no more (law 4).

        A thread that sends a snapshot has a descriptor of its own, so the connection would outlive the session's. Shut down, it takes
        nothing any more: the thread ends with its next write, and nobody need wait for it, since what it has read before was pinned.
        """
        if self.outgoing is not None:
            self.outgoing.close()
        if self.sock is not None:
            with suppress(OSError):  # the other side has closed it
                self.sock.shutdown(socket.SHUT_RDWR)


class Feeds:
    """All of them."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._by_session: dict[Session, Feed] = {}
        self._lost: dict[
            str, tuple[int, int]
        ] = {}  # address of a replica that is gone -> (its lsn, until when it is kept)
        # Somebody may have been lost when the last process ended: he comes back, or is the primary by now.
        self._lost[_ANYBODY] = 0, clock_ms() + server.config.repl_timeout_s * 1000
        self._anybody_max_lsn = 0  # the log is kept for him up to here, from the first look on
        self._timer: asyncio.TimerHandle | None = None
        self._shipped_lsn = -1  # where the log ended when it was shipped last
        self._shipped_at_s = 0.0  # when that was, by the loop's clock
        self.reset_counts()

    def reset_counts(self) -> None:
        """Have done nothing yet: CONFIG RESETSTAT."""
        self.full_syncs = self.partial_syncs = self.refused_partial_syncs = 0
        self.sent_bytes = 0

    def __len__(self) -> int:
        return len(self._by_session)

    def keep_lsn(self) -> int:
        """Return from where on the log is needed: where a replica may want to go on, and the record before, which is compared then."""
        lost = [lsn for lsn, _ in self._lost.values()]
        return (
            min([feed.needed_lsn for feed in self._by_session.values()] + lost, default=NOTHING_KEPT) - _RECORD_BEFORE
        )

    # --- beginning -------------------------------------------------------------------------------------------------------------

    def begin(self, session: Session, replid: str, lsn: int, last: shipping.LastRecord | None) -> None:
        """Feed a replica whose log is of the history `replid` and ends at `lsn` with the record `last`: PSYNC. Between batches."""
        server, store = self._server, self._server.store
        replica = server.executor.replicas.of(session)
        session.gate |= Gate.REPLICATES
        if session in self._by_session:  # it asks again
            self._by_session[session].cut()
        feed = self._by_session[session] = Feed(replica)
        server.loop.call_soon(server.role.apply)
        replica.heard_ms = clock_ms()
        if server.config.repl_disable_tcp_nodelay and session.address[-2:] != ":0":
            connection = server.connections[session.id]
            sock = connection.transport.get_extra_info("socket")
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
        known = replid in {store.control.replid, store.control.replid2}
        try:
            if self._can_continue(replid, lsn, last):
                feed.outgoing = shipping.Outgoing(store.wal, lsn)
                feed.keep_lsn = lsn
                replica.acknowledge(lsn, 0, clock_ms())  # it has just said so
                self.partial_syncs += 1
                log.info("Partial resynchronization request from %s accepted, from lsn %016x", self._name(feed), lsn)
                session.send(b"+CONTINUE %b\r\n" % store.control.replid.encode())
                self._go_online(feed)
                return
            self.refused_partial_syncs += known
            self.full_syncs += 1
            self._begin_copy(feed)
        except (StorageError, OSError) as error:
            log.warning("Replica %s cannot be fed: %s", self._name(feed), error)
            session.kill()

    def _can_continue(self, replid: str, lsn: int, last: shipping.LastRecord | None) -> bool:
        """Tell whether a log of that history, with that end, is a beginning of this one, and this one still has what follows."""
        store = self._server.store
        control, directory = store.control, store.wal.directory
        if replid != control.replid and not (replid == control.replid2 and lsn <= control.replid2_lsn):
            return False
        bases = wal.segments(directory)
        if last is None or not last.lsn < lsn <= store.wal.end_lsn or lsn < bases[0]:
            return False
        begun = last.end_lsn + fmt.SEGMENT_HEADER_BYTES == lsn and last.end_lsn in bases
        return (last.end_lsn == lsn or begun) and shipping.agrees(directory, last)

    def _begin_copy(self, feed: Feed) -> None:
        """Send a snapshot, in a thread. Raises StorageError, OSError."""
        server = self._server
        store, session = server.store, feed.session
        if sum(one.sock is not None for one in self._by_session.values()) >= _COPIES_MAX:
            raise StorageError(f"{_COPIES_MAX} snapshots are on their way already")
        copy = store.copy()
        try:
            base = feed.keep_lsn = shipping.segment_before(store.wal.directory, copy.lsn)
            sock = socket.socket(fileno=os.dup(session.fd))
            try:
                log_fd = os.open(wal.segment_path(store.wal.directory, base), os.O_RDONLY)
            except BaseException:
                sock.close()
                raise
        except BaseException:
            copy.close()
            raise
        feed.sock, fd = sock, sock.fileno()
        control = store.control
        first_lsn = wal.segments(store.wal.directory)[0]
        head = f"+FULLRESYNC {control.replid} {copy.lsn} {control.replid2} {control.replid2_lsn} {first_lsn}\r\n"
        log.info(
            "Full resynchronization of replica %s: %d bytes, lsn %016x", self._name(feed), copy.size_bytes, copy.lsn
        )
        feed.replica.state = COPIES
        timeout_ms = server.config.repl_timeout_s * 1000

        def send() -> None:
            error: OSError | None = None
            try:
                _send_all(fd, head.encode() + b"$%d\r\n" % (copy.lsn - base), timeout_ms)
                _send_file(fd, log_fd, 0, copy.lsn - base, timeout_ms)
                _send_all(fd, b"$%d\r\n" % copy.size_bytes + copy.head, timeout_ms)
                _send_file(fd, copy.fd, len(copy.head), copy.size_bytes, timeout_ms)
            except OSError as failure:
                error = failure
            finally:
                os.close(log_fd)
            server.loop.call_soon_threadsafe(self._copied, feed, copy, error)

        threading.Thread(target=send, name="full-sync", daemon=True).start()

    def _copied(self, feed: Feed, copy: Copy, error: OSError | None) -> None:
        """Go on with the log, now that the snapshot has left."""
        self.sent_bytes += copy.size_bytes
        copy.close()
        if feed.sock is not None:  # not in the thread: `cut` must not meet a number that is somebody else's by then
            feed.sock.close()
            feed.sock = None
        if self._by_session.get(feed.session) is not feed:  # it is gone
            return
        if error is not None:
            log.warning("Connection with replica %s lost in the middle of its snapshot: %s", self._name(feed), error)
            feed.session.kill()
            return
        log.info("Synchronization with replica %s succeeded", self._name(feed))
        try:
            feed.outgoing = shipping.Outgoing(self._server.store.wal, copy.lsn)
        except (StorageError, OSError) as failure:
            log.warning("Replica %s cannot be fed: %s", self._name(feed), failure)
            feed.session.kill()
            return
        feed.keep_lsn = copy.lsn
        # The snapshot is in the sockets' buffers: that the replica has it, it must say itself.
        feed.replica.heard_ms = clock_ms()
        self._go_online(feed)

    def _go_online(self, feed: Feed) -> None:
        feed.replica.state = ONLINE
        self._lost.pop(self._name(feed), None)
        self._ship()

    # --- the log -----------------------------------------------------------------------------------------------------------------

    def nudge(self) -> None:
        """Let what has been logged go out soon; at once if somebody waits for it, or if it is the first for a while."""
        server = self._server
        if server.store.wal.end_lsn == self._shipped_lsn:
            return
        wait_s = self._shipped_at_s + _SHIP_S - server.loop.time()
        if wait_s <= 0 or server.executor.awaited or server.store.record_flags:
            self._ship()
        elif self._timer is None:
            self._timer = server.loop.call_later(wait_s, self._ship)

    def _ship(self) -> None:
        """Send every replica what it may have now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        end_lsn = self._shipped_lsn = self._server.store.wal.end_lsn
        self._shipped_at_s = self._server.loop.time()
        for feed in list(self._by_session.values()):
            outgoing = feed.outgoing
            if outgoing is None:
                continue
            try:
                while outgoing.lsn < end_lsn and feed.session.pending_output_bytes() < _UNSENT_BYTES:
                    data = outgoing.read(_PART_BYTES)
                    if not data:
                        raise StorageError(f"the log has a gap at {outgoing.lsn:016x}")
                    feed.session.send(data)
                    self.sent_bytes += len(data)
            except (StorageError, OSError) as error:
                log.warning("Replica %s cannot be fed any more: %s", self._name(feed), error)
                feed.session.kill()
            if outgoing.lsn < end_lsn and self._timer is None:
                self._timer = self._server.loop.call_later(_AGAIN_S, self._ship)

    def lag_bytes(self) -> int:
        """Return how far the last of the replicas that are online, and have said how far they are, is behind."""
        end_lsn = self._server.store.wal.end_lsn
        return max(
            (end_lsn - feed.replica.lsn for feed in self._by_session.values() if feed.replica.is_known), default=0
        )

    def cron(self) -> None:
        """Look after replicas that are silent or do not read: once a second (law 2)."""
        now_ms, config = clock_ms(), self._server.config
        hard, soft, _ = config.client_output_buffer_limit.replica
        end_lsn = self._server.store.wal.end_lsn
        for feed in list(self._by_session.values()):
            if feed.outgoing is None:
                continue
            behind_bytes, stands = end_lsn - feed.lsn, feed.lsn == feed.seen_lsn
            feed.seen_lsn = feed.lsn
            limit_bytes = min((limit for limit in (hard, soft) if limit), default=NOTHING_KEPT)
            if stands and behind_bytes > limit_bytes:
                log.warning(
                    "Replica %s does not read and is closed for overcoming of output buffer limits", self._name(feed)
                )
                feed.session.kill()
            elif feed.replica.lag_ms(now_ms) > config.repl_timeout_s * 1000:
                log.warning("Disconnecting timedout replica (streaming sync): %s", self._name(feed))
                feed.session.kill()
        self._anybody_max_lsn = self._anybody_max_lsn or end_lsn + _ANYBODY_SEGMENTS * config.wal_segment_size_bytes
        if end_lsn > self._anybody_max_lsn:
            self._lost.pop(_ANYBODY, None)
        if self._server.executor.refusal is not None:
            self.drop_lost()
        self._lost = {name: (lsn, until_ms) for name, (lsn, until_ms) in self._lost.items() if until_ms > now_ms}

    def forget(self, session: Session) -> None:
        """Take note that a client is gone; what a replica will ask for when it comes back is kept for a while (law 1)."""
        feed = self._by_session.pop(session, None)
        if feed is None:
            return
        self._server.loop.call_soon(self._server.role.apply)
        feed.cut()
        if feed.outgoing is not None:
            kept_ms = self._server.config.repl_timeout_s * 1000
            self._lost[self._name(feed)] = feed.needed_lsn, clock_ms() + kept_ms
        log.warning("Connection with replica %s lost.", self._name(feed))

    def let_go(self) -> None:
        """Cut off all replicas, at once: the history has another name now, or the log is another one."""
        for feed in list(self._by_session.values()):
            feed.session.kill()
            self.forget(feed.session)
            self._server.executor.replicas.forget(feed.session)

    def drop_lost(self) -> None:
        """Keep nothing any more for those who are gone: the disk is full, or the log is another one."""
        self._lost.clear()

    def _name(self, feed: Feed) -> str:
        return f"{feed.replica.address}:{feed.replica.port}"


def _wait_for_room(fd: int, timeout_ms: int) -> None:
    """Wait until the socket takes something. Raises TimeoutError."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    if not poll.poll(timeout_ms):
        raise TimeoutError("it does not read")


def _send_all(fd: int, data: bytes | memoryview, timeout_ms: int) -> None:
    """Write all of it into a socket that does not block. Raises OSError."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            _wait_for_room(fd, timeout_ms)


def _send_file(fd: int, file: int, start: int, end: int, timeout_ms: int) -> None:
    """Write a part of a file into a socket that does not block; what the file lacks are zeros. Raises OSError.

    Not by sendfile: what waits in the sockets would still be the file's own pages, and change with them once the snapshot is let go.
    """
    part = memoryview(bytearray(_PART_BYTES))
    at = start
    while at < end:
        count = os.preadv(file, [part[: end - at]], at)
        if not count:  # the file's end
            count = min(end - at, _PART_BYTES)
            part[:count] = bytes(count)
        _send_all(fd, part[:count], timeout_ms)
        at += count
