"""A yardstick for `floor`, no server: GET and SET with nothing around them.

    python -m benchmarks.prototype sockets|parser|engine PORT DIR

    sockets   bytes come, as many replies go as requests seem to have come: what uvloop and the kernel take
    parser    the requests are read, by the parser that the server has
    engine    and done, a tick's requests together: one LMDB write transaction that stays open, one record in a log

It has no types, counts, expiry, commits, checks, errors: whatever a command costs here, it costs in any server that is
made of these parts, and the distance from here to the real one is what the real one does besides.
"""

import asyncio
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any, cast

import lmdb
import msgpack
import uvloop

from lmdbredis.requests import RequestParser
from lmdbredis.snapshots import MAP_BYTES_DEFAULT

LEVELS = ("sockets", "parser", "engine")
OK = b"+OK\r\n"
NOTHING = b"$-1\r\n"


class Connection(asyncio.Protocol):
    """One client. Level `sockets`: its data is not looked at."""

    transport: asyncio.Transport
    descriptor: int

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the socket's number: replies go straight into it."""
        self.transport = cast("asyncio.Transport", transport)
        self.descriptor = transport.get_extra_info("socket").fileno()

    def data_received(self, data: bytes) -> None:
        """Answer as many requests as there are stars."""
        os.write(self.descriptor, OK * data.count(b"*"))


class Parsed(Connection):
    """Level `parser`."""

    def __init__(self) -> None:
        self.parser = RequestParser()

    def data_received(self, data: bytes) -> None:
        """Answer the requests."""
        os.write(self.descriptor, OK * len(self.parser.feed(data)))


class Store:
    """Level `engine`: the requests of a tick, done together."""

    def __init__(self, directory: Path, loop: asyncio.AbstractEventLoop) -> None:
        environment = lmdb.open(
            str(directory), map_size=MAP_BYTES_DEFAULT, sync=False, metasync=False, readahead=False, meminit=False
        )
        self._environment = environment  # the transaction does not keep it
        self._transaction = environment.begin(write=True)
        self._log = os.open(directory / "log", os.O_WRONLY | os.O_CREAT)
        self._loop = loop
        self._ready: list[tuple[int, list[list[bytes]]]] = []

    def take(self, descriptor: int, requests: list[list[bytes]]) -> None:
        """Let the next tick do the requests."""
        if not self._ready:
            self._loop.call_soon(self._tick)
        self._ready.append((descriptor, requests))

    def _tick(self) -> None:
        ready, self._ready = self._ready, []
        get, put = self._transaction.get, self._transaction.put
        rows: dict[bytes, bytes] = {}
        replies = []
        for descriptor, requests in ready:
            parts = []
            for words in requests:
                if words[0] == b"SET":
                    rows[words[1]] = words[2]
                    put(words[1], words[2])
                    parts.append(OK)
                else:
                    value = get(words[1]) if words[0] == b"GET" else None
                    parts.append(NOTHING if value is None else b"$%d\r\n%b\r\n" % (len(value), value))
            replies.append((descriptor, b"".join(parts)))
        if rows:
            os.write(self._log, msgpack.packb(rows))
        for descriptor, reply in replies:
            os.write(descriptor, reply)


class Stored(Connection):
    """Level `engine`, the client's side."""

    def __init__(self, store: Store) -> None:
        self.parser = RequestParser()
        self.store = store

    def data_received(self, data: bytes) -> None:
        """Leave the requests to the next tick."""
        requests = self.parser.feed(data)
        if requests:
            self.store.take(self.descriptor, requests)


async def _serve(level: str, port: int, directory: Path) -> None:
    loop = asyncio.get_running_loop()
    made: Any = {"sockets": Connection, "parser": Parsed}.get(level)
    if made is None:
        store = Store(directory, loop)
        made = partial(Stored, store)
    server = await loop.create_server(made, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
