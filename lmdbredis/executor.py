"""The executor: the only writer. Requests in, one record into the log, replies out.

Theory. A batch is what the clients sent in one tick of the loop. `Executor.run` runs the requests of all its sessions one
after another against the keyspace, then appends everything that changed as one record, and only then are there replies.
The straight way from a request to its handler is a dictionary lookup and a call; whatever needs more thought (names in odd
case, wrong arity, sessions behind a gate, a full disk) takes `_slowly`.

Laws:

1. Replies exist after the record is written. What they then wait for (a sync, a replica) is the barrier's affair: they carry
   `Executor.lsn`.
2. A batch that cannot be logged did not happen: the store is repaired and the batch runs again with writes refused (full
   disk), or without the one request whose handler failed. So no request may have an effect outside the store and its own
   session before the record is written; what must happen later is left in `after_batch`.
3. No batch is longer than `BATCH_REQUESTS_MAX` requests, and none takes more than a fair part from one session.

It knows no sockets and no clock; `Server` names what a handler may ask of the room above.
"""

from __future__ import annotations

import logging
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, Protocol

from lmdbredis import errors
from lmdbredis.errors import DiskFull, ReplyError, SyncFailed, shown
from lmdbredis.pubsub import Hub, Kind, encoded
from lmdbredis.registry import NO_AUTH, NO_MULTI, TABLE, Command, Context
from lmdbredis.resp import NO_REPLY, PONG, QUEUED, Raw, Several
from lmdbredis.scripting.runtime import Scripting
from lmdbredis.session import NO_REQUESTS, Gate, Session, Sessions
from lmdbredis.watches import Later, Watches

if TYPE_CHECKING:
    import random as chance
    from collections.abc import Callable, Iterable

    from lmdbredis.config import Config
    from lmdbredis.keyspace import Database, Keyspace
    from lmdbredis.store import Store

BATCH_REQUESTS_MAX: Final = 4096
_SESSION_REQUESTS_MAX: Final = 1024
_RUN_REQUESTS_MIN: Final = 4  # fewer are not worth the run
_EACH_ALONE: Final = (0, 0)  # for `_Failed`: no session has this id, so each request is run by itself the next time
_LONG_REPLY_BYTES: Final = 1 << 20  # a longer reply ends its session's part of the batch, so that it can leave
# What a session that listens may say in RESP2, where pushes cannot be told from replies.
_WHILE_LISTENING: Final = frozenset(
    ("subscribe", "unsubscribe", "psubscribe", "punsubscribe", "ssubscribe", "sunsubscribe", "ping", "quit", "reset")
)
_UNKNOWN_CHARS: Final = 128  # of an unknown command's words are shown in its error, about
_BROWSER_WORDS: Final = frozenset({b"POST", b"HOST:"})  # how lines of HTTP begin

log = logging.getLogger("lmdbredis")


class Server(Protocol):
    """What handlers may ask of the process: everything impure."""

    sessions: Sessions
    run_id: str
    started_ms: int

    def facts(self) -> dict[str, Any]:
        """Return what only the operating system knows: memory, cpu, addresses (see `info`)."""

    def apply_config(self, changed: Iterable[str]) -> None:
        """Let the process follow settings that were changed."""

    def shutdown(self, *, save: bool) -> None:
        """End the process in order when the batch is logged."""

    def sleep(self, seconds: float) -> None:
        """Stop everything for a while (DEBUG SLEEP)."""

    def reload(self) -> None:
        """Close and reopen the store. As the others below that change it, for `after_batch`."""

    def save(self, session: Session) -> None:
        """Make a checkpoint, here and now; the session's last reply says whether it was made."""

    def begin_save(self) -> None:
        """Make a checkpoint in the background."""

    def change_replid(self) -> None:
        """Give the store's history another name."""

    def set_active_expire(self, *, on: bool) -> None:
        """Let keys expire that nobody asks for, or not."""

    def rewrite_config(self) -> None:
        """Write the settings into the file they were read from. Raises OSError."""

    def reset_stats(self) -> None:
        """Set the counters that INFO shows to zero."""

    def while_script_runs(self, *, is_first: bool) -> bool:
        """Look after the other clients if a script runs for long: called often while it does; True ends it."""


class _Failed(Exception):
    """A handler failed, not the request: law 2."""

    def __init__(self, session_id: int, index: int, reason: str) -> None:
        super().__init__(reason)
        self.request = (session_id, index)
        self.reason = reason


