"""A connection: one socket and its session.

Theory. The loop calls `Connection.data_received` with what a socket held; the parser makes requests of it, and the session is ready for
the next tick. Replies go straight into the socket while it takes all of them, which costs a third of the transport's way.

Laws: a client that sends more than the query-buffer limit without a whole request, in a transaction, or while it is blocked or paused,
is cut off, and one whose requests pile up otherwise is not read from until they have run; whatever a stranger sends before AUTH is held to far lower limits (see `requests`).

It belongs to the server's room: one room, several files.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from typing import TYPE_CHECKING, Any, Final, cast

from lmdbredis.errors import ReplyError
from lmdbredis.measures import now_us
from lmdbredis.resp import encode2
from lmdbredis.session import STANDS, Gate, Session

if TYPE_CHECKING:
    from lmdbredis.server import RedisServer

log = logging.getLogger("lmdbredis")

_UNREAD_REQUESTS_MAX: Final = 4096  # a session with more parsed requests is not read from until they have run
_SOL_KEEPIDLE: Final = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)


class Connection(asyncio.Protocol):
    """One socket and its session."""

    __slots__ = ("_fd", "_held_bytes", "_is_clear", "_reading", "_server", "is_adopted", "session", "transport")

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._reading = True
        self._fd = -1
        self._is_clear = True  # the transport holds no bytes that the socket has not taken
        self._held_bytes = 0  # no fewer than those of the requests that wait behind others
        self.is_adopted = False  # it has been served by hand: the transport to come is for its session
        self.session: Session = None  # type: ignore[assignment]  # made with the connection
        self.transport: asyncio.Transport = None  # type: ignore[assignment]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Open a session, or refuse the client."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are not of asyncio's class
        if self.is_adopted:
            self._bind()
            return
        server = self._server
        transport = self.transport
        sock = transport.get_extra_info("socket")
        self._fd = sock.fileno()
        peer = transport.get_extra_info("peername")
        if sock.family == socket.AF_UNIX:
            address = local = f"{server.config.unixsocket}:0"
        elif peer is None:  # gone already
            transport.abort()
            return
        else:
            address, local = _endpoint(peer), _endpoint(sock.getsockname())
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _keep_alive(sock, server.config.tcp_keepalive_s)
        refusal = server.refusal_of(sock)
        if refusal is not None:
            server.measures.rejected_connections += 1
            transport.write(encode2(ReplyError(refusal)))
            transport.close()
            return
        session = self.session = server.sessions.open(server.keyspace.databases[0], address, local, now_us() // 1000)
        server.measures.connections_received += 1
        self._bind()
        session.parser.bulk_bytes_max = server.config.proto_max_bulk_len_bytes
        if server.config.requirepass:
            session.gate = Gate.NEEDS_AUTH
            session.parser.authenticated = False
        server.connections[session.id] = self

    def _bind(self) -> None:
        """Let the session speak through the transport."""
        session, transport = self.session, self.transport
        transport.set_write_buffer_limits(high=1 << 30)  # replies are never refused: the output-buffer limit decides
        session.fd = self._fd = transport.get_extra_info("socket").fileno()
        session.send = self.send
        session.kill = transport.abort
        session.pending_output_bytes = transport.get_write_buffer_size

    def data_received(self, data: bytes) -> None:
        """Parse what came; the tick runs it."""
        session = self.session
        if session is None or session.closing:
            return
        session.received_bytes += len(data)
        parser = session.parser
        requests = parser.feed(data)
        if requests:
            if session.requests:
                session.requests += requests
                self._hold(len(data))
            else:
                session.requests = requests
            if not session.is_ready:
                self._server.ready(session)
            if session.gate and session.gate & Gate.IN_MULTI:
                self._limit_queue()
            # The parser may hold back what a stranger must not send; after the tick this may be none.
            if not parser.authenticated:
                self._server.loop.call_soon(self.data_received, b"")
        elif parser.buffered_bytes > self._server.config.client_query_buffer_limit_bytes:
            self._cut_off()
        if parser.error is not None:
            session.ends = True
            self._server.ready(session)

    def _limit_queue(self) -> None:
        """Cut off a client whose transaction has become too long: what is queued counts as if it had not been read."""
        session = self.session
        if session.received_bytes - session.queued_from > self._server.config.client_query_buffer_limit_bytes:
            self._cut_off()

    def _hold(self, more_bytes: int) -> None:
        """Take note that requests wait behind others of this client: where they are too much it is not read from, and cut off if it stands."""
        self._held_bytes += more_bytes
        if not self._has_room():
            if self.session.gate & STANDS and self._held_bytes > self._server.config.client_query_buffer_limit_bytes:
                self._cut_off()
            else:
                self.pause()

    def _has_room(self) -> bool:
        """Tell whether more requests may come."""
        requests, limit_bytes = self.session.requests, self._server.config.client_query_buffer_limit_bytes
        if self._held_bytes > limit_bytes:
            self._held_bytes = sum(len(word) for words in requests for word in words)  # most have run by now
        return len(requests) <= _UNREAD_REQUESTS_MAX and self._held_bytes <= limit_bytes

    def _cut_off(self) -> None:
        """Close the connection of who has sent too much that cannot be run yet."""
        session = self.session
        log.warning("Closing client that reached max query buffer length: id=%d addr=%s", session.id, session.address)
        self._server.measures.query_disconnections += 1
        self.transport.abort()

    def send(self, data: bytes) -> None:
        """Send replies: straight into the socket while it takes all, which costs a third of the transport's way."""
        if self._is_clear:
            try:
                sent = os.write(self._fd, data)
            except BlockingIOError:
                sent = 0
            except OSError:  # the peer is gone: the transport will notice
                return
            if sent == len(data):
                return
            data = data[sent:]
            self._is_clear = False
        self.transport.write(data)
        pending_bytes = self.transport.get_write_buffer_size()
        self._is_clear = not pending_bytes
        if pending_bytes:
            self._server.limit_output(self.session, pending_bytes)

    def pause(self) -> None:
        """Read no more until the requests that wait have run."""
        if self._reading:
            self._reading = False
            self._server.paused.add(self)
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read again, if few enough requests wait."""
        if self._has_room():
            self._reading = True
            self._server.paused.discard(self)
            self.transport.resume_reading()

    def eof_received(self) -> bool:
        """Let replies under way leave before the socket closes."""
        session = self.session
        if session is not None and session.gate and session.gate & STANDS:  # who waits, waits for nobody now
            return False
        if session is not None and (session.requests or self._server.barrier.is_waiting(session)):
            session.ends = True
            return True
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncio's signature
        """Forget the session."""
        self._fd, self._is_clear = -1, True  # replies that wait at the barrier must not reach who gets this number next
        if self.session is not None:
            self._server.forget(self.session)


def _endpoint(name: Any) -> str:
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"


def _keep_alive(sock: Any, seconds: int) -> None:
    """Let the kernel find out that a peer is gone, as redis-server does."""
    if seconds:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in zip(_SOL_KEEPIDLE, (seconds, max(seconds // 3, 1), 3), strict=True):
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
