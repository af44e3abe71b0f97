"""The link: how this server gets what the one has that it copies.

Theory. One coroutine connects, says who it is (PING, AUTH, REPLCONF), asks to go on where the own log ends (PSYNC), and takes what
comes: records of the log, or first a snapshot, which is written beside the own data and put in its place when it is whole
(`install`). Until then the old data is served. When the link breaks it begins again a moment later.

Laws:

1. Records go into the own log at the address they have in the other; what does not fit there ends the link.
2. What is acknowledged is in the own log (ACK), and on the own disk (FACK).
3. A snapshot is on disk before it is put in place.
4. There is one link: one that was stopped does nothing more.

It belongs to the server's room: one room, several files.
"""

from __future__ import annotations

import asyncio
import logging
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from lmdbredis import control_file, install, shipping, wal
from lmdbredis import format as fmt
from lmdbredis.errors import DiskFull, StorageError, SyncFailed
from lmdbredis.measures import clock_ms, now_us
from lmdbredis.replication import CONNECT, CONNECTED, CONNECTING, SYNC, Following
from lmdbredis.wire import Wire

if TYPE_CHECKING:
    from pathlib import Path

    from lmdbredis.server import RedisServer

log = logging.getLogger("lmdbredis")

_AGAIN_S: Final = 0.05
_SIZE_BYTES_MAX: Final = 19  # of the line that tells a size
_SLOWLY_AGAIN_S: Final = 5.0  # where the other server would begin a snapshot each time: after a full disk, or damage
_CONNECT_S: Final = 5.0
_CONTINUE: Final = re.compile(r"\+CONTINUE ([0-9a-f]{40})")
# The history's name, the snapshot's lsn, the name before and up to where it held, where the log begins.
_FULL_RESYNC: Final = re.compile(r"\+FULLRESYNC ([0-9a-f]{40}) (\d{1,18}) ([0-9a-f]{40}) (\d{1,18}) (\d{1,18})")
_LOGGED_EVERY: Final = 1 << 30  # bytes of a snapshot between two lines of the log


class LinkFailed(Exception):
    """The other server says no, or something that is not understood."""