class Executor:
    """See the module."""

    def __init__(self, store: Store, keyspace: Keyspace, config: Config, random: chance.Random, server: Server) -> None:
        self.store = store
        self.keyspace = keyspace
        self.config = config
        self.cx = Context(keyspace, config, random, server, self)
        self.after_batch: list[Callable[[], None]] = []  # called once the record is written (law 2)
        # Called, last first, if the batch is undone: give sessions their state back.
        self.if_undone: list[Callable[[], object]] = []
        self.watches = Watches(keyspace)
        self.hub = Hub()
        self.scripting = Scripting(self.cx)
        self.heard: dict[Session, None] = {}  # who was sent a message by the batch
        self.refusal: str | None = None  # why writes are refused, None = they are not
        self.commands_run = 0

    @property
    def lsn(self) -> int:
        """Return the lsn that replies made now must wait for."""
        return self.store.wal.end_lsn

    # --- batches ------------------------------------------------------------------------------------------------------------

    def run(self, sessions: list[Session], now_us: int) -> list[Session]:
        """Run a batch: each session's `output` then holds its replies. Returns the sessions that have requests left."""
        self._begin(now_us)
        self.heard = {}
        failed: dict[tuple[int, int], str] = {}
        while True:
            try:
                self._execute(sessions, failed)
                if self.refusal is None:  # else there is nothing but bookkeeping to log, and that can wait
                    self.store.append(self.cx.now_ms)
                break
            except DiskFull as full:
                self._undo()
                self.refuse_writes(full)
            except _Failed as failure:
                self._undo()
                failed[failure.request] = failure.reason
        for session in self.heard:
            if session.pushed:
                session.output += b"".join(session.pushed)
                session.pushed = []
        left = []
        for session in sessions:
            run = session.run_now
            self.commands_run += run
            if run == len(session.requests) or session.closing:
                session.requests = NO_REQUESTS
            else:
                del session.requests[:run]
                left.append(session)
        self._end()
        return left

    def internal(self, work: Callable[[], None], now_us: int) -> None:
        """Run `work` as a batch of its own: for what no client asked for (expiry). Raises DiskFull, nothing kept then."""
        self._begin(now_us)
        try:
            work()
            self.store.append(self.cx.now_ms)
        except BaseException:
            self._undo()
            raise
        self._end()

    def refuse_writes(self, full: DiskFull) -> None:
        """Answer MISCONF to writes from now on."""
        if self.refusal is None:
            log.warning("The disk is full (%s): writes are refused, reads go on", full)
        self.refusal = errors.MISCONF_FULL
        self.keyspace.may_expire = False  # a read that finds an expired key must not write

    def accept_writes(self) -> None:
        """Take writes again."""
        if self.refusal is not None:
            log.warning("There is room on the disk again: writes are accepted")
        self.refusal = None
        self.keyspace.may_expire = True

    # --- messages -----------------------------------------------------------------------------------------------------------------

    def subscribe(self, session: Session, kind: Kind, name: bytes) -> None:
        """Let a session listen to a name."""
        if self.hub.subscribe(session, kind, name):
            self.if_undone.append(partial(self.hub.unsubscribe, session, kind, name))

    def unsubscribe(self, session: Session, kind: Kind, name: bytes) -> None:
        """Let a session listen to a name no more."""
        if self.hub.unsubscribe(session, kind, name):
            self.if_undone.append(partial(self.hub.subscribe, session, kind, name))

    def publish(self, kind: Kind, channel: bytes, message: bytes) -> int:
        """Send a message to everybody who listens to the channel; return to how many. It leaves when the batch is written."""
        count = 0
        cache: dict[Any, bytes] = {}
        for session, head in self.hub.receivers(kind, channel):
            session.pushed.append(encoded(cache, session, (*head, message)))
            self.heard[session] = None
            count += 1
        return count

    # --- watches ------------------------------------------------------------------------------------------------------------------

    def watch(self, session: Session, database: Database, keys: Iterable[bytes]) -> None:
        """Let a session watch keys. Raises Later: this batch has touched one of them."""
        watched, is_stale = session.watched, session.is_stale
        self.if_undone.append(lambda: self._watch_again(session, watched, is_stale))
        for key in keys:
            self.watches.watch(session, database, key)

    def unwatch(self, session: Session) -> None:
        """Let a session watch nothing."""
        if session.watched or session.is_stale:
            watched, is_stale = session.watched, session.is_stale
            self.if_undone.append(lambda: self._watch_again(session, watched, is_stale))
            self.watches.forget(session)

    def _watch_again(self, session: Session, watched: dict[Any, Any], is_stale: bool) -> None:
        self.watches.let(session, watched)
        session.is_stale = is_stale

    def _begin(self, now_us: int) -> None:
        self.cx.now_us = now_us
        self.cx.now_ms = self.keyspace.now_ms = now_us // 1000

    def _undo(self) -> None:
        """Bring store and keyspace back to before the batch."""
        self.after_batch.clear()
        while self.if_undone:
            self.if_undone.pop()()
        for session in self.heard:
            session.pushed = []
        self.heard = {}
        self.store.repair()

    def _end(self) -> None:
        """Do what waits for the record."""
        self.keyspace.cache.trim()
        self.if_undone.clear()
        if self.after_batch:
            waiting, self.after_batch = self.after_batch, []
            for work in waiting:
                work()

    def _execute(self, sessions: list[Session], failed: dict[tuple[int, int], str]) -> None:
        """Run every request that has its turn and gather the replies. The hot loop."""
        cx = self.cx
        table = TABLE
        room = BATCH_REQUESTS_MAX
        if self.refusal is None and not failed:
            sessions, ran = self._execute_runs(sessions)
            room -= ran
        for session in sessions:
            requests = session.requests
            if len(requests) > _SESSION_REQUESTS_MAX or len(requests) > room:
                requests = requests[: min(_SESSION_REQUESTS_MAX, room)]
            room -= len(requests)
            words: list[bytes] = []
            cx.session = session
            cx.db = session.database
            replies: list[bytes] = []
            if session.pushed:  # what came before its turn
                replies, session.pushed = session.pushed, replies
            reply = replies.append
            index = 0
            for words in requests:
                try:
                    command = table.get(words[0])
                    if command is None or session.gate or self.refusal is not None or failed:
                        value = self._slowly(session, words, failed.get((session.id, index)))
                    elif command.words_min <= len(words) <= command.words_max:
                        value = command.handler(cx, *words[1:])
                    else:
                        value = command.wrong_arity()
                except ReplyError as error:
                    value = error
                except Later:
                    break
                except SyncFailed:
                    raise
                except DiskFull as error:
                    # It failed again, without any write: it is this request that needs room.
                    if self.refusal is not None:
                        raise _Failed(session.id, index, "the disk is full") from error
                    raise DiskFull(str(error)) from error
                except Exception as error:
                    log.exception("%s failed: nothing of it is kept", shown(words[0]))
                    raise _Failed(session.id, index, type(error).__name__) from error
                index += 1
                if value is not NO_REPLY:
                    encoded = session.encode[value.__class__](value)
                    reply(encoded)
                    if len(encoded) > _LONG_REPLY_BYTES:
                        session.pauses = True
                if session.pauses:
                    session.pauses = False
                    break
            session.run_now = index
            session.output = b"".join(replies) if len(replies) != 1 else replies[0]
            if index:
                session.last_ms = cx.now_ms
                session.last_words = words

    # --- runs -------------------------------------------------------------------------------------------------------------------

    def _execute_runs(self, sessions: list[Session]) -> tuple[list[Session], int]:
        """Run what several requests have in common; return (the sessions that are left, how many requests were run).

        Requests of different clients have no order until they are answered. So clients that ask for the same command, and
        nothing else, are taken together, and the command's `run` pays for its calls and lookups once.
        """
        by_name: dict[bytes, list[Session]] = {}
        for session in sessions:
            requests = session.requests
            if requests:
                by_name.setdefault(requests[0][0], []).append(session)
        left, room = [], BATCH_REQUESTS_MAX
        for name, members in by_name.items():
            command = TABLE.get(name)
            if command is None or command.run is None:
                left += members
                continue
            first = members[0]
            database, encode, words_min = first.database, first.encode, command.words_min
            run: list[Session] = []
            requests = []
            for session in members:
                asked = session.requests
                if (
                    session.gate
                    or session.database is not database
                    or session.encode is not encode
                    or len(asked) > _SESSION_REQUESTS_MAX
                    or len(requests) + len(asked) > room
                    or not (len(asked[0]) == words_min if len(asked) == 1 else _is_uniform(asked, name, words_min))
                ):
                    left.append(session)
                else:
                    run.append(session)
                    requests += asked
            if len(requests) < _RUN_REQUESTS_MIN or not self._execute_run(command, run, requests):
                left += run
            else:
                room -= len(requests)
        return left, BATCH_REQUESTS_MAX - room

    def _execute_run(self, command: Command, sessions: list[Session], requests: list[list[bytes]]) -> bool:
        """Run the requests of these sessions as one; tell whether that was possible."""
        cx = self.cx
        cx.session = sessions[0]
        cx.db = sessions[0].database
        assert command.run is not None
        try:
            values = command.run(cx, requests)
        except (SyncFailed, DiskFull):
            raise
        except Exception as error:
            log.exception("%s failed: nothing of it is kept", command.name)
            raise _Failed(*_EACH_ALONE, type(error).__name__) from error
        if values is None:
            return False
        encode = sessions[0].encode
        replies: list[bytes] = []
        last, encoded = NO_REPLY, b""
        for value in values:
            if value is not last:  # else as before: OK, or the range that everybody asks for
                last, encoded = value, encode[value.__class__](value)
            replies.append(encoded)
        at = 0
        for session in sessions:
            asked = session.requests
            run_now = count = len(asked)
            if count == 1:
                session.output = replies[at]
            else:
                part = replies[at : at + count]
                if sum(map(len, part)) > _LONG_REPLY_BYTES and not command.writes:
                    run_now = _leading(part)  # the rest will be read again
                session.output = b"".join(part[:run_now])
            session.run_now = run_now
            session.last_ms = cx.now_ms
            session.last_words = asked[run_now - 1]
            at += count
        return True

    # --- the other ways ------------------------------------------------------------------------------------------------------------

    def _slowly(self, session: Session, words: list[bytes], failure: str | None) -> Any:
        """Return the reply to a request that is not on the straight way."""
        if failure is not None:
            return ReplyError(errors.INTERNAL % failure)
        mode = session.gate & (Gate.REPLY_OFF | Gate.REPLY_SKIP)
        session.gate &= ~Gate.REPLY_SKIP
        if words[0].upper() in _BROWSER_WORDS:
            return self._hang_up(session)
        runs = False
        try:
            command = self.resolve(session, words)
            if session.gate & Gate.LISTENS and session.protocol == 2 and command.name not in _WHILE_LISTENING:
                raise ReplyError(errors.ONLY_LISTENING % _called(command, words))
            if session.gate & Gate.IN_MULTI and command.is_queued:
                value = self._queue(session, command, words)
            elif self.refusal is not None and command.writes:
                raise ReplyError(self.refusal)
            else:
                runs = True
                value = command.handler(self.cx, *words[1:])
        except ReplyError as error:
            value = error
            if session.gate & Gate.IN_MULTI and not runs:
                self.if_undone.append(session.kept())
                session.aborts = True
                if words[0].upper() == b"EXEC":
                    self.unwatch(session)
                    session.end_transaction()
        if session.gate & Gate.LISTENS:
            value = _among_pushes(session, words, value)
        if mode and not (mode == Gate.REPLY_OFF and not session.gate & Gate.REPLY_OFF):
            return NO_REPLY
        return value

    def _queue(self, session: Session, command: Command, words: list[bytes]) -> Any:
        """Keep a command for EXEC. Raises ReplyError: then EXEC will refuse."""
        if command.subcommand(words).flags & NO_MULTI:
            raise ReplyError(errors.NOT_IN_MULTI % command.name)
        if self.refusal is not None and command.writes:
            raise ReplyError(self.refusal)
        session.queued.append((command, words))
        self.if_undone.append(session.queued.pop)
        return QUEUED

    def _hang_up(self, session: Session) -> Any:
        """Cut off, without a word, who speaks HTTP: a browser that a web page sends here (cross protocol scripting)."""
        log.warning(errors.SECURITY_ATTACK, session.address)

        def cut() -> None:
            session.output = b""
            session.kill()

        session.closing = session.pauses = True
        self.after_batch.append(cut)
        return NO_REPLY

    def resolve(self, session: Session, words: list[bytes]) -> Command:
        """Return the command that the words call. Raises ReplyError: not for strangers, unknown, or wrong number of words."""
        command = TABLE.get(words[0]) or TABLE.get(words[0].upper())
        if session.gate & Gate.NEEDS_AUTH and not (command is not None and command.flags & NO_AUTH):
            raise ReplyError(errors.NO_AUTH)
        if command is None:
            rest = ""
            for word in words[1:]:
                if len(rest) >= _UNKNOWN_CHARS:
                    break
                rest += f"'{shown(word, _UNKNOWN_CHARS - len(rest))}' "
            raise ReplyError(errors.UNKNOWN_COMMAND % (shown(words[0]), rest))
        if not command.words_min <= len(words) <= command.words_max:
            raise command.wrong_arity()
        return command


def _called(command: Command, words: list[bytes]) -> str:
    """Return the full name of what a request calls."""
    try:
        return command.subcommand(words).name
    except ReplyError:
        return command.name


def _among_pushes(session: Session, words: list[bytes], value: Any) -> Any:
    """Return the reply to someone who listens, with the messages that his own command sent to him behind it."""
    if session.protocol == 2 and value is PONG:
        value = [b"pong", b""]
    elif session.protocol == 2 and words[0].upper() == b"PING" and value.__class__ is bytes:
        value = [b"pong", value]
    if not session.pushed:
        return value
    pushed, session.pushed = Raw(b"".join(session.pushed)), []
    return Several([value, pushed])


def _is_uniform(requests: list[list[bytes]], name: bytes, words: int) -> bool:
    """Tell whether each request is this command, spelled like this, with so many words."""
    return all(len(request) == words and request[0] == name for request in requests)


def _leading(replies: list[bytes]) -> int:
    """Return how many of the replies may leave together, at least one."""
    return next(number for number, total in enumerate(accumulate(map(len, replies)), 1) if total > _LONG_REPLY_BYTES)
