"""The wire: the connection to the server that this one copies; lines, bytes and whole files come, commands go.

Theory. The socket is our own, not a transport's: what comes is read when it is wanted, and a file's bytes, of which there may be many
gigabytes, go straight from the socket into the file in a thread, while the loop goes on. Each part of the file is handed to the disk as
soon as it is written, so that the sync at the end finds little left to do: measured, 2 GB were on disk in 1.5 s instead of 2.6.

Laws: one reader at a time; whoever cuts only shuts the connection down, so that whoever reads sees its end, and closes.

It knows a socket and files, and nothing of what is said.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from lmdbredis.disk import Writeback

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lmdbredis.disk import Disk

_READ_BYTES: Final = 512 << 10
_LINE_BYTES_MAX: Final = 64 << 10
_PORT_MAX: Final = 65535
_PIECE_BYTES: Final = 1 << 20
_POLL_MS: Final = 1000
_SIGN_OF_LIFE_S: Final = 0.5


class WireFailed(OSError):
    """The other side has closed the connection, or what comes is no line."""


class Wire:
    """A connection. Raises OSError, WireFailed among them, where it breaks."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        """Take a connected socket that does not block."""
        self._loop = loop
        self._sock = sock
        self._held = b""  # what came behind a line
        self.received_bytes = 0

    @classmethod
    async def connect(cls, loop: asyncio.AbstractEventLoop, host: str, port: int) -> Wire:
        """Connect to the first address of the host that answers. Raises OSError."""
        failure: OSError | None = None
        if not 0 < port <= _PORT_MAX:  # of a longer number the system takes the last bits
            raise WireFailed(f"there is no port {port}")
        try:
            addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except UnicodeError as error:
            raise WireFailed(f"{host!r} is no name of a host") from error
        for family, kind, protocol, _, address in addresses:
            sock = socket.socket(family, kind, protocol)
            try:
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await loop.sock_connect(sock, address)
            except OSError as error:
                sock.close()
                failure = error
            except BaseException:
                sock.close()
                raise
            else:
                return cls(loop, sock)
        raise failure or WireFailed(f"{host} has no address")

    async def read(self) -> bytes:
        """Return what comes next, empty at the end."""
        held, self._held = self._held, b""
        return held or await self._receive()

    async def _receive(self) -> bytes:
        data = await self._loop.sock_recv(self._sock, _READ_BYTES)
        self.received_bytes += len(data)
        return data

    async def line(self) -> bytes:
        """Return the next line that is not empty, without its end."""
        while True:
            self._held = self._held.lstrip()  # of a flood of empty lines
            line, found, rest = self._held.partition(b"\n")
            if found:
                self._held = rest
                if line.strip():
                    return line.strip()
                continue
            if len(line) > _LINE_BYTES_MAX:
                raise WireFailed("what comes is no line")
            data = await self._receive()
            if not data:
                raise WireFailed("it has closed the connection")
            self._held += data

    def send(self, data: bytes) -> None:
        """Send a command. What is sent is little: where the other side takes not even that, the connection ends."""
        try:
            if self._sock.send(data) == len(data):
                return
        except OSError:
            pass
        self.cut()

    async def save(self, path: Path, size_bytes: int, disk: Disk, tell: Callable[[int], None]) -> None:
        """Write the next `size_bytes` bytes that come into a new file, and the file to disk.

        `tell` hears in the thread how many bytes more have come, and of none now and then while the disk is busy with them. Raises
        DiskFull and SyncFailed, too.
        """
        head, self._held = self._held[:size_bytes], self._held[size_bytes:]
        fd = disk.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        source = os.dup(self._sock.fileno())
        is_whole = False

        def receive() -> None:
            nonlocal is_whole
            try:
                disk.allocate(fd, size_bytes)
                self._fill(fd, source, head, size_bytes, disk, tell)
                is_whole = True
                disk.fdatasync(fd)
            except BaseException:
                os.ftruncate(fd, 0)  # nobody wants a part, and the disk may need the room
                raise
            finally:  # not where it is awaited: who stops waiting does not stop the thread
                os.close(source)
                os.close(fd)

        done = self._loop.run_in_executor(None, receive)
        done.add_done_callback(_take_note)
        while not done.done():
            await asyncio.wait([done], timeout=_SIGN_OF_LIFE_S)
            if is_whole:
                tell(0)
        done.result()

    def _fill(
        self, fd: int, source: int, head: bytes, size_bytes: int, disk: Disk, tell: Callable[[int], None]
    ) -> None:
        """Write `head` and then what comes from the socket into the file. In a thread."""
        disk.pwrite(fd, [head], 0)
        tell(len(head))
        at, room = len(head), memoryview(bytearray(_PIECE_BYTES))
        writeback = Writeback(fd)
        poll = select.poll()
        poll.register(source, select.POLLIN)
        while at < size_bytes:
            try:
                count = os.readv(source, [room[: size_bytes - at]])
            except BlockingIOError:
                poll.poll(_POLL_MS)
                continue
            if not count:
                raise WireFailed("it has closed the connection in the middle of a file")
            disk.pwrite(fd, [room[:count]], at)
            at += count
            self.received_bytes += count
            tell(count)
            writeback.note(at)

    def cut(self) -> None:
        """End the connection: whoever reads from it sees its end."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let the socket go, for whoever read from it."""
        self.cut()
        self._sock.close()


def _take_note(done: asyncio.Future[None]) -> None:
    """Take note of how a thread has ended, so that the loop does not complain when nobody waits for it any more."""
    if not done.cancelled():
        done.exception()
