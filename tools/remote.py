"""A running server elsewhere as the source of a backup: ``host:port``.

Theory. What a replica gets is what a backup is made of: the server sends a snapshot, as the segment of the log that it stands in and
the pages of data.mdb, and then the log as it grows (`lmdbredis.feeds`). So the tool asks as a replica does that has nothing, and goes
away when it has the log up to where it ended when the backup began. Nothing is held on the server but the snapshot's pages while
they are sent, and the log from there on; it shows a replica for so long.

Laws:

1. What comes is believed only if it is whole records at their addresses (`shipping.Incoming`); the pages are checked as in every backup.
2. A password comes from the environment (REDISCLI_AUTH, as redis-cli has it), never from the command line.
"""

from __future__ import annotations

import os
import re
import socket
from typing import TYPE_CHECKING, BinaryIO, Final

from lmdbredis import shipping, wal
from lmdbredis.errors import StorageError

if TYPE_CHECKING:
    from pathlib import Path

    from .copying import Target
    from .manifest import Tell

_SILENT_S: Final = 60.0  # a server that says nothing for so long is gone
_PART_BYTES: Final = 1 << 20
_PORT_MAX: Final = 65535
_SNAPSHOT: Final = re.compile(r"\+FULLRESYNC ([0-9a-f]{40}) (\d{1,18}) [0-9a-f]{40} \d")
_PASSWORD: Final = "REDISCLI_AUTH"  # noqa: S105 -- where it stands, not what it is


class Server:
    """A running server as a source, as `sources.Source` has it. Raises StorageError for what it refuses, OSError for the network."""

    def __init__(self, host: str, port: int) -> None:
        self._name = f"{host}:{port}"
        self._socket = _connected(self._name, host, port)
        self._file = self._socket.makefile("rb")
        try:
            if password := os.environ.get(_PASSWORD):
                self._told("AUTH", password)
            self._told("REPLCONF", "capa", "eof", "capa", "psync2", "capa", "lmdbredis")
            # Everything that was acknowledged before is in the log up to here.
            self._until_lsn = self._end_lsn()
            self._send("PSYNC", "?", "-1")
            answer = self._line()
            found = _SNAPSHOT.match(answer)
            if found is None:
                raise StorageError(f"{self._name} answers PSYNC with {answer}: it is no lmdbredis")
            self.replid, self.lsn = found[1], int(found[2])
            self._log_bytes = self._size()
        except BaseException:
            self.close()
            raise
        self.size_bytes = 0  # it is told later
        self.txnid: int | None = None  # it is not told

    # --- the wire ---------------------------------------------------------------------------------------------------------------

    def _send(self, *words: str) -> None:
        parts = [word.encode("utf-8", "surrogateescape") for word in words]
        self._socket.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts))

    def _line(self) -> str:
        """Return the next line that is not empty; a server that is busy sends empty ones. Raises StorageError for an error reply."""
        while line := self._file.readline(_PART_BYTES):
            if text := line.decode("latin-1").strip():
                if text.startswith("-"):
                    raise StorageError(f"{self._name} says: {text[1:]}")
                return text
        raise StorageError(f"{self._name} has closed the connection")

    def _told(self, *words: str) -> None:
        self._send(*words)
        if (answer := self._line()) != "+OK":
            raise StorageError(f"{self._name} answers {words[0]} with {answer}")

    def _size(self) -> int:
        line = self._line()
        if line[:1] != "$" or not line[1:].isdigit():
            raise StorageError(f"{self._name}: a size was to come, not {line}")
        return int(line[1:])

    def _bytes(self, count_max: int) -> bytes:
        """Return the next bytes, at most so many, at least one."""
        data = self._file.read1(min(count_max, _PART_BYTES))
        if not data:
            raise StorageError(f"{self._name} has closed the connection in the middle of a backup")
        return bytes(data)

    def _end_lsn(self) -> int:
        """Return where the server's log ends now."""
        self._send("INFO", "replication")
        left, text = self._size() + 2, b""
        while len(text) < left:
            text += self._bytes(left - len(text))
        fields = dict(line.split(":", 1) for line in text.decode("latin-1").splitlines() if ":" in line)
        try:
            return int(fields["master_repl_offset"])
        except (KeyError, ValueError):
            raise StorageError(f"{self._name} does not tell its offset: it is no lmdbredis") from None

    # --- a source ---------------------------------------------------------------------------------------------------------------

    def write_data(self, target: Target, log: Path, tell: Tell, *, compact: bool) -> None:
        """See `sources.Source`."""
        if compact:
            raise StorageError("--compact needs the directory of the store: a server sends its pages as they are")
        base, left = self.lsn - self._log_bytes, self._log_bytes
        with wal.segment_path(log, base).open("xb") as file:
            while left:
                left -= file.write(self._bytes(left))
        left = self.size_bytes = self._size()
        while left:
            data = self._bytes(left)
            target.write(data)
            tell(len(data))
            left -= len(data)

    def write_log(self, log: Path, tell: Tell) -> None:
        """See `sources.Source`."""
        incoming, at, raw = shipping.Incoming(self.lsn), self.lsn, bytearray()
        file: BinaryIO = wal.segment_path(log, self.lsn - self._log_bytes).open("ab")
        try:
            while incoming.lsn < self._until_lsn:
                data = self._bytes(_PART_BYTES)
                raw += data
                for record in incoming.feed(data):
                    if record.lsn != at:  # a segment's header stands before it
                        file = _next(file, wal.segment_path(log, at))
                    file.write(raw[: record.end_lsn - at])
                    del raw[: record.end_lsn - at]
                    at = record.end_lsn
                tell(0)
        finally:
            _sync_and_close(file)

    def close(self) -> None:
        """See `sources.Source`."""
        self._file.close()
        self._socket.close()


def _connected(name: str, host: str, port: int) -> socket.socket:
    """Return a connection. Raises StorageError, OSError with the name that was given."""
    if not 0 < port <= _PORT_MAX:
        raise StorageError(f"{name}: there is no such port")
    try:
        return socket.create_connection((host, port), _SILENT_S)
    except UnicodeError as error:
        raise StorageError(f"{name}: that is no name of a host") from error
    except OSError as error:
        raise OSError(f"{name}: {error.strerror or error}") from error


def _next(file: BinaryIO, path: Path) -> BinaryIO:
    _sync_and_close(file)
    return path.open("xb")


def _sync_and_close(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
    file.close()
