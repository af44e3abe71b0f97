"""A raw client: one blocking socket, and fillers that send faster than any server reads.

No retries, no pools, no decoding: what is timed is the server and two system calls. A filler is an
iterator of `Chunk`s (bytes, how many replies they bring); keys and elements are numbered with twelve
digits, as redis-benchmark's `__rand_int__` numbers them, so that its random keys hit what was filled.
"""

import itertools
import socket
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Self

import hiredis

COMMANDS_PER_CHUNK = 1000
CHUNKS_IN_FLIGHT = 4  # the server has work while the next chunk is packed; more would only fill buffers
ELEMENTS_PER_COMMAND = 50

Word = bytes | str | int | float


class Chunk(NamedTuple):
    """Packed requests on their way."""

    data: bytes
    replies: int


def pack(*words: Word) -> bytes:
    """One request as it goes over the wire."""
    return hiredis.pack_command(words)


class Client:
    """One connection. An error reply is raised: no benchmark goes on past one."""

    def __init__(self, port: int, *, timeout_s: float = 60.0, database: int = 0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = hiredis.Reader()
        if database:
            self.call("SELECT", database)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def reply(self) -> Any:
        """Wait for the next reply whole."""
        while (reply := self.reader.gets()) is False:
            data = self.socket.recv(1 << 18)
            if not data:
                reason = "the server closed the connection"
                raise ConnectionError(reason)
            self.reader.feed(data)
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply

    def call(self, *words: Word) -> Any:
        """Send one request, wait for its reply."""
        self.socket.sendall(pack(*words))
        return self.reply()

    def timed(self, request: bytes) -> tuple[int, Any]:
        """(nanoseconds, reply) of one packed request, from before the send until the reply is whole."""
        begin = time.perf_counter_ns()
        self.socket.sendall(request)
        reply = self.reply()
        return time.perf_counter_ns() - begin, reply

    def timed_pipeline(self, request: bytes, replies: int) -> int:
        """Nanoseconds of a packed pipeline, from before the send until its last reply is whole."""
        begin = time.perf_counter_ns()
        self.socket.sendall(request)
        self._drain(replies)
        return time.perf_counter_ns() - begin

    def fill(self, chunks: Iterable[Chunk]) -> None:
        """Send all chunks, a few of them ahead of their replies; returns when every reply has come."""
        owed: list[int] = []
        for chunk in chunks:
            self.socket.sendall(chunk.data)
            owed.append(chunk.replies)
            if len(owed) == CHUNKS_IN_FLIGHT:
                self._drain(owed.pop(0))
        for replies in owed:
            self._drain(replies)

    def _drain(self, replies: int) -> None:
        for _ in range(replies):
            self.reply()

    def info(self, section: str) -> dict[str, str]:
        """INFO of one section as a dictionary."""
        lines = self.call("INFO", section).decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)


def strings(count: int, size_bytes: int) -> Iterator[Chunk]:
    """SET key:000000000000 .. count-1, in order, each with a value of `size_bytes`."""
    # a template and % beat pack() by half, and thirty million keys feel it
    value = b"x" * size_bytes
    template = b"*3\r\n$3\r\nSET\r\n$16\r\nkey:%%012d\r\n$%d\r\n%b\r\n" % (size_bytes, value)
    for first in range(0, count, COMMANDS_PER_CHUNK):
        last = min(first + COMMANDS_PER_CHUNK, count)
        yield Chunk(b"".join([template % number for number in range(first, last)]), last - first)


def strings_until(expire_at_ms: list[int]) -> Iterator[Chunk]:
    """SET key:... x PXAT at, one key per entry of the list."""
    template = b"*5\r\n$3\r\nSET\r\n$16\r\nkey:%012d\r\n$1\r\nx\r\n$4\r\nPXAT\r\n$13\r\n%013d\r\n"
    numbered = enumerate(expire_at_ms)
    while part := list(itertools.islice(numbered, COMMANDS_PER_CHUNK)):
        yield Chunk(b"".join([template % pair for pair in part]), len(part))


def collection(
    command: str, key: str, count: int, *, size_bytes: int = 64, prefix: str = "element:"
) -> Iterator[Chunk]:
    """`count` elements into one key with RPUSH, SADD, HSET or ZADD (score = number), many to a command.

    Members and fields are `<prefix><twelve digits>`; a hash's values have `size_bytes`.
    """
    value = b"x" * size_bytes
    shapes = {
        "RPUSH": lambda number: (f"{prefix}{number:012d}",),
        "SADD": lambda number: (f"{prefix}{number:012d}",),
        "HSET": lambda number: (f"{prefix}{number:012d}", value),
        "ZADD": lambda number: (number, f"{prefix}{number:012d}"),
    }
    words = shapes[command]
    step = ELEMENTS_PER_COMMAND
    commands = (
        pack(command, key, *itertools.chain.from_iterable(map(words, range(first, min(first + step, count)))))
        for first in range(0, count, step)
    )
    while part := list(itertools.islice(commands, COMMANDS_PER_CHUNK // step)):
        yield Chunk(b"".join(part), len(part))