class Link:
    """The link to one server. `stop` ends it for good."""

    def __init__(self, server: RedisServer, following: Following) -> None:
        self.following = following
        self._server = server
        self._wire: Wire | None = None
        self._acked = (-1, -1)  # lsn, on disk
        self._wants_copy = False  # the other server's log is of no use from here on: only a snapshot is
        self._wants_sync = False  # the other server waits for what is on disk here
        self._received_bytes = 0  # by wires that are gone
        self._last: shipping.LastRecord | None = None  # of the own log
        self._last_of: tuple[wal.Wal, int] | None = None  # which log that was, and where it ended
        self._noted = ""  # why the link ended last
        self._is_stopped = False
        self._task = server.loop.create_task(self._run())

    def stop(self) -> None:
        """End the link."""
        self._is_stopped = True
        self._task.cancel()
        self._cut()

    @property
    def received_bytes(self) -> int:
        """Return how much has come."""
        return self._received_bytes + (self._wire.received_bytes if self._wire is not None else 0)

    def reset_counts(self) -> None:
        """Have received nothing yet: CONFIG RESETSTAT."""
        self._received_bytes -= self.received_bytes

    def _cut(self) -> None:
        if self._wire is not None:
            self._wire.cut()

    def _close(self) -> None:
        """Let the connection go, once nobody reads from it."""
        if self._wire is not None:
            self._received_bytes += self._wire.received_bytes
            self._wire.close()
            self._wire = None

    def cron(self) -> None:
        """Tell the other side how far this one is, and cut a link on which nothing comes: once a second."""
        timeout_ms = self._server.config.repl_timeout_s * 1000
        if self.following.state != CONNECT and clock_ms() - self.following.heard_ms > timeout_ms:
            log.warning("MASTER timeout: no data nor PING received...")
            self._cut()
        elif self.following.is_up:
            self.acknowledge(always=True)

    async def _run(self) -> None:
        """Connect, again and again."""
        following = self.following
        while True:
            again_s = _AGAIN_S
            try:
                await self._connect()
                await self._go_on()
            except (LinkFailed, OSError) as error:
                self._note(f"Connection with master {following.host}:{following.port} lost: {error or 'no answer'}")
            except StorageError as damage:
                self._note(f"What comes from master {following.host}:{following.port} cannot be used: {damage}")
                self._wants_copy, again_s = True, _SLOWLY_AGAIN_S
            except DiskFull as full:
                self._note(f"The disk is full ({full}): nothing more can be copied")
                again_s = _SLOWLY_AGAIN_S
            except SyncFailed as failure:
                self._server.die(failure)
            except asyncio.CancelledError:
                self._close()
                raise
            except Exception as failure:
                log.exception("The link failed")
                self._server.die(failure)
            self._close()
            following.become(CONNECT, clock_ms())
            self._server.role.apply()
            self._server.role.failover.link_ended()
            await asyncio.sleep(again_s)

    def _note(self, failure: str) -> None:
        """Log why the link has ended, once for a while in which it ends so again and again."""
        level = logging.DEBUG if failure == self._noted else logging.WARNING
        self._noted = failure
        log.log(level, "%s", failure)

    # --- saying who one is ---------------------------------------------------------------------------------------------------------

    async def _connect(self) -> None:
        """Connect and introduce oneself. Raises LinkFailed, OSError."""
        following, config = self.following, self._server.config
        following.become(CONNECTING, clock_ms())
        if not self._noted:
            log.info("Connecting to MASTER %s:%d", following.host, following.port)
        # Not `wait_for`: until Python 3.12 it forgets that it was cancelled if what it waits for is there just then.
        async with asyncio.timeout(_CONNECT_S):
            self._wire = await Wire.connect(self._server.loop, following.host, following.port)
        answer = await self._ask("PING")
        if not answer.startswith((b"+", b"-NOAUTH", b"-NOPERM")):
            raise LinkFailed(f"it answers PING with {answer.decode('latin-1')}")
        if config.masterauth:
            user = [config.masteruser] if config.masteruser else []
            await self._tell("AUTH", *user, config.masterauth)
        await self._tell("REPLCONF", "listening-port", str(config.replica_announce_port or config.port))
        if config.replica_announce_ip:
            await self._tell("REPLCONF", "ip-address", config.replica_announce_ip)
        await self._tell("REPLCONF", "capa", "eof", "capa", "psync2", "capa", "lmdbredis")
        await self._tell("REPLCONF", "key-events", self._wanted_events())

    def _wanted_events(self) -> str:
        """Return the setting for key events that brings all that is wanted here, and by replicas of this server."""
        server = self._server
        return "".join(
            [server.config.notify_keyspace_events, *(replica.key_events for replica in server.executor.replicas)]
        )

    def want_events(self) -> None:
        """Say which key events are wanted, now that this has changed."""
        if self.following.is_up:
            self._send("REPLCONF", "key-events", self._wanted_events())

    async def _read(self) -> bytes:
        """Return what comes next, empty at the end."""
        assert self._wire is not None
        data = await self._wire.read()
        self._heard()
        return data

    async def _line(self) -> bytes:
        """Return the next line that is not empty."""
        assert self._wire is not None
        line = await self._wire.line()
        self._heard()
        return line

    def _heard(self) -> None:
        """Take note that something has come. Raises CancelledError for a link that was stopped, even if its task was not told (law 4)."""
        if self._is_stopped:
            raise asyncio.CancelledError
        self.following.heard_ms = clock_ms()

    async def _ask(self, *words: str | int) -> bytes:
        """Send a command and return the line that answers it."""
        self._send(*words)
        return await self._line()

    async def _tell(self, *words: str | int) -> None:
        """As `_ask`, where the answer must be OK. Raises LinkFailed."""
        answer = await self._ask(*words)
        if answer != b"+OK":
            raise LinkFailed(f"it answers {words[0]} with {answer.decode('latin-1')}")

    def _send(self, *words: str | int) -> None:
        parts = [str(word).encode("utf-8", "surrogateescape") for word in words]
        assert self._wire is not None
        self._wire.send(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts))

    # --- going on -----------------------------------------------------------------------------------------------------------------------

    async def _go_on(self) -> None:
        """Ask for what is missing, and take it until the link breaks. Raises LinkFailed, StorageError, DiskFull, OSError."""
        store = self._server.store
        lsn, last = store.wal.end_lsn, self._last_record()
        words: tuple[str | int, ...] = () if last is None else last
        failover = self._server.role.failover
        if self.following.takes_over and last is not None:
            words = (*words, "FAILOVER")
            failover.asks()
        asked: tuple[str | int, ...] = ("?", -1) if self._wants_copy else (store.control.replid, lsn, *words)
        answer = (await self._ask("PSYNC", *asked)).decode("latin-1").strip()
        continues, resyncs = _CONTINUE.fullmatch(answer), _FULL_RESYNC.fullmatch(answer)
        if not continues and not resyncs:
            if answer.startswith("-"):
                failover.refused(answer)
            raise LinkFailed(f"it answers PSYNC with {answer}")
        # The other server has taken over, whatever becomes of this link.
        self.following.takes_over = False
        failover.succeeded()
        self._server.role.mark_copy(self.following)
        if continues:
            self._take_history(continues[1])
            log.info("Successful partial resynchronization with master, from lsn %016x", lsn)
        elif resyncs:
            replid, copy_lsn, replid2, replid2_lsn, first_lsn = resyncs.groups()
            if self._wants_copy and replid == store.control.replid and int(copy_lsn) < lsn:
                raise StorageError("its snapshot is older than what is here")
            lsn = await self._copy(
                control_file.Control(replid, replid2, int(replid2_lsn), int(copy_lsn)), int(first_lsn)
            )
        self.following.become(CONNECTED, clock_ms())
        self._noted = ""
        self._server.role.apply()
        self.want_events()
        self.acknowledge(always=True)
        await self._follow(shipping.Incoming(lsn))

    def _last_record(self) -> shipping.LastRecord | None:
        """Return the last record of the own log. It is looked for once: that reads a segment, and who is away is asked again and again."""
        log_ = self._server.store.wal
        if self._last_of != (log_, log_.end_lsn):
            self._last = shipping.last_record(log_.directory, log_.end_lsn)
            self._last_of = log_, log_.end_lsn
        return self._last

    def _take_history(self, replid: str) -> None:
        """Call the history by the name that it has there."""
        store = self._server.store
        if replid != store.control.replid:
            store.set_history(replid, store.control.replid, store.wal.end_lsn)
            self._server.role.feeds.let_go()

    async def _follow(self, incoming: shipping.Incoming) -> None:
        """Take the log as it comes."""
        server = self._server
        while data := await self._read():
            records = incoming.feed(data)
            if not records:
                continue
            for portion in server.executor.portions(records):
                try:
                    server.executor.follow(portion, now_us())
                except (DiskFull, StorageError):
                    server.after_following()  # part of it may have come
                    raise
                server.after_following()
            if any(record.flags & fmt.WANTS_SYNC for record in records):
                self._wants_sync = True
            self.acknowledge()
        raise LinkFailed("it has closed the connection")

    def acknowledge(self, *, always: bool = False) -> None:
        """Say how far this server is (law 2), if that has changed."""
        if not self.following.is_up:
            return
        log_ = self._server.store.wal
        if self._wants_sync and log_.synced_lsn < log_.end_lsn:
            self._server.barrier.sync()
        if always or self._acked != (log_.end_lsn, log_.synced_lsn):
            self._acked = log_.end_lsn, log_.synced_lsn
            self._send("REPLCONF", "ACK", log_.end_lsn, "FACK", log_.synced_lsn)

    # --- a snapshot ----------------------------------------------------------------------------------------------------------------------

    async def _copy(self, control: control_file.Control, first_lsn: int) -> int:
        """Take a snapshot and put it in the place of what is here; return its lsn. Raises what `_go_on` does.

        The other server's log begins at `first_lsn`.
        """
        server, following, directory = self._server, self.following, self._server.store.directory
        self._wants_copy = False
        following.become(SYNC, clock_ms())
        following.copied_bytes = following.copy_bytes = 0
        log.info("Full resync from master: %s:%d", control.replid, control.lsn)
        place = install.begin(directory)
        log_bytes = await self._size()
        path = wal.segment_path(place / "wal", control.lsn - log_bytes)
        await self._file(path, log_bytes)
        size_bytes = following.copy_bytes = await self._size()
        log.info("MASTER <-> REPLICA sync: receiving %d bytes from master", size_bytes)
        await self._file(place / "data.mdb", size_bytes)
        control = _named(control, place / "data.mdb")
        diverged_lsn = self._diverged_lsn(control, first_lsn)
        # In one go: a link that is stopped between the two would leave a state that the next start puts in place.
        install.seal(directory, server.store.disk, control, diverged_lsn)
        server.exchange()
        server.role.feeds.drop_lost()  # it is another log
        self._tell_diverged(diverged_lsn)
        log.info("MASTER <-> REPLICA sync: Finished with success")
        return control.lsn

    def _diverged_lsn(self, control: control_file.Control, first_lsn: int) -> int | None:
        """Return where the own log may part from the history that comes, None if it surely holds nothing else.

        A log of the same name that ends before the other one begins is what that one had, too: it was only away for too long.
        """
        store = self._server.store
        own, end_lsn = store.control, store.wal.end_lsn
        if own.replid == control.replid2 and end_lsn > control.replid2_lsn:
            return control.replid2_lsn
        if own.replid in {control.replid, control.replid2}:
            holds_nothing = end_lsn < first_lsn or self._last_record() is None
        else:  # it may have had both names, one after the other, and others since
            holds_nothing = not any(database.keys for database in self._server.keyspace.databases)
        return (
            None if holds_nothing else shipping.parting(store.wal.directory, install.incoming(store.directory) / "wal")
        )

    def _tell_diverged(self, diverged_lsn: int | None) -> None:
        """Say where the log is kept that holds what the other server does not know, if there is one."""
        store = self._server.store
        if not store.diverged or diverged_lsn is None:
            return
        kept = store.directory / store.diverged
        log.warning(
            "This server had writes that its master does not know, or that cannot be compared any more, after lsn %016x: their log is kept in %s",
            diverged_lsn,
            kept,
        )
        if (first_lsn := wal.segments(kept / "wal")[0]) > diverged_lsn:
            log.warning("That log begins at lsn %016x: what was written before had left it", first_lsn)

    async def _size(self) -> int:
        """Return the size that is told before bytes."""
        line = await self._line()
        if line[:1] != b"$" or not line[1:].isdigit() or len(line) > _SIZE_BYTES_MAX:
            raise LinkFailed(f"a size was to come, not {line.decode('latin-1')}")
        return int(line[1:])

    async def _file(self, path: Path, size_bytes: int) -> None:
        """Write so many bytes that come into a file, and that to disk (law 3)."""
        assert self._wire is not None
        await self._wire.save(path, size_bytes, self._server.store.disk, self._note_copied)
        self._heard()

    def _note_copied(self, count: int) -> None:
        """Take note that so many bytes more of a snapshot have come, or that the disk has them now. In a thread, or not."""
        following, before = self.following, self.following.copied_bytes
        following.heard_ms = clock_ms()
        following.copied_bytes += count
        if following.copied_bytes // _LOGGED_EVERY > before // _LOGGED_EVERY:
            log.info("MASTER <-> REPLICA sync: %d of %d bytes", following.copied_bytes, following.copy_bytes)


def _named(control: control_file.Control, data: Path) -> control_file.Control:
    """Return `control` with the snapshot that the file holds. Raises StorageError if it holds none."""
    with data.open("rb") as file:
        bodies = control_file.meta_bodies(file.read(control_file.FIRST_BYTES))
    if not bodies:
        raise StorageError("what came is no data.mdb")
    newest = max(bodies, key=control_file.meta_txnid)
    return replace(control, txnid=control_file.meta_txnid(newest), meta_body=newest)
