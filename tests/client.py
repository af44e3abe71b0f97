"""A Redis client that decodes nothing away: what differs on the wire differs here.

A reply is a tree of `Reply(kind, value)`. The kind is the first byte on the wire, so a simple string is never equal to
a bulk string, nor one null to another:

    kind    what                  value
    +  -    simple, error         bytes
    :  (    integer, big number   int
    $  =  ! bulk, verbatim, bulk  bytes; None for the null bulk ``$-1``
            error
    *  ~  > array, set, push      tuple of Reply; None for the null array ``*-1``
    %  |    map, attribute        tuple of (Reply, Reply), in the order they came
    ,       double                bytes: its text, since 1 and 1.0 are two answers
    #       boolean               bool
    _       null                  None

The exact bytes of every reply stay beside the tree, for comparisons byte for byte.
Written by hand: hiredis and redis-py are what servers are used *with*, so they cannot be what servers are judged by.

Words are bytes, str (UTF-8), int or float (repr). Not for speed, not thread-safe.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Word = bytes | str | int | float

CRLF = b"\r\n"
RECEIVE_BYTES = 1 << 18
# A pipeline is sent in portions and read after each, so that no server's output limit or backpressure can stop it.
PORTION_COMMANDS_MAX = 256
PORTION_BYTES_MAX = 1 << 18


class Disconnected(Exception):
    """The server closed the connection, or did not answer in time."""


class NotResp(Exception):
    """The server sent bytes that are no reply of the protocol."""


class Incomplete(Exception):
    """The bytes end before the reply does."""


class Reply(NamedTuple):
    """One reply: see the module's table."""

    kind: str
    value: object

    @property
    def is_error(self) -> bool:
        return self.kind in "-!"

    def items(self) -> tuple[Reply, ...]:
        """Return the elements of an array, set or push; a map's keys and values, flat; nothing for any other kind."""
        if self.kind in "*~>" and self.value is not None:
            return self.value
        if self.kind in "%|":
            return tuple(word for pair in self.value for word in pair)
        return ()

    def plain(self) -> object:
        """Return the value without its kinds: bytes, int, list, dict, None. For tests that know what they ask."""
        if self.kind in "*~>" and self.value is not None:
            return [item.plain() for item in self.value]
        if self.kind in "%|":
            return {key.plain(): value.plain() for key, value in self.value}
        return self.value


def word_bytes(word: Word) -> bytes:
    """Return a word as it goes over the wire."""
    if isinstance(word, bytes):
        return word
    return word.encode() if isinstance(word, str) else repr(word).encode()


def pack(words: Iterable[Word]) -> bytes:
    r"""Return a command as an array of bulk strings.

    >>> pack(["GET", b"k"])
    b'*2\r\n$3\r\nGET\r\n$1\r\nk\r\n'
    """
    packed = [word_bytes(word) for word in words]
    parts = [b"*%d\r\n" % len(packed)]
    parts.extend(b"$%d\r\n%b\r\n" % (len(word), word) for word in packed)
    return b"".join(parts)


def parse(data: bytes | bytearray, start: int = 0) -> tuple[Reply, int]:
    r"""Return the reply at `start` and the offset after it. Raises Incomplete or NotResp.

    >>> parse(b"*2\r\n:1\r\n$-1\r\n")
    (Reply(kind='*', value=(Reply(kind=':', value=1), Reply(kind='$', value=None))), 13)
    """
    line_end = data.find(CRLF, start)
    if line_end < 0:
        raise Incomplete
    kind = chr(data[start])
    line = bytes(data[start + 1 : line_end])
    at = line_end + 2
    try:
        if kind in "+-,":
            return Reply(kind, line), at
        if kind in ":(":
            return Reply(kind, int(line)), at
        if kind == "#":
            return Reply(kind, {b"t": True, b"f": False}[line]), at
        if kind == "_":
            return Reply(kind, {b"": None}[line]), at
        length = int(line)
    except (ValueError, KeyError):
        raise NotResp(f"bad header {kind}{line!r}") from None
    if kind in "$*" and length == -1:
        return Reply(kind, None), at
    if length < 0:
        raise NotResp(f"negative length {kind}{line!r}")
    if kind in "$=!":
        return _parse_bulk(data, kind, at, length)
    if kind in "*~>%|":
        return _parse_aggregate(data, kind, at, length)
    raise NotResp(f"unknown kind {kind!r}")


