"""The executor: the only writer. Requests in, one record into the log, replies out.

Theory. A batch is what the clients sent in one tick of the loop. `Executor.run` runs the requests of all its sessions one
after another against the keyspace, then appends everything that changed as one record, and only then are there replies.
The straight way from a request to its handler is a dictionary lookup and a call; whatever needs more thought (names in odd
case, subcommands, wrong arity, sessions behind a gate, a full disk, somebody who watches) takes `_slowly`.

Laws:

1. Replies exist after the record is written. What they then wait for (a sync, a replica) is the barrier's affair: they carry
   `Executor.lsn`.
2. A batch that cannot be logged did not happen: the store is repaired and the batch runs again with writes refused (full
   disk), or without the one request whose handler failed. So no request may have an effect outside the store and its own
   session before the record is written; what must happen later is left in `after_batch`, what is done is undone by `if_undone`.
3. No batch is longer than `BATCH_REQUESTS_MAX` requests, and none takes more than a fair part from one session.
4. A command that runs inside another (`perform`: transactions, scripts) is counted, watched and told of like any other; clients
   that wait for keys are served when the outer one is done.

It knows no sockets; its clock is told (`clock`: nanoseconds, never jumps); `registry.Server` names what a handler may ask of the room
above.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from lmdbredis import errors
from lmdbredis import format as fmt
from lmdbredis.blocking import Wait
from lmdbredis.errors import DiskFull, ReplyError, StorageError, SyncFailed, shown
from lmdbredis.lobby import HandlerFailed, is_told
from lmdbredis.news import News, What
from lmdbredis.pauses import AS_WRITES
from lmdbredis.pubsub import Kind
from lmdbredis.registry import NO_AUTH, NO_MULTI, READ, STALE, TABLE, WRITE, Command, called, find, name_of
from lmdbredis.resp import NO_REPLY, QUEUED, Raw, Several
from lmdbredis.runs import BATCH_REQUESTS_MAX, LONG_REPLY_BYTES, MIDDLING_REPLY_BYTES, SESSION_REQUESTS_MAX, Runs
from lmdbredis.session import NO_REQUESTS, STANDS, Gate, Session
from lmdbredis.store import NoRoom
from lmdbredis.watches import Later

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lmdbredis.wal import Record

# What a session that listens may say in RESP2, where pushes cannot be told from replies.
_WHILE_LISTENING: Final = frozenset(
    ("subscribe", "unsubscribe", "psubscribe", "punsubscribe", "ssubscribe", "sunsubscribe", "ping", "quit", "reset")
)
_TOUCHES_KEYS: Final = READ | WRITE
_HEARS: Final = Gate.LISTENS | Gate.MONITORS
_UNKNOWN_CHARS: Final = 128  # of an unknown command's words are shown in its error, about
_BROWSER_WORDS: Final = frozenset({b"POST", b"HOST:"})  # how lines of HTTP begin

log = logging.getLogger("lmdbredis")


class Executor(Runs):
    """See the module."""

    @property
    def lsn(self) -> int:
        """Return the lsn that replies made now must wait for."""
        return self.store.wal.end_lsn

    # --- batches ------------------------------------------------------------------------------------------------------------

    def run(self, sessions: list[Session], now_us: int) -> list[Session]:
        """Run a batch: each session's `output` then holds its replies. Returns the sessions that have requests left."""
        self._begin(now_us)
        while True:
            try:
                self._execute(sessions)
                if self.refusal is None:  # else there is nothing but bookkeeping to log, and that can wait
                    self.store.append(self.cx.now_ms)
                break
            except NoRoom as full:
                self._undo()
                self.refuse_writes(full)
            except HandlerFailed as failure:
                self._undo()
                self.failed[failure.request] = failure.reason
                self.look()
        left = []
        for session in sessions:
            run = session.run_now
            if run == len(session.requests) or session.closing:
                session.requests = NO_REQUESTS
            else:
                if run:
                    del session.requests[:run]
                if not (session.gate and session.gate & STANDS):
                    left.append(session)
        self.end()
        return left

    def internal(self, work: Callable[[], None], now_us: int) -> None:
        """Run `work` as a batch of its own: for what no client asked for (expiry). Raises DiskFull, nothing kept then."""
        self._begin(now_us)
        while True:
            try:
                work()
                if self.keyspace.news:
                    self.tell("", (), 0)
                    if self.waiters.ready:
                        self.serve()
                self.store.append(self.cx.now_ms)
                break
            except HandlerFailed as failure:  # of a client that waits: he is told the next time
                self._undo()
                self.failed[failure.request] = failure.reason
            except NoRoom as full:
                self._undo()
                raise DiskFull(str(full)) from full
            except BaseException:
                self._undo()
                raise
        self.end()

    def follow(self, records: Sequence[Record], now_us: int) -> None:
        """Take records of the log that this server copies, and serve who waits for what they bring. Between batches.

        Raises DiskFull: what is in the log by then has come; StorageError: they do not follow on what is there.
        """
        self._begin(now_us)
        begin_lsn, failure = self.lsn, None
        try:
            rows, notes = self.store.follow(records)
            self.keyspace.take_over(rows)
        except (StorageError, *NoRoom) as error:
            failure = error
            self._undo()  # which brings all that is in the log by now
            came = [record.payload for record in records if begin_lsn <= record.lsn and record.end_lsn <= self.lsn]
            rows, notes = fmt.merge_payloads(came)
            if came:
                self.keyspace.news += [News(What.ALL, database, b"") for database in self.keyspace.databases]
        for hook in self.store.hooks:
            hook(rows)
        for letter, name, number, key in notes:
            if letter:
                self.announce(letter, name, number, key)
            else:
                self.publish(Kind(number), name, key)
        if self.keyspace.news:
            self.waiters.note(self.keyspace.news)
            self.keyspace.news.clear()
        self._serve_readers()
        if isinstance(failure, StorageError):
            raise failure
        if failure is not None:
            raise DiskFull(str(failure)) from failure

    def portions(self, records: list[Record]) -> list[list[Record]]:
        """Return records of the log that this server copies as they are to be followed: together, which costs less, if nobody here waits or watches.

        What one of them brings, the next may take away: who waits or watches must not miss it.
        """
        return [[record] for record in records] if self.waiters or self.store.hooks else [records]

    def look_again(self, now_us: int) -> None:
        """Serve who waits for keys, whichever they are: another state has taken the place of the one that was here. Between batches."""
        self._begin(now_us)
        self.waiters.note([News(What.ALL, database, b"") for database in self.keyspace.databases])
        self._serve_readers()

    def _serve_readers(self) -> None:
        """Serve who waits for what came from the server that this one copies."""
        while self.waiters.ready:
            try:
                self.serve()
            except HandlerFailed as failure:  # nothing was written: he is told the next time
                self.failed[failure.request] = failure.reason
            except NoRoom as full:  # a read in order waited for a commit that failed
                self._undo()
                self.refuse_writes(full)
        self.end()

    def refuse_writes(self, full: Exception) -> None:
        """Answer MISCONF to writes from now on."""
        if self.refusal is None:
            log.warning("The disk is full (%s): writes are refused, reads go on", full)
        self.refusal = errors.MISCONF_FULL
        self.look()

    def accept_writes(self) -> None:
        """Take writes again."""
        if self.refusal is not None:
            log.warning("There is room on the disk again: writes are accepted")
        self.refusal = None
        self.look()

    def _begin(self, now_us: int) -> None:
        if self.failed:
            self.failed = {}
            self.look()
        self.cx.now_us = now_us
        self.cx.now_ms = self.keyspace.now_ms = now_us // 1000

    def _undo(self) -> None:
        """Bring store and keyspace back to before the batch."""
        self.in_script = self.in_transaction = False
        self.after_batch.clear()
        while self.if_undone:
            self.if_undone.pop()()
        for session in self.heard:
            session.pushed = []
        self.heard, self.resumed = {}, {}
        self.waiters.ready.clear()
        self.store.repair()

    # --- the straight way -----------------------------------------------------------------------------------------------------------

    def _execute(self, sessions: list[Session]) -> None:
        """Run every request that has its turn and gather the replies. The hot loop."""
        cx, keyspace, clock, table = self.cx, self.keyspace, self.clock, self.table
        ready = self.waiters.ready
        slow_ns = self.slow_ns
        room = BATCH_REQUESTS_MAX
        if self.may_run:
            sessions, ran = self.execute_runs(sessions)
            room -= ran
        before_ns = clock()
        for session in sessions:
            requests = session.requests
            if len(requests) > SESSION_REQUESTS_MAX or len(requests) > room:
                requests = requests[: min(SESSION_REQUESTS_MAX, room)]
            if session.closing or (session.gate and session.gate & STANDS):
                requests = NO_REQUESTS
            room -= len(requests)
            words: list[bytes] = []
            cx.session = session
            cx.db = session.database
            replies: list[bytes] = []
            if session.pushed:  # what came before its turn
                replies, session.pushed = session.pushed, replies
            reply = replies.append
            index = long_bytes = 0
            for words in requests:
                command = table.get(words[0])
                try:
                    if (
                        command is None
                        or session.gate
                        or self.is_watched
                        or not command.words_min <= len(words) <= command.words_max
                    ):
                        if session.pushed:  # since its last request
                            replies += session.pushed
                            session.pushed = []
                        value = self._slowly(session, words, index)
                        before_ns = clock()
                    else:
                        value = command.handler(cx, *words[1:])
                        now_ns = clock()
                        command.calls += 1
                        command.elapsed_ns += now_ns - before_ns
                        if now_ns - before_ns >= slow_ns:
                            self.note_slow(command, words, now_ns - before_ns)
                        before_ns = now_ns
                        if keyspace.news:
                            self.tell(command.name, words, 0)
                    if ready:
                        self.serve()
                except ReplyError as error:
                    value = error.with_traceback(None)  # which holds this frame, and that the words
                    assert command is not None  # `_slowly` raises none
                    now_ns = clock()
                    self.count_error(command, words, error, now_ns - before_ns)
                    before_ns = now_ns
                    if keyspace.news:
                        self.tell(command.name, words, 0)
                    if ready:  # a script that failed may have written
                        self.serve()
                except Later:
                    if keyspace.news:  # it found a key whose time had come
                        self.tell("", (), 0)
                        self.serve()
                    break
                except Wait as wait:
                    if keyspace.news:
                        self.tell(command.name, words, 0)  # type: ignore[union-attr]
                        self.serve()
                    value = self.wait(session, command, words, wait)  # type: ignore[arg-type]
                except (SyncFailed, HandlerFailed):
                    raise
                except NoRoom as error:
                    # It failed again, without any write: it is this request that needs room.
                    if self.refusal is not None:
                        raise HandlerFailed(session.id, index, "the disk is full") from error
                    raise
                except Exception as error:
                    log.exception("%s failed: nothing of it is kept", shown(words[0]))
                    raise HandlerFailed(session.id, index, type(error).__name__) from error
                index += 1
                if value is not NO_REPLY:
                    encoded = session.encode[value.__class__](value)
                    reply(encoded)
                    if len(encoded) > MIDDLING_REPLY_BYTES:
                        long_bytes += len(encoded)
                        if long_bytes > LONG_REPLY_BYTES:
                            session.pauses = True
                if session.pauses:
                    session.pauses = False
                    break
            session.run_now = index
            session.output = b"".join(replies) if len(replies) != 1 else replies[0]
            if index:
                session.last_ms = cx.now_ms
                session.last_words = words

    # --- the other ways ------------------------------------------------------------------------------------------------------------

    def _slowly(self, session: Session, words: list[bytes], index: int) -> Any:
        """Return the reply to a request that is not on the straight way. Raises Later."""
        command = TABLE.get(words[0])
        if (
            session.gate == Gate.IN_MULTI
            and not self.is_watched
            and self.denial is None
            and command is not None
            and command.is_queued
            and command.words_min <= len(words) <= command.words_max
        ):  # as `_queue`
            session.queued.append((command, words))
            self.if_undone.append(session.queued.pop)
            return QUEUED
        failure = self.failed.get((session.id, index))
        if failure is not None:
            if (
                session.gate & Gate.IN_MULTI and name_of(words[0]) == "exec"
            ):  # it ends the transaction, whatever it says
                self.if_undone.append(session.kept_state())
                self.unwatch(session)
                session.end_transaction()
            return ReplyError(errors.INTERNAL % failure)
        mode = session.gate & (Gate.REPLY_OFF | Gate.REPLY_SKIP)
        if words[0].upper() in _BROWSER_WORDS:
            return self._hang_up(session)
        runs = False
        try:
            command = self.resolve(session, words)
            if session.gate & Gate.LISTENS and session.protocol == 2 and command.name not in _WHILE_LISTENING:
                raise ReplyError(errors.ONLY_LISTENING % command.name)
            if session.gate & Gate.MONITORS and (command.flags & _TOUCHES_KEYS or command.name in AS_WRITES):
                raise ReplyError(errors.MONITOR_ONLY)
            if self.masks_all and not command.flags & STALE:
                raise ReplyError((self.no_writes if command.writes else None) or errors.MASTER_DOWN)
            if self.pauses.is_on and self.pauses.hold(session, command, words, self.scripting.writes_nothing):
                self.if_undone.append(partial(self._hold_no_more, session))
                session.gate |= Gate.PAUSED
                raise Later
            if mode & Gate.REPLY_SKIP:
                self.if_undone.append(partial(_skip_again, session))
                session.gate &= ~Gate.REPLY_SKIP
            if session.gate & Gate.IN_MULTI and (command.is_queued or command.flags & NO_MULTI):
                value = self._queue(session, command, words)
            elif command.writes and self.no_writes is not None:
                raise ReplyError(self.no_writes)
            else:
                runs = True
                value = self.perform(command, words)
        except Later:
            session.gate |= mode & Gate.REPLY_SKIP
            raise
        except Wait as wait:
            assert command is not None
            return self.wait(session, command, words, wait, is_silent=bool(mode))
        except ReplyError as error:
            value = error.with_traceback(None)
            session.gate &= ~Gate.REPLY_SKIP
            if not runs:
                value = self._reject(session, words, error)
        if mode and not is_told(mode, command, value):
            value = NO_REPLY
        return _among_pushes(session, value) if session.gate & _HEARS else value

    def _hold_no_more(self, session: Session) -> None:
        """Let a pause hold a session no more."""
        self.pauses.forget(session)
        session.gate &= ~Gate.PAUSED

    def _reject(self, session: Session, words: list[bytes], error: ReplyError) -> ReplyError:
        """Take note of a request that was refused before its handler was asked; return its reply. A refused EXEC ends its transaction."""
        command = find(words)
        if command is not None:
            command.rejected_calls += 1
        if session.gate & Gate.IN_MULTI:
            self.if_undone.append(session.kept_state())
            session.aborts = True
        if command is not None and command.name == "exec":
            if self.observers.monitors:
                self.show(command.name, words)
            self.unwatch(session)
            session.end_transaction()
            error = ReplyError(errors.EXEC_REFUSED % error.text.removeprefix("ERR "))
        self.observers.note_error(error)
        return error

    def _queue(self, session: Session, command: Command, words: list[bytes]) -> Any:
        """Keep a command for EXEC. Raises ReplyError: then EXEC will refuse."""
        if command.flags & NO_MULTI:
            raise ReplyError(errors.NOT_IN_MULTI % command.name)
        if self.no_writes is not None and self.says_it_writes(command, words):
            raise ReplyError(self.no_writes)
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
        """Return the command or subcommand that the words call. Raises ReplyError: not for strangers, unknown, or wrong arity."""
        command = called(words[0])
        if (
            session.gate & Gate.NEEDS_AUTH
            and self.config.requirepass
            and not (command is not None and command.flags & NO_AUTH)
        ):
            raise ReplyError(errors.NO_AUTH)
        if command is None:
            rest = ""
            for word in words[1:]:
                if len(rest) >= _UNKNOWN_CHARS:
                    break
                rest += f"'{shown(word, _UNKNOWN_CHARS - len(rest))}' "
            raise ReplyError(errors.UNKNOWN_COMMAND % (shown(words[0]), rest))
        return command.subcommand(words)


def _skip_again(session: Session) -> None:
    """Let the next command have no reply after all."""
    session.gate |= Gate.REPLY_SKIP


def _among_pushes(session: Session, value: Any) -> Any:
    """Return the reply to someone who listens, with the messages that his own command sent to him behind it."""
    if not session.pushed:
        return value
    pushed, session.pushed = Raw(b"".join(session.pushed)), []
    return pushed if value is NO_REPLY else Several([value, pushed])
