"""Busy: the other clients, while a script runs for long.

Theory. A script runs in the loop's thread, inside a batch, and the loop cannot be entered again. So past ``busy-reply-threshold`` the
sockets are served by hand: the script's hook comes here every millisecond or so (`Busy.tick`), and whatever the clients have
sent by then is read, parsed and answered. Nearly everything is answered with BUSY; SCRIPT KILL, SHUTDOWN NOSAVE and commands
that touch nothing but their own session (ALLOW_BUSY) do what they say.

Laws:

1. Nothing that is answered here touches the store: the batch of the script is open.
2. Replies keep their order: who has replies under way, in the batch of the script or at the barrier, is heard, but what he is
   answered leaves behind them. Those that only tell what was there before the batch, which has written nothing, leave first. The
   client of the script is not read from.
3. Clients who come meanwhile are accepted by hand, through a stand-in for the transport, and given to the loop afterwards.

It belongs to the server's room: it knows sockets and the clock.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import time
from typing import TYPE_CHECKING, Any, Final

from lmdbredis import errors
from lmdbredis.errors import ReplyError
from lmdbredis.lobby import is_told
from lmdbredis.registry import ALLOW_BUSY, READ, find
from lmdbredis.resp import NO_REPLY, OK, encode2
from lmdbredis.session import NO_REQUESTS, STANDS, Gate
from lmdbredis.watches import Later

if TYPE_CHECKING:
    from lmdbredis.connection import Connection
    from lmdbredis.server import RedisServer
    from lmdbredis.session import Session

log = logging.getLogger("lmdbredis")

_READ_BYTES: Final = 1 << 16
_TALK: Final = frozenset({"ping", "echo"})
_SILENT: Final = Gate.REPLY_OFF | Gate.REPLY_SKIP


def _has_only_read(session: Session) -> bool:
    """Tell whether all that a session has asked for in its turn, which is over, told something and changed nothing, not even the session."""
    if not session.output or session.gate or not session.run_now:
        return False
    commands = [find(words) for words in session.requests[: session.run_now]]
    return all(command and (command.flags & READ or command.name in _TALK) for command in commands)


class Busy:
    """Whether a script has run for too long, and what is done then."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._began_ms = 0
        self._serves = False  # the running script is past the threshold
        self._kill = False  # it is to be ended
        self._poll = select.poll()
        self._connections: dict[int, Connection] = {}  # by descriptor: those that are read from here
        self._doors: dict[int, socket.socket] = {}  # listening sockets, by descriptor
        self._guests: list[StandIn] = []  # accepted here, not given to the loop yet
        self._late: dict[
            Session, list[bytes]
        ] = {}  # of those who have replies under way: what they have been answered since

    def tick(self, *, is_first: bool) -> bool:
        """Serve the clients if the script has run for too long; tell whether to end it. `is_first`: it has just begun."""
        now_ms = time.monotonic_ns() // 1_000_000
        if is_first:
            self._began_ms, self._kill, self._serves = now_ms, False, False
        threshold_ms = self._server.config.busy_reply_threshold_ms
        if threshold_ms <= 0 or now_ms - self._began_ms < threshold_ms:
            return False
        if not self._serves:
            self._serves = True
            self._begin(now_ms - self._began_ms)
        for guest in self._guests:
            guest.flush()
        for fd, _ in self._poll.poll(0):
            if fd in self._doors:
                self._accept(self._doors[fd])
            else:
                self._read(fd)
        return self._kill

    def end(self) -> None:
        """Give everything back to the loop: the script is over."""
        for fd in (*self._connections, *self._doors):
            self._poll.unregister(fd)
        self._connections.clear()
        for door in self._doors.values():
            door.close()
        self._doors.clear()
        guests, self._guests = self._guests, []
        for guest in guests:
            guest.hand_over()
        late, self._late = self._late, {}
        for session, data in late.items():
            if data:
                self._server.barrier.send_behind(session, b"".join(data))

    def _begin(self, ran_ms: int) -> None:
        """Take the sockets from the loop, which cannot look after them now."""
        server = self._server
        log.warning(
            "Slow script detected: still in execution after %d milliseconds. You can try killing the script using the SCRIPT KILL command.",
            ran_ms,
        )
        server.loop.call_soon(self.end)
        server.sync_soon()
        is_clean = self._is_clean()
        for connection in list(server.connections.values()):
            session = connection.session
            if self._is_held(session):
                continue
            self._register(connection)
            if session in self._late:  # from another script of this batch
                continue
            if is_clean and _has_only_read(session):
                self._let_go(session)
            if session.output or server.barrier.is_waiting(session):
                self._late[session] = []
            else:
                requests, session.requests = session.requests, NO_REQUESTS
                self._answer_all(connection, requests)
        for listening in server.listening:
            for door in getattr(listening, "sockets", ()):
                own = socket.socket(door.family, door.type, 0, os.dup(door.fileno()))
                own.setblocking(False)
                self._doors[own.fileno()] = own
                self._poll.register(own.fileno(), select.POLLIN)

    def _is_clean(self) -> bool:
        """Tell whether nothing has been written in the batch so far, and what was read before is as safe as was promised."""
        server, store, keyspace = self._server, self._server.store, self._server.keyspace
        has_written = (
            keyspace.dirty or keyspace.dirty_parts or store.notes or any(table.batch for table in store.tables)
        )
        is_safe = server.config.appendfsync != "always" or store.wal.synced_lsn == store.wal.end_lsn
        return is_safe and not (has_written or server.barrier or store.record_flags)

    def _let_go(self, session: Session) -> None:
        """Let the replies of a session's turn go. They were made before the script, and are not made again if the batch is undone."""
        self._server.barrier.send_behind(session, session.output)
        session.output, session.requests, session.run_now = b"", NO_REQUESTS, 0

    def _is_held(self, session: Session) -> bool:
        """Tell whether a session must not be heard: the script is its own, it ends or waits, or some of its requests are still to run."""
        return bool(
            session is self._server.executor.cx.session
            or session.closing
            or session.ends
            or (session.gate and session.gate & STANDS)
            or (session.is_ready and session.gate & _SILENT)
            or (session.output and len(session.requests) > session.run_now)
        )

    # --- clients ----------------------------------------------------------------------------------------------------------------

    def _register(self, connection: Connection) -> None:
        fd = connection.session.fd
        self._connections[fd] = connection
        self._poll.register(fd, select.POLLIN)

    def _forget(self, fd: int) -> None:
        """Leave a socket to the loop: it has ended, or is about to."""
        if self._connections.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def _accept(self, door: socket.socket) -> None:
        """Let a client in."""
        try:
            sock, peer = door.accept()
        except OSError:  # gone again
            return
        sock.setblocking(False)
        guest = StandIn(self._server, sock, peer)
        guest.connection.connection_made(guest)  # type: ignore[arg-type] # it does what a transport does
        if guest.connection.session is None:  # refused: it has been told
            sock.close()
            return
        self._guests.append(guest)
        self._register(guest.connection)

    def _read(self, fd: int) -> None:
        """Answer what a client has sent."""
        connection = self._connections[fd]
        session = connection.session
        try:
            data = os.read(fd, _READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:  # the loop will read it as well, and close the connection
            self._forget(fd)
            return
        session.received_bytes += len(data)
        parser = session.parser
        requests = parser.feed(data)
        while requests:
            self._answer_all(connection, requests)
            requests = [] if parser.authenticated else parser.feed(b"")  # it holds back what a stranger must not send
        if parser.error is not None and not session.closing:
            self._send(session, encode2(ReplyError(parser.error)))
            session.closing = True
            self._server.ready(session)
        if session.closing or session.ends:
            self._forget(fd)

    def _answer_all(self, connection: Connection, requests: list[list[bytes]]) -> None:
        """Answer requests, one after another."""
        session = connection.session
        for words in requests:
            if session.closing:
                return
            mode = session.gate & _SILENT
            session.gate &= ~Gate.REPLY_SKIP
            value = self._answer(session, words)
            if value is not NO_REPLY and (not mode or is_told(mode, find(words), value)):
                self._send(session, session.encode[value.__class__](value))
        if session.closing:
            self._server.ready(session)  # closed by the loop, when it comes to it

    def _send(self, session: Session, data: bytes) -> None:
        """Send a reply, or keep it until those before it have left (law 2)."""
        if session in self._late:
            self._late[session].append(data)
        else:
            session.send(data)
            session.sent_bytes += len(data)

    # --- requests ---------------------------------------------------------------------------------------------------------------

    def _answer(self, session: Session, words: list[bytes]) -> Any:
        """Return the reply to one request."""
        executor = self._server.executor
        undone = len(executor.if_undone)
        try:
            command = executor.resolve(session, words)
            if command.name == "script|kill":
                return self._script_kill()
            if command.name == "shutdown" and [word.upper() for word in words[1:]] == [b"NOSAVE"]:
                self._server.end_now()
            if command.name != "shutdown" and command.flags & ALLOW_BUSY:
                return self._run(session, command, words)
            if command.name == "exec":
                executor.cx.session, running = session, executor.cx.session
                try:
                    executor.unwatch(session)
                finally:
                    executor.cx.session = running
                session.end_transaction()
                return ReplyError(errors.EXEC_REFUSED % errors.BUSY)
            raise ReplyError(errors.BUSY)
        except ReplyError as error:
            if session.gate & Gate.IN_MULTI:
                session.aborts = True
            return error
        finally:
            del executor.if_undone[undone:]  # it is answered: the batch of the script may be undone, this may not

    def _script_kill(self) -> Any:
        """End the script, unless it has written. Raises ReplyError."""
        if self._server.executor.scripting.has_written:
            raise ReplyError(errors.UNKILLABLE)
        self._kill = True
        return OK

    def _run(self, session: Session, command: Any, words: list[bytes]) -> Any:
        """Run a command that touches nothing but its session. Raises ReplyError."""
        cx, keyspace = self._server.executor.cx, self._server.keyspace
        running, database, may_expire = cx.session, cx.db, keyspace.may_expire
        cx.session, cx.db, keyspace.may_expire = session, session.database, False  # WATCH looks, and deletes nothing
        try:
            return command.handler(cx, *words[command.name_words :])
        except Later:  # the script has touched the key
            raise ReplyError(errors.BUSY) from None
        finally:
            cx.session, cx.db, keyspace.may_expire = running, database, may_expire


class StandIn:
    """What a connection takes for its transport until the loop can make one."""

    def __init__(self, server: RedisServer, sock: socket.socket, peer: Any) -> None:
        self._server = server
        self._sock = sock
        self._peer = peer
        self._unsent = b""
        self._is_over = False
        self.connection: Connection = server.new_connection()

    def get_extra_info(self, name: str) -> Any:
        """Return the socket or the address of its peer."""
        return self._sock if name == "socket" else self._peer

    def set_write_buffer_limits(self, high: int) -> None:
        """Refuse nothing, as told."""

    def get_write_buffer_size(self) -> int:
        """Return how many bytes the socket has not taken."""
        return len(self._unsent)

    def write(self, data: bytes) -> None:
        """Send what the socket takes, and keep the rest."""
        if not self._is_over:
            self._unsent += data
            self.flush()

    def flush(self) -> None:
        """Send what is kept, as far as the socket takes it."""
        if self._unsent and not self._is_over:
            try:
                self._unsent = self._unsent[self._sock.send(self._unsent) :]
            except BlockingIOError:
                pass
            except OSError:  # the peer is gone: the loop will notice
                self._unsent = b""

    def close(self) -> None:
        """End the connection when the loop has it."""
        self._is_over = True

    abort = close

    def hand_over(self) -> None:
        """Give the connection to the loop."""
        self.connection.is_adopted = True
        made = self._server.loop.create_task(
            self._server.loop.connect_accepted_socket(lambda: self.connection, self._sock)
        )
        made.add_done_callback(self._handed_over)
        self._server.handing_over.add(made)

    def _handed_over(self, made: Any) -> None:
        self._server.handing_over.discard(made)
        if made.exception() is not None:  # the peer is gone
            self._server.forget(self.connection.session)
            self._sock.close()
            return
        transport = self.connection.transport
        if self._unsent:
            transport.write(self._unsent)
        if self._is_over:
            transport.close()
