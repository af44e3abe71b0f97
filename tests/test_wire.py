"""The wire to the server that is copied: lines and files come whole, however they are cut up, and whatever ends them is told as what it is."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest
import uvloop

from lmdbredis.disk import Disk
from lmdbredis.errors import DiskFull, SyncFailed
from lmdbredis.wire import Wire, WireFailed
from tests.crash import FaultyDisk
from tests.replicas import wait_for

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

SIZE_BYTES = (40 << 20) + 12_345  # more than is handed to the disk at a time
WAIT_SECONDS_MAX = 20


class Other:
    """The other side: one connection, which a thread serves."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread: threading.Thread | None = None

    def begin(self, serve: Callable[[socket.socket], None]) -> None:
        """Take the next connection, and close it when it has been served."""

        def run() -> None:
            with self._listener.accept()[0] as sock:
                sock.settimeout(WAIT_SECONDS_MAX)
                serve(sock)

        self._thread = threading.Thread(target=run)
        self._thread.start()

    def close(self) -> None:
        self._listener.close()
        if self._thread is not None:
            self._thread.join(WAIT_SECONDS_MAX)
            assert not self._thread.is_alive()


@pytest.fixture
def other() -> Iterator[Other]:
    """The other side of a wire."""
    made = Other()
    yield made
    made.close()


def on_wire(other: Other, work: Callable[[Wire], Awaitable[object]]) -> object:
    """Connect, work, and close, on the loop that the server has."""

    async def run() -> object:
        wire = await Wire.connect(asyncio.get_running_loop(), "localhost", other.port)
        try:
            async with asyncio.timeout(WAIT_SECONDS_MAX):
                return await work(wire)
        finally:
            wire.close()

    return uvloop.run(run())


def content(size_bytes: int) -> bytes:
    """Return bytes that are nowhere the same."""
    return random.Random(size_bytes).randbytes(size_bytes)


@pytest.mark.parametrize("piece_bytes", [1, 3, 100])
def test_lines_and_a_file(other: Other, tmp_path: Path, piece_bytes: int):
    """Lines, empty ones between them, a file behind a line, and what comes behind the file, cut up anyhow."""
    sent = b"\r\n+one\r\n\n\r\n$300\r\n" + content(300) + b"\n+two\r\nrest"

    def serve(sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(sent), piece_bytes):
            sock.sendall(sent[at : at + piece_bytes])

    async def work(wire: Wire) -> list[bytes]:
        lines = [await wire.line(), await wire.line()]
        await wire.save(tmp_path / "file", 300, Disk(), lambda _count: None)
        lines.append(await wire.line())
        rest = b""
        while data := await wire.read():
            rest += data
        assert wire.received_bytes == len(sent)
        return [*lines, rest]

    other.begin(serve)

    assert on_wire(other, work) == [b"+one", b"$300", b"+two", b"rest"]
    assert (tmp_path / "file").read_bytes() == content(300)


def test_a_large_file(other: Other, tmp_path: Path):
    """Each byte of it is there and told of, and the loop is free while it comes."""
    sent, told, turns = content(SIZE_BYTES), [], 0

    async def work(wire: Wire) -> None:
        async def turn() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0.001)
                turns += 1

        turning = asyncio.ensure_future(turn())
        await wire.save(tmp_path / "file", SIZE_BYTES, Disk(), told.append)
        turning.cancel()

    other.begin(lambda sock: sock.sendall(sent))
    on_wire(other, work)

    assert (tmp_path / "file").read_bytes() == sent
    assert sum(told) == SIZE_BYTES
    assert turns > 0


def test_an_end_in_the_middle(other: Other, tmp_path: Path):
    """The other side closes: in a line, and in a file."""

    async def line(wire: Wire) -> None:
        await wire.line()

    async def file(wire: Wire) -> None:
        await wire.save(tmp_path / "file", 1000, Disk(), lambda _count: None)

    for work in (line, file):
        other.begin(lambda sock: sock.sendall(b"$12"))
        with pytest.raises(WireFailed, match="closed the connection"):
            on_wire(other, work)


def test_no_line(other: Other):
    """What has no end is no line."""
    other.begin(lambda sock: sock.sendall(b"x" * 100_000))
    with pytest.raises(WireFailed, match="no line"):
        on_wire(other, lambda wire: wire.line())


@pytest.mark.parametrize(("room_bytes", "syncs_fail", "expected"), [(1000, False, DiskFull), (None, True, SyncFailed)])
def test_a_disk_that_fails(
    other: Other, tmp_path: Path, room_bytes: int | None, syncs_fail: bool, expected: type[Exception]
):
    """A full disk is known before anything has come; a sync that fails is told."""
    disk = FaultyDisk()
    disk.room_bytes, disk.syncs_fail = room_bytes, syncs_fail
    other.begin(lambda sock: sock.sendall(content(5000)))
    with pytest.raises(expected):
        on_wire(other, lambda wire: wire.save(tmp_path / "file", 5000, disk, lambda _count: None))


def test_stopped_in_a_file(other: Other, tmp_path: Path):
    """Who is stopped while a file comes is stopped at once; the thread ends, and what it has written takes no room."""
    may_end = threading.Event()

    def serve(sock: socket.socket) -> None:
        sock.sendall(b"x" * 1000)
        may_end.wait(WAIT_SECONDS_MAX)
        sock.recv(1)  # its end

    async def work(wire: Wire) -> None:
        came, loop = asyncio.Event(), asyncio.get_running_loop()

        def tell(count: int) -> None:
            if count:
                loop.call_soon_threadsafe(came.set)

        saving = asyncio.ensure_future(wire.save(tmp_path / "file", 5000, Disk(), tell))
        await came.wait()
        saving.cancel()
        wire.cut()
        with pytest.raises(asyncio.CancelledError):
            await saving
        may_end.set()

    other.begin(serve)
    on_wire(other, work)

    wait_for(lambda: (tmp_path / "file").stat().st_size == 0, "the thread to end")


def test_who_takes_nothing(other: Other):
    """A command that cannot leave ends the connection."""
    may_end = threading.Event()

    async def work(wire: Wire) -> bytes:
        for _ in range(1000):
            wire.send(b"x" * 100_000)
        try:
            return await wire.read()
        finally:
            may_end.set()

    other.begin(lambda _sock: may_end.wait(WAIT_SECONDS_MAX) and None)
    assert on_wire(other, work) == b""


def test_many_empty_lines(other: Other):
    """Lines without anything cost no more than their bytes, and the one behind them is found."""
    other.begin(lambda sock: sock.sendall(b"\n" * (4 << 20) + b"+OK\r\n"))
    began = time.process_time()
    assert on_wire(other, lambda wire: wire.line()) == b"+OK"
    assert time.process_time() - began < 5


def test_a_port_that_cannot_be():
    """Of a number that is too long the system would take the last bits."""

    async def connect() -> None:
        await Wire.connect(asyncio.get_running_loop(), "127.0.0.1", 65536 + 80)

    with pytest.raises(WireFailed, match="no port 65616"):
        asyncio.run(connect())


def test_nobody_is_there(other: Other):
    """Where nobody listens there is no wire."""
    other.close()
    with pytest.raises(ConnectionRefusedError):
        on_wire(other, lambda wire: wire.line())
