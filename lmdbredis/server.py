"""The server: sockets, threads, signals, the clock and chance. The only impure room.

Theory. uvloop reads what every socket holds, then the loop comes to `_tick` once: everything that was read is one batch. Its
replies leave at once, or, under ``appendfsync always``, when the log is synced up to the lsn they wait for (the barrier): by a
thread while the loop goes on, or by the loop where syncs are quick. One sync serves all that came before it.

Laws: the loop waits for a disk only where a page must be read, a sync is quick, more is written than the disk takes, or somebody asks
for it (SAVE); a failed sync ends the process (design: final); a client that does not read is cut off at its output-buffer limit, and one that sends too much at the query-buffer limit.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import random
import resource
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lmdbredis import compaction, errors
from lmdbredis.barrier import Barrier
from lmdbredis.busy import Busy
from lmdbredis.config import SET_FAILED, Config
from lmdbredis.connection import Connection
from lmdbredis.disk import Disk
from lmdbredis.errors import DiskFull, ReplyError, StorageError, SyncFailed
from lmdbredis.executor import Executor
from lmdbredis.expiry import Upkeep
from lmdbredis.keyspace import Keyspace
from lmdbredis.measures import Measures, clients_max, clock_ms, clock_ns, now_us
from lmdbredis.pauses import Purpose
from lmdbredis.resp import OK, encode2
from lmdbredis.role import Role
from lmdbredis.session import NO_REQUESTS, NOTHING_WATCHED, Gate, Session, Sessions
from lmdbredis.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

log = logging.getLogger("lmdbredis")

_COLD_FAULTS: Final = 4  # pages read from the disk since the last look, to be called cold
_WARM_REQUESTS_MAX: Final = 64  # of one session: more of its keys are not read ahead
_COLLECT_OBJECTS: Final = 50_000  # allocations between two runs of the cycle collector
_STRANGER_OUTPUT_BYTES: Final = 1024  # what a client that has not given its password may leave unread
_REPLICAS_S: Final = 0.01  # between two looks at replicas that are waited for
_EVERYSEC_S: Final = 1.0
_LAST_BYTES: Final = 64  # of what an idle client has said last, which only CLIENT LIST asks for
# A disk that takes commits more slowly than writes come must slow those down, or memory would hold what waits: where that is much,
# each batch waits for the commit, but not longer than clients may stand still.
_WAIT_S: Final = 0.03
_IDLES: Final = (
    Gate.WAITS | Gate.PAUSED | Gate.LISTENS | Gate.MONITORS | Gate.REPLICATES
)  # who may be silent for as long as he likes
_ALL_ADDRESSES: Final = {"*": "0.0.0.0", "::*": "::"}  # noqa: S104 -- as bind has them


class RedisServer:
    """The process: everything between the sockets and the executor."""

    def __init__(self, config: Config, loop: asyncio.AbstractEventLoop, disk: Disk | None = None) -> None:
        """Open the store. Raises StorageError."""
        self.config = config
        self.loop = loop
        self.sessions = Sessions()
        self.connections: dict[int, Connection] = {}
        self.run_id = os.urandom(20).hex()
        self.started_ms = now_us() // 1000
        self.measures = Measures(self)
        self.busy = Busy(self)
        self.barrier = Barrier(self)
        self.role = Role(self)
        self.handing_over: set[asyncio.Task[Any]] = set()  # clients who came while a script ran
        self.listening: list[asyncio.AbstractServer] = []
        self.exit_status = 0
        self._disk = disk or Disk()
        self.paused: set[Connection] = set()  # connections that are not read from
        self._ready: list[Session] = []
        self._ticking = False
        self._is_cold = False  # pages have to be read from the disk: batches are read ahead
        self._faults = 0
        self._upkeep_at: asyncio.TimerHandle | None = None
        self._stopped = asyncio.Event()
        self._stopping = False
        self._ends_at: asyncio.TimerHandle | None = None  # when it is looked again whether replicas have everything
        self._alarm: asyncio.TimerHandle | None = None  # rings at
        self._alarm_ns = 0  # by `clock_ns`; 0 = never
        began = time.perf_counter()
        gc.disable()  # until `run`: a long log makes many dictionaries, and none of them is a cycle
        self._open()
        self.open_ms = (time.perf_counter() - began) * 1000
        self.measures.begin()

    # --- the store --------------------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        config = self.config
        is_copy = config.replicaof is not None
        self.store = Store(
            Path(config.dir), os.urandom(20).hex(), disk=self._disk,
            map_bytes=config.map_size_bytes, segment_bytes=config.wal_segment_size_bytes,
        )  # fmt: skip
        self.store.is_copy = is_copy
        self.keyspace = Keyspace(self.store, config.databases, config.hot_layer_size_bytes, is_copy=is_copy)
        self.executor = Executor(self.store, self.keyspace, config, random.Random(), self, clock_ns)
        self.upkeep = Upkeep(self.executor)
        self.role.begin()

    def exchange(self) -> None:
        """Put the state that is to be installed in the place of what is here. Raises SyncFailed."""
        self._reopen(checkpoint=False)
        self.executor.look_again(now_us())
        self.send_heard()

    def reload(self) -> None:
        """Close and reopen the store: DEBUG RELOAD. Raises SyncFailed."""
        self._reopen(checkpoint=True)

    def _reopen(self, *, checkpoint: bool) -> None:
        self.barrier.settle()
        self.role.feeds.let_go()
        with suppress(DiskFull):  # it is closed all the same, and the log has everything
            self.store.close(checkpoint=checkpoint)
        self.barrier.release()  # the log is synced: and what comes may have other addresses
        before, expires = self.executor, self.upkeep.active_expire
        try:
            self._open()
        except (StorageError, DiskFull, OSError) as failure:  # there is nothing to go on with
            raise SyncFailed(f"the store cannot be opened again: {failure}") from failure
        self.executor.take_over(before)
        self.upkeep.active_expire = expires
        for session in self.sessions:
            session.database = self.keyspace.databases[session.database.number]
            if session.watched:  # what was watched is another object now
                session.watched, session.is_stale = NOTHING_WATCHED, True

    # --- batches ------------------------------------------------------------------------------------------------------------------

    def ready(self, session: Session) -> None:
        """Take note that a session has something to run."""
        if session.is_ready:
            return
        session.is_ready = True
        self._ready.append(session)
        if not self._ticking:
            self._ticking = True
            self.loop.call_soon(self._tick)

    def _tick(self) -> None:
        """Run what has come as one batch, and let its replies go."""
        sessions, self._ready = self._ready, []
        self._ticking = False
        if self._stopped.is_set():  # the store is closed
            return
        if self._is_cold:
            self._warm(sessions)
        self.barrier.begin(sessions)
        try:
            left = self.executor.run(sessions, now_us())
            must_wait = self.barrier.must_wait()
        except SyncFailed as failure:
            self.die(failure)
            return
        except (
            Exception
        ) as failure:  # what a batch left behind is unknown: a restart costs milliseconds and knows the log
            log.exception("A batch failed")
            self.die(failure)
            return
        for session in sessions:
            session.is_ready = False
        if must_wait:
            sessions = self.barrier.keep_batch(sessions, self.executor.lsn)
        elif self.executor.resumed:  # first those who have waited, as Redis
            self._send(list(self.executor.resumed))
        self._send(sessions)
        if self.executor.heard or self.executor.resumed:
            self.send_heard()
        elif self.executor.waiters or self.executor.pauses.is_on:
            self._set_alarm()
        for session in left:
            self.ready(session)
        if self.paused:
            for connection in list(self.paused):
                connection.resume()
        if self.role.feeds:
            self.role.feeds.nudge()
        self._after_replies()

    def _send(self, sessions: list[Session]) -> None:
        """Let replies go."""
        for session in sessions:
            output = session.output
            if output:
                session.output = b""
                session.send(output)
                session.sent_bytes += len(output)
            if session.closing or session.ends:
                self.finish(session)

    def send_heard(self) -> None:
        """Let go what sessions got besides the replies of their turn; who waits no more may run on."""
        heard, resumed = self.executor.take_heard()
        try:
            if heard and self.barrier.must_wait():
                self.barrier.keep(heard, self.executor.lsn)
            else:
                self._send(heard)
        except SyncFailed as failure:
            self.die(failure)
        for session in resumed:
            self.ready(session)
        self._set_alarm()

    def _set_alarm(self) -> None:
        """Let the loop call when somebody has waited long enough, or a pause is over."""
        deadline_ns = self.executor.next_deadline_ns()
        if deadline_ns == self._alarm_ns:
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm, self._alarm_ns = None, deadline_ns
        if deadline_ns:
            self._alarm = self.loop.call_later(max(deadline_ns - clock_ns(), 0) / 1e9, self._on_alarm)

    def _on_alarm(self) -> None:
        self._alarm, self._alarm_ns = None, 0
        self.executor.pass_time()
        self.send_heard()

    def _warm(self, sessions: list[Session]) -> None:
        """Read ahead the keys that a batch names, side by side: one after another, each would cost the time of a disk read."""
        row_keys = [
            session.database.row_key(words[1])
            for session in sessions
            for words in session.requests[:_WARM_REQUESTS_MAX]
            if len(words) > 1
        ]
        if len(row_keys) > 1:
            self.store.warm(self.keyspace.keys, row_keys)

    def _look_for_cold(self) -> None:
        """Find out whether reads have had to wait for the disk of late: major faults tell."""
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_majflt
        self._is_cold = faults - self._faults >= _COLD_FAULTS
        self._faults = faults

    def wake(self) -> None:
        """Let sessions run on that have waited for something else than keys."""
        self.loop.call_soon(self.send_heard)

    def after_following(self) -> None:
        """Do what a batch does behind its replies, for records that came."""
        if self.executor.heard or self.executor.resumed:
            self.send_heard()
        if self.role.feeds:
            self.role.feeds.nudge()
        self._after_replies()

    def _after_replies(self) -> None:
        """Do what can wait until the replies have left: give the writer its next piece of work."""
        store = self.store
        if self.executor.refusal is not None:  # the upkeep finds out when there is room
            return
        try:
            if self.upkeep.is_commit_due:
                self.upkeep.commit(clock_ms())
            else:
                if self.upkeep.must_wait:
                    store.wait_for_commit(_WAIT_S)
                store.drain()
        except DiskFull as error:
            store.repair()
            self.executor.refuse_writes(error)
        except SyncFailed as failure:
            self.die(failure)

    def finish(self, session: Session) -> None:
        """Close a session whose last reply has been written, or whose stream is broken."""
        if session.requests and not session.closing and not session.gate & Gate.WAITS:
            return
        connection = self.connections.get(session.id)
        if connection is not None:
            if session.parser.error is not None and not session.closing:
                connection.transport.write(encode2(ReplyError(session.parser.error)))
                session.closing = True
            connection.transport.close()

    # --- clients ----------------------------------------------------------------------------------------------------------------------

    def refusal_of(self, sock: Any) -> str | None:
        """Return why a new client is refused, None if it is welcome."""
        if len(self.sessions) >= self.config.maxclients:
            return errors.MAX_CLIENTS
        if (
            self.config.protected_mode
            and not self.config.requirepass
            and sock.family != socket.AF_UNIX
            and not _is_loopback(sock)
        ):
            return errors.PROTECTED_MODE
        return None

    def forget(self, session: Session) -> None:
        """Take note that a client is gone."""
        session.closing = True
        session.requests = NO_REQUESTS
        self.paused.discard(self.connections.get(session.id))
        self.measures.forget(session)
        if session.gate & Gate.REPLICATES:
            self.role.feeds.forget(session)
        self.executor.forget(session)
        self.sessions.close(session)
        self.connections.pop(session.id, None)
        session.detach()

    def _clients_cron(self) -> None:
        """Close clients that idle or do not read, as their limits say."""
        now_ms = now_us() // 1000
        timeout_ms = self.config.timeout_s * 1000
        for session in self.sessions:
            if len(session.last_words) > 2 or sum(map(len, session.last_words)) > _LAST_BYTES:
                session.last_words = [word[:_LAST_BYTES] for word in session.last_words[:2]]
            pending_bytes = session.unsent_bytes
            if self.limit_output(session, pending_bytes) or not timeout_ms or (session.gate and session.gate & _IDLES):
                continue
            moved_bytes = session.received_bytes + session.sent_bytes - pending_bytes
            if moved_bytes != session.moved_bytes:
                session.moved_bytes, session.last_ms = moved_bytes, now_ms
            elif now_ms - session.last_ms > timeout_ms:
                session.kill()

    def limit_output(self, session: Session, pending_bytes: int) -> bool:
        """Cut off a client whose unread output is past its hard limit, or past the soft one for too long; tell whether it is past one."""
        if session.gate & Gate.REPLICATES:  # the feeds look after them
            return False
        limits = self.config.client_output_buffer_limit
        hard, soft, soft_s = limits.pubsub if session.gate & Gate.LISTENS else limits.normal
        if not session.parser.authenticated:  # a stranger gets no more than the errors that say so
            hard = _STRANGER_OUTPUT_BYTES
        is_past_hard, is_past_soft = 0 < hard < pending_bytes, 0 < soft < pending_bytes
        now_ms = clock_ms()
        session.soft_since_ms = (session.soft_since_ms or now_ms) if is_past_soft else 0
        if is_past_hard or (is_past_soft and now_ms - session.soft_since_ms > soft_s * 1000):
            log.warning(
                "Client id=%d addr=%s closed for overcoming of output buffer limits.", session.id, session.address
            )
            self.measures.output_disconnections += 1
            session.kill()
        return is_past_hard or is_past_soft

    # --- time ---------------------------------------------------------------------------------------------------------------------------

    def _upkeep(self) -> None:
        """Call the upkeep, and again when it says."""
        try:
            wait_ms = self.upkeep.tick(now_us(), clock_ms())
            if self.executor.heard or self.executor.resumed:
                self.send_heard()
            self._look_for_cold()
            if self.role.feeds:
                self.role.feeds.nudge()
            wal = self.store.wal
            if wal.wants_spare() and self.executor.refusal is None:
                self.barrier.apart(_prepare, wal.prepare)
        except SyncFailed as failure:
            self.die(failure)
            return
        except Exception as failure:
            # Without upkeep nothing would be checkpointed any more: a restart costs milliseconds.
            log.exception("The upkeep failed")
            self.die(failure)
            return
        self._upkeep_at = self.loop.call_later(wait_ms / 1000, self._upkeep)

    def _every_second(self) -> None:
        """Sync the log under everysec; look after clients."""
        # First: whatever may fail below, the log will be synced again.
        self._second_at = self.loop.call_later(_EVERYSEC_S, self._every_second)
        if self.config.appendfsync == "everysec":
            self.barrier.sync()
        self._clients_cron()
        self.role.cron()
        self.measures.sample(_EVERYSEC_S)
        self.store.trim_wal(self.config.repl_backlog_size_bytes, self.role.feeds.keep_lsn())

    # --- what commands ask for ------------------------------------------------------------------------------------------------

    def save(self, session: Session) -> None:
        """Make a checkpoint, here and now: SAVE. The session's last reply says that it was made; if not, it is replaced."""
        try:
            self.store.checkpoint()
            self.upkeep.saved_at_ms = now_us() // 1000
        except DiskFull as error:
            self.store.repair()
            self.executor.refuse_writes(error)
            if session.output.endswith(encode2(OK)):
                session.output = session.output.removesuffix(encode2(OK)) + encode2(
                    ReplyError(errors.SAVE_FAILED % error)
                )

    def begin_save(self) -> None:
        """Let the upkeep make a checkpoint next: BGSAVE."""
        self.upkeep.save_soon()

    def change_replid(self) -> None:
        """Give the history another name: DEBUG CHANGE-REPL-ID."""
        self.store.rename_history(os.urandom(20).hex())

    def set_active_expire(self, *, on: bool) -> None:
        """Let keys expire that nobody asks for, or not: DEBUG SET-ACTIVE-EXPIRE."""
        self.upkeep.active_expire = on

    def rewrite_config(self) -> None:
        """Write the settings into the file they were read from, whole or not at all. Raises OSError."""
        path = Path(self.config.path or "").resolve()
        old = path.read_bytes() if path.exists() else b""
        new = path.with_name(f".{path.name}.new")
        with new.open("wb") as file:
            file.write(self.config.rewrite(old))
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            new.chmod(path.stat().st_mode & 0o7777)
        new.replace(path)

    def while_script_runs(self, *, is_first: bool) -> bool:
        """Serve the other clients if a script runs for long; tell whether to end it."""
        return self.busy.tick(is_first=is_first)

    def new_connection(self) -> Connection:
        """Return a connection without a socket."""
        return Connection(self)

    def sync_soon(self) -> None:
        """Let what is in the log be synced though the loop stands still: under everysec nobody else would, for as long as it does."""
        if self.config.appendfsync == "everysec":
            self.barrier.sync()

    def end_now(self) -> None:
        """End the process out of a running script: SHUTDOWN NOSAVE. Its batch did not happen; all others are in the log."""
        log.warning("User requested shutdown while a script runs...")
        for path in filter(None, (self.config.unixsocket, self.config.pidfile)):
            Path(path).unlink(missing_ok=True)
        try:
            self.store.wal.sync()
        except SyncFailed as failure:
            self.die(failure)
        os._exit(0)

    def sleep(self, seconds: float) -> None:
        """Stop everything for a while: DEBUG SLEEP."""
        time.sleep(seconds)

    # --- beginning and end -----------------------------------------------------------------------------------------------------------------

    async def listen(self) -> None:
        """Open the sockets. Raises OSError: the address is in use, or not ours."""
        config, loop = self.config, self.loop
        if config.port:
            for address in config.bind:
                host = address.removeprefix("-")
                try:
                    server = await loop.create_server(
                        lambda: Connection(self), _ALL_ADDRESSES.get(host, host), config.port, backlog=config.tcp_backlog, reuse_address=True,
                    )  # fmt: skip
                except OSError as error:
                    # An address that may be missing, is.
                    if not address.startswith("-") or error.errno == errno.EADDRINUSE:
                        raise OSError(errors.CANNOT_LISTEN % (host, config.port, error.strerror or error)) from error
                    continue
                self.listening.append(server)
        if config.unixsocket:
            Path(config.unixsocket).unlink(missing_ok=True)
            self.listening.append(
                await loop.create_unix_server(lambda: Connection(self), config.unixsocket, backlog=config.tcp_backlog)
            )
            if config.unixsocketperm:
                Path(config.unixsocket).chmod(config.unixsocketperm)
        if not self.listening:
            raise OSError(errors.LISTENS_NOWHERE)

    async def run(self) -> int:
        """Serve until told to stop; return the exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(number, self._on_signal, signal.Signals(number).name)
        self.loop.add_signal_handler(signal.SIGUSR2, compaction.take, self)
        self.loop.set_exception_handler(self._on_loop_error)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the terminal it was started from may go
        gc.collect()
        gc.freeze()  # what is there now stays: the cycle collector need not look at it again
        gc.set_threshold(_COLLECT_OBJECTS, 20, 100)
        gc.enable()
        self._upkeep()
        self._every_second()
        self.role.connect()
        await self._stopped.wait()
        return self.exit_status

    def _on_signal(self, name: str) -> None:
        log.warning("Received %s scheduling shutdown...", name)
        self.shutdown(save=True)

    @property
    def is_ending(self) -> bool:
        """Tell whether the process will end when its replicas have everything."""
        return self._ends_at is not None

    def shutdown(self, *, save: bool, now: bool = False) -> None:
        """End the process in order, after this tick; unless `now`, when replicas have everything, or have had shutdown-timeout for it."""
        if self._stopping:
            return
        until_ms = clock_ms() + self.config.shutdown_timeout_s * 1000
        if now or not self.role.feeds.lag_bytes() or not self.config.shutdown_timeout_s:
            self._stopping = True
            self.loop.call_soon(self._stop, save)
        elif not self.is_ending:
            log.warning(
                "%d bytes have not reached all replicas yet: waiting before the end", self.role.feeds.lag_bytes()
            )
            self.executor.pause(Purpose.SHUTDOWN, self.config.shutdown_timeout_s * 1000, writes_only=True)
            self._await_replicas(save, until_ms)

    def _await_replicas(self, save: bool, until_ms: int) -> None:
        lag_bytes = self.role.feeds.lag_bytes()
        if lag_bytes and clock_ms() < until_ms:
            self._ends_at = self.loop.call_later(_REPLICAS_S, self._await_replicas, save, until_ms)
            return
        if lag_bytes:
            log.warning("A replica lags %d bytes behind at the end", lag_bytes)
        self._stopping = True
        self._stop(save)

    def abort_shutdown(self) -> None:
        """Do not end after all: SHUTDOWN ABORT."""
        if self._ends_at is not None:
            self._ends_at.cancel()
            self._ends_at = None
            log.warning("Shutdown manually aborted.")
            self.executor.unpause(Purpose.SHUTDOWN)
            self.wake()

    def _stop(self, save: bool) -> None:
        """Close everything."""
        log.warning("User requested shutdown...")
        self._stopped.set()  # whatever fails from here on, the process ends
        for server in self.listening:
            server.close()
        for handle in (self._upkeep_at, self._second_at):
            if handle is not None:
                handle.cancel()
        if self.role.link is not None:
            self.role.link.stop()
        try:
            self.barrier.settle()
            if save:
                log.info("Making a checkpoint before exiting")
            self.store.close(checkpoint=save)
            self.barrier.let_go()
        except Exception as error:
            message = "The checkpoint at shutdown failed (%s): the log has everything that was acknowledged"
            log.error(message, error, exc_info=not isinstance(error, (DiskFull, SyncFailed, OSError)))  # noqa: TRY400 -- see exc_info
            self.exit_status = 1
        self.barrier.close()
        for session in self.sessions:
            session.kill()
        for path in filter(None, (self.config.unixsocket, self.config.pidfile)):
            with suppress(OSError):
                Path(path).unlink()
        log.warning("lmdbredis is now ready to exit, bye bye...")

    def _on_loop_error(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Take note of an error that nobody in the loop has caught."""
        failure = context.get("exception")
        log.error("%s", context["message"], exc_info=failure)
        if isinstance(failure, SyncFailed):
            self.die(failure)

    def die(self, failure: Exception) -> None:
        """End the process now: what is on disk is unknown from here on, and no later success would prove anything."""
        if isinstance(failure, SyncFailed):
            text = "The disk cannot be trusted (%s). No write is acknowledged any more; the process ends. Check the disk before the next start"
        else:
            text = "An error of the server's own (%r): the process ends. The log has everything that was acknowledged"
        log.critical(text, failure)
        os._exit(1)

    # --- settings ----------------------------------------------------------------------------------------------------------------------------

    def apply_config(self, changed: Iterable[str]) -> None:
        """Let the process follow settings that were changed. Raises ReplyError if it cannot: then nothing has changed."""
        names = set(changed)
        for name in sorted(names & {"port", "bind"}):
            raise ReplyError(SET_FAILED % (name, errors.LISTENS_ALREADY))
        if "maxclients" in names and (possible := clients_max(self.config.maxclients)) < self.config.maxclients:
            raise ReplyError(SET_FAILED % ("maxclients", errors.TOO_MANY_CLIENTS % possible))
        if names & {
            "synchronous-replicas",
            "min-replicas-to-write",
            "min-replicas-max-lag",
            "replica-serve-stale-data",
        }:
            self.role.apply()
            self.executor.after_batch.append(self.role.look_at_copies)
        if names & {"notify-keyspace-events", "slowlog-max-len", "slowlog-log-slower-than"}:
            self.executor.follow_settings()
            self.role.follow_events()
        if "hot-layer-size" in names:
            self.keyspace.cache.size_bytes = self.config.hot_layer_size_bytes
        if "loglevel" in names:
            log.setLevel(LEVELS[self.config.loglevel])
        if names & {"requirepass", "proto-max-bulk-len"}:
            for session in self.sessions:
                needs_auth = bool(self.config.requirepass) and session.gate & Gate.NEEDS_AUTH
                session.parser.authenticated = not needs_auth
                session.parser.bulk_bytes_max = self.config.proto_max_bulk_len_bytes


LEVELS: Final = {
    "debug": logging.DEBUG,
    "verbose": logging.DEBUG + 5,
    "notice": logging.INFO,
    "warning": logging.WARNING,
    "nothing": logging.CRITICAL,
}


def _prepare(work: Callable[[], None]) -> None:
    """Make the spare segment; a full disk shows itself again when the segment is needed."""
    try:
        work()
    except DiskFull as full:
        log.warning("no room for the next segment of the log: %s", full)


def _is_loopback(sock: Any) -> bool:
    """Tell whether a socket's peer is this machine."""
    try:
        host = sock.getpeername()[0]
    except OSError:  # gone already
        return False
    return bool(host.startswith("127.") or host in {"::1", "::ffff:127.0.0.1"})