def _parse_bulk(data: bytes | bytearray, kind: str, at: int, length: int) -> tuple[Reply, int]:
    end = at + length
    if len(data) < end + 2:
        raise Incomplete
    if data[end : end + 2] != CRLF:
        raise NotResp(f"bulk of {length} bytes ends with {bytes(data[end : end + 2])!r}")
    return Reply(kind, bytes(data[at:end])), end + 2


def _parse_aggregate(data: bytes | bytearray, kind: str, at: int, length: int) -> tuple[Reply, int]:
    items = []
    for _ in range(length * 2 if kind in "%|" else length):
        item, at = parse(data, at)
        items.append(item)
    if kind in "%|":
        return Reply(kind, tuple(zip(items[::2], items[1::2], strict=True))), at
    return Reply(kind, tuple(items)), at


class RawClient:
    """One connection. `call` for one command, `pipeline` for many; `send` and `read_raw_reply` for bytes."""

    def __init__(self, port: int, *, protocol: int = 2, timeout_seconds: float = 20.0, path: str | None = None) -> None:
        if path is None:
            self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_seconds)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        else:  # a unix socket; port is not used
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(timeout_seconds)
            self.socket.connect(path)
        self.buffer = bytearray()  # received, not yet read as replies
        self.closed = False
        self.protocol = protocol
        if protocol != 2:
            answer = self.call("HELLO", protocol)
            if answer.is_error:
                self.close()
                raise Disconnected(f"HELLO {protocol} refused: {answer.value!r}")

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        try:
            self.socket.sendall(data)
        except OSError as error:
            self.close()
            raise Disconnected(f"while sending: {error!r}") from error

    def read(self) -> tuple[Reply, bytes]:
        """Return the next reply, as a tree and as its exact bytes."""
        while True:
            if self.buffer:
                try:
                    reply, end = parse(self.buffer)
                except Incomplete:
                    pass
                else:
                    raw = bytes(self.buffer[:end])
                    del self.buffer[:end]
                    return reply, raw
            self._receive()

    def read_raw_reply(self) -> bytes:
        """Return the exact bytes of the next reply."""
        return self.read()[1]

    def read_until_closed(self) -> bytes:
        """Return everything that comes until the server closes the connection. Raises Disconnected when it does not."""
        while True:
            try:
                self._receive()
            except Disconnected as ended:
                if "closed by the server" not in str(ended) and "reset" not in str(ended).lower():
                    raise
                return bytes(self.buffer)

    def call(self, *words: Word) -> Reply:
        """Send one command and return its reply."""
        self.send(pack(words))
        return self.read()[0]

    def exchange(self, commands: Sequence[Sequence[Word]]) -> list[tuple[Reply, bytes]]:
        """Send commands in one pipeline and return the replies, each as a tree and as bytes."""
        answers = []
        for portion in portions(commands):
            self.send(b"".join(portion))
            answers.extend(self.read() for _ in portion)
        return answers

    def pipeline(self, commands: Sequence[Sequence[Word]]) -> list[Reply]:
        """Send commands in one pipeline and return the replies."""
        return [reply for reply, _raw in self.exchange(commands)]

    def close(self) -> None:
        """Close the connection; the server sees the end of the stream."""
        self.closed = True
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _receive(self) -> None:
        try:
            data = self.socket.recv(RECEIVE_BYTES)
        except OSError as error:
            self.close()
            raise Disconnected(f"while waiting for a reply: {error!r}; so far {bytes(self.buffer[:200])!r}") from error
        if not data:
            self.close()
            raise Disconnected(f"closed by the server; unread: {bytes(self.buffer[:200])!r}")
        self.buffer += data


def portions(commands: Iterable[Sequence[Word]]) -> Iterable[list[bytes]]:
    """Return packed commands in portions that are safe to send before reading."""
    portion: list[bytes] = []
    size_bytes = 0
    for words in commands:
        packed = pack(words)
        if portion and (len(portion) >= PORTION_COMMANDS_MAX or size_bytes + len(packed) > PORTION_BYTES_MAX):
            yield portion
            portion, size_bytes = [], 0
        portion.append(packed)
        size_bytes += len(packed)
    if portion:
        yield portion
