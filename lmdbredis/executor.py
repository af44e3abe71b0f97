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
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

from lmdbredis import errors
from lmdbredis.blocking import Wait, Waiters, Waiting
from lmdbredis.errors import DiskFull, ReplyError, SyncFailed, shown
from lmdbredis.events import Events
from lmdbredis.keyspace import kind_of
from lmdbredis.observers import Observers
from lmdbredis.pauses import Pauses
from lmdbredis.pubsub import Hub, Kind, encoded
from lmdbredis.registry import (
    ADMIN,
    NO_AUTH,
    NO_MULTI,
    READ,
    SKIP_MONITOR,
    SKIP_SLOWLOG,
    TABLE,
    WRITE,
    Command,
    Context,
    find,
)
from lmdbredis.resp import NO_REPLY, NULL_ARRAY, PONG, QUEUED, Raw, Several
from lmdbredis.scripting.runtime import Scripting
from lmdbredis.session import NO_REQUESTS, STANDS, Gate, Session
from lmdbredis.watches import Later, Watches

if TYPE_CHECKING:
    import random as chance
    from collections.abc import Callable, Iterable, Sequence

    from lmdbredis.config import Config
    from lmdbredis.keyspace import Database, Keyspace
    from lmdbredis.registry import Server
    from lmdbredis.store import Store

BATCH_REQUESTS_MAX: Final = 4096
_SESSION_REQUESTS_MAX: Final = 1024
_RUN_REQUESTS_MIN: Final = 4  # fewer are not worth the run
_EACH_ALONE: Final = (0, 0)  # for `_Failed`: no session has this id, so each request is run by itself the next time
_WAITED: Final = -1  # for `_Failed`: the request that a session waits with
_LONG_REPLY_BYTES: Final = 1 << 20  # a longer reply ends its session's part of the batch, so that it can leave
_NEVER_NS: Final = 1 << 63
# What a session that listens may say in RESP2, where pushes cannot be told from replies.
_WHILE_LISTENING: Final = frozenset(
    ("subscribe", "unsubscribe", "psubscribe", "punsubscribe", "ssubscribe", "sunsubscribe", "ping", "quit", "reset")
)
_UNKNOWN_CHARS: Final = 128  # of an unknown command's words are shown in its error, about
_BROWSER_WORDS: Final = frozenset({b"POST", b"HOST:"})  # how lines of HTTP begin
# A script is shown before what it runs; everything else when it has run.
_SHOWN_FIRST: Final = frozenset({"eval", "evalsha", "eval_ro", "evalsha_ro", "fcall", "fcall_ro"})
_TOUCHES_KEYS: Final = READ | WRITE
_UNSHOWN: Final = SKIP_MONITOR | ADMIN  # commands that MONITOR does not show

log = logging.getLogger("lmdbredis")


class _Failed(Exception):
    """A handler failed, not the request: law 2."""

    def __init__(self, session_id: int, index: int, reason: str) -> None:
        super().__init__(reason)
        self.request = (session_id, index)
        self.reason = reason


class Executor:
    """See the module."""

    def __init__(
        self,
        store: Store,
        keyspace: Keyspace,
        config: Config,
        random: chance.Random,
        server: Server,
        clock: Callable[[], int],
    ) -> None:
        self.store = store
        self.keyspace = keyspace
        self.config = config
        self.clock = clock
        self.cx = Context(keyspace, config, random, server, self)
        self.after_batch: list[Callable[[], None]] = []  # called once the record is written (law 2)
        # Called, last first, if the batch is undone: give sessions their state back.
        self.if_undone: list[Callable[[], object]] = []
        self.watches = Watches(keyspace)
        self.hub = Hub()
        self.waiters = Waiters()
        self.events = Events()
        self.observers = Observers()
        self.pauses = Pauses()
        self.scripting = Scripting(self.cx)
        self.heard: dict[Session, None] = {}  # who was sent something besides the replies of its turn
        self.resumed: dict[Session, None] = {}  # who waits no more, and may have requests left
        self.refusal: str | None = None  # why writes are refused, None = they are not
        self.is_watched = False  # no request may take the straight way
        self.in_script = False  # a script is asking, not the session itself
        self.in_transaction = False  # EXEC is running
        self.commands_run = 0
        self._failed: dict[tuple[int, int], str] = {}  # requests of the batch whose handlers failed
        self.follow_settings()

    @property
    def lsn(self) -> int:
        """Return the lsn that replies made now must wait for."""
        return self.store.wal.end_lsn

    # --- batches ------------------------------------------------------------------------------------------------------------

    def run(self, sessions: list[Session], now_us: int) -> list[Session]:
        """Run a batch: each session's `output` then holds its replies. Returns the sessions that have requests left."""
        self._begin(now_us)
        self._failed = {}
        while True:
            try:
                self._look()
                self._execute(sessions)
                if self.refusal is None:  # else there is nothing but bookkeeping to log, and that can wait
                    self.store.append(self.cx.now_ms)
                break
            except DiskFull as full:
                self._undo()
                self.refuse_writes(full)
            except _Failed as failure:
                self._undo()
                self._failed[failure.request] = failure.reason
        left = []
        for session in sessions:
            run = session.run_now
            self.commands_run += run
            if run == len(session.requests) or session.closing:
                session.requests = NO_REQUESTS
            else:
                if run:
                    del session.requests[:run]
                if not (session.gate and session.gate & STANDS):
                    left.append(session)
        self._end()
        return left

    def internal(self, work: Callable[[], None], now_us: int) -> None:
        """Run `work` as a batch of its own: for what no client asked for (expiry). Raises DiskFull, nothing kept then."""
        self._begin(now_us)
        try:
            work()
            if self.keyspace.news:
                self._tell("", (), 0)
                if self.waiters.ready:
                    self._serve()
            self.store.append(self.cx.now_ms)
        except BaseException:
            self._undo()
            raise
        self._end()

    def take_heard(self) -> tuple[list[Session], list[Session]]:
        """Return (who has output besides the sessions of the batch, who may run requests again); forget both."""
        heard, resumed = list(self.heard), [session for session in self.resumed if session.requests]
        self.heard, self.resumed = {}, {}
        return heard, resumed

    def refuse_writes(self, full: DiskFull) -> None:
        """Answer MISCONF to writes from now on."""
        if self.refusal is None:
            log.warning("The disk is full (%s): writes are refused, reads go on", full)
        self.refusal = errors.MISCONF_FULL
        self._look()

    def accept_writes(self) -> None:
        """Take writes again."""
        if self.refusal is not None:
            log.warning("There is room on the disk again: writes are accepted")
        self.refusal = None
        self._look()

    def follow_settings(self) -> None:
        """Take note of settings that have changed."""
        self.events.choose(self.config.notify_keyspace_events)
        self.observers.shorten(self.config.slowlog_max_len)
        self._look()

    def take_over(self, before: Executor) -> None:
        """Take the place of another executor, whose store was closed: who listens, waits or watches everything is with us now."""
        self.hub, self.waiters, self.observers, self.pauses = (
            before.hub,
            before.waiters,
            before.observers,
            before.pauses,
        )
        self.heard, self.resumed, self.commands_run = before.heard, before.resumed, before.commands_run
        self.scripting.take_over(before.scripting.scripts)
        self._look()

    def _look(self) -> None:
        """Find out what the next requests must take care of."""
        keyspace = self.keyspace
        # A read that finds an expired key must not write while nobody may.
        keyspace.may_expire = self.refusal is None and not self.pauses.is_on
        if not self.events.classes and not len(self.waiters):
            keyspace.news = None
        elif keyspace.news is None:
            keyspace.news = []
        self.is_watched = bool(
            self.refusal is not None
            or self._failed
            or self.events.classes
            or self.observers.monitors
            or self.pauses.is_on
        )

    def _begin(self, now_us: int) -> None:
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

    def _end(self) -> None:
        """Do what waits for the record."""
        for session in self.heard:
            if session.pushed:
                session.output += b"".join(session.pushed)
                session.pushed = []
        self.keyspace.cache.trim()
        self.if_undone.clear()
        if self.after_batch:
            waiting, self.after_batch = self.after_batch, []
            for work in waiting:
                work()

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

    def monitor(self, session: Session) -> bool:
        """Show a session everything that is run from now on; tell whether that is new to it."""
        monitors = self.observers.monitors
        if session in monitors:
            return False
        self.if_undone.append(session.kept())
        self.if_undone.append(lambda: monitors.pop(session, None))
        monitors[session] = None
        session.gate |= Gate.MONITORS
        self._look()
        return True

    def unmonitor(self, session: Session) -> None:
        """Show a session nothing any more."""
        if self.observers.monitors.pop(session, self) is None:
            self.if_undone.append(partial(self.observers.monitors.setdefault, session, None))
            session.gate &= ~Gate.MONITORS
            self._look()

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

    # --- waiting ------------------------------------------------------------------------------------------------------------------

    def _wait(
        self, session: Session, command: Command, words: list[bytes], wait: Wait, *, is_silent: bool = False
    ) -> Any:
        """Let a session wait, and run nothing else of it until then."""
        deadline_ns = self.clock() + wait.timeout_ms * 1_000_000 if wait.timeout_ms else 0
        waiting = Waiting(session, command, words, wait, deadline_ns, self.waiters.next_order())
        waiting.is_silent = is_silent
        self._stand(waiting)
        self.if_undone.append(lambda: self._go(session))
        session.pauses = True
        return NO_REPLY

    def _stand(self, waiting: Waiting) -> None:
        self.waiters.add(waiting)
        waiting.session.gate |= Gate.WAITS
        if self.keyspace.news is None:
            self._look()

    def _go(self, session: Session) -> None:
        self.waiters.remove(session)
        session.gate &= ~Gate.WAITS

    def wait_no_more(self, session: Session) -> None:
        """Let a session that is to be killed not be served any more."""
        waiting = self.waiters.of(session)
        if waiting is not None:
            self._go(session)
            self.if_undone.append(lambda: self._stand(waiting))

    def answer(self, waiting: Waiting, value: Any, place: int | None = None) -> None:
        """Give a session that waits its reply, before what has been pushed to it from a `place` on, and let it go on."""
        session = waiting.session
        self._go(session)
        self.if_undone.append(lambda: self._stand(waiting))
        if not waiting.is_silent:
            pushed = session.pushed
            pushed.insert(len(pushed) if place is None else place, session.encode[value.__class__](value))
        self.heard[session] = self.resumed[session] = None

    def _serve(self) -> None:
        """Run the requests again that wait for keys which have changed, first come, first served."""
        waiters = self.waiters
        if self.refusal is not None:  # they are writes, nearly all
            waiters.ready.clear()
        while waiters.ready:
            name = next(iter(waiters.ready))
            del waiters.ready[name]
            database = self.keyspace.databases[name[0]]
            for waiting in waiters.queue(name):
                found = database.find(name[1])
                if waiting.wakes_if_gone or (found is not None and kind_of(found) == waiting.kind):
                    self._try_again(waiting)
                elif found is None and not waiters.wake_if_gone:
                    break

    def _try_again(self, waiting: Waiting) -> None:
        """Run the request of a session that waits; if there still is nothing for it, it keeps its place."""
        cx, session = self.cx, waiting.session
        before, place = (cx.session, cx.db), len(session.pushed)
        cx.session, cx.db = session, session.database
        failure = self._failed.get((session.id, _WAITED))
        try:
            if failure is not None:
                raise ReplyError(errors.INTERNAL % failure)
            value = self.perform(waiting.command, waiting.words, again=True)
        except Wait:
            return
        except ReplyError as error:
            value = error
        except (SyncFailed, DiskFull):
            raise
        except Exception as error:
            log.exception("%s failed: nothing of it is kept", waiting.command.name)
            raise _Failed(session.id, _WAITED, type(error).__name__) from error
        finally:
            cx.session, cx.db = before
        self.answer(waiting, value, place)

    def give_up(self, waiting: Waiting, value: Any) -> None:
        """Let a session go on that has waited in vain."""
        command, error = waiting.command, value.__class__ is ReplyError
        command.calls += 1
        if error:
            command.rejected_calls += 1
            self.observers.note_error(value)
        if not self.config.slowlog_log_slower_than_us:
            cx, before = self.cx, self.cx.session
            cx.session = waiting.session
            self._note_slow(command, waiting.words, 0)
            cx.session = before
        self.answer(waiting, value)

    def next_deadline_ns(self) -> int:
        """Return when `pass_time` has something to do, 0 = never."""
        deadlines = (self.waiters.next_deadline_ns(), self.pauses.until_ns)
        return min((deadline_ns for deadline_ns in deadlines if deadline_ns), default=0)

    def pass_time(self) -> None:
        """Answer who has waited long enough; end a pause that is over."""
        now_ns = self.clock()
        while (waiting := self.waiters.due(now_ns)) is not None:
            self.give_up(waiting, NULL_ARRAY)
        if 0 < self.pauses.until_ns <= now_ns:
            self.unpause()
        self._end()

    # --- pauses -------------------------------------------------------------------------------------------------------------------

    def pause(self, milliseconds: int, *, writes_only: bool) -> None:
        """Let requests wait, all of them or those that may write, for a while."""
        self.pauses.begin(self.clock() + milliseconds * 1_000_000, writes_only=writes_only)
        self._look()

    def unpause(self) -> None:
        """Let requests wait no more."""
        for session in self.pauses.end():
            session.gate &= ~Gate.PAUSED
            self.resumed[session] = None
        self._look()

    def forget(self, session: Session) -> None:
        """Take note that a client is gone."""
        self.watches.forget(session)
        self.hub.forget(session)
        self.waiters.remove(session)
        self.pauses.forget(session)
        self.heard.pop(session, None)
        self.resumed.pop(session, None)
        if self.observers.monitors.pop(session, self) is None:
            self._look()

    # --- the straight way -----------------------------------------------------------------------------------------------------------

    def _execute(self, sessions: list[Session]) -> None:
        """Run every request that has its turn and gather the replies. The hot loop."""
        cx, keyspace, clock, table = self.cx, self.keyspace, self.clock, TABLE
        ready = self.waiters.ready
        slow_us = self.config.slowlog_log_slower_than_us
        slow_ns = slow_us * 1000 if slow_us >= 0 else _NEVER_NS
        room = BATCH_REQUESTS_MAX
        if not self.is_watched:
            sessions, ran = self._execute_runs(sessions, slow_ns)
            room -= ran
        before_ns = clock()
        for session in sessions:
            requests = session.requests
            if len(requests) > _SESSION_REQUESTS_MAX or len(requests) > room:
                requests = requests[: min(_SESSION_REQUESTS_MAX, room)]
            if session.gate and session.gate & STANDS:
                requests = NO_REQUESTS
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
                command = table.get(words[0])
                try:
                    if (
                        command is None
                        or session.gate
                        or self.is_watched
                        or not command.words_min <= len(words) <= command.words_max
                    ):
                        value = self._slowly(session, words, index)
                        before_ns = clock()
                    else:
                        value = command.handler(cx, *words[1:])
                        now_ns = clock()
                        command.calls += 1
                        command.elapsed_ns += now_ns - before_ns
                        if now_ns - before_ns >= slow_ns:
                            self._note_slow(command, words, now_ns - before_ns)
                        before_ns = now_ns
                        if keyspace.news:
                            self._tell(command.name, words, 0)
                    if ready:
                        self._serve()
                except ReplyError as error:
                    value = error
                    assert command is not None  # `_slowly` raises none
                    now_ns = clock()
                    self.count_error(command, words, error, now_ns - before_ns)
                    before_ns = now_ns
                    if keyspace.news:
                        self._tell(command.name, words, 0)
                except Later:
                    break
                except Wait as wait:
                    value = self._wait(session, command, words, wait)  # type: ignore[arg-type]
                except (SyncFailed, _Failed):
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

    def _execute_runs(self, sessions: list[Session], slow_ns: int) -> tuple[list[Session], int]:
        """Run what several requests have in common; return (the sessions that are left, how many requests were run).

        Requests of different clients have no order until they are answered. So clients that ask for the same command, and
        nothing else, are taken together, and the command's `run` pays for its calls and lookups once.
        """
        by_name: dict[bytes, list[Session]] = {}
        left, room, waiters = [], BATCH_REQUESTS_MAX, self.waiters
        for session in sessions:
            requests = session.requests
            if requests and not session.gate:
                by_name.setdefault(requests[0][0], []).append(session)
            else:
                left.append(session)
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
                    session.database is not database
                    or session.encode is not encode
                    or len(asked) > _SESSION_REQUESTS_MAX
                    or len(requests) + len(asked) > room
                    or not (len(asked[0]) == words_min if len(asked) == 1 else _is_uniform(asked, name, words_min))
                    or (waiters and any((database.number, words[1]) in waiters for words in asked))
                ):
                    left.append(session)
                else:
                    run.append(session)
                    requests += asked
            if len(requests) < _RUN_REQUESTS_MIN or not self._execute_run(command, run, requests, slow_ns):
                left += run
            else:
                room -= len(requests)
        return left, BATCH_REQUESTS_MAX - room

    def _execute_run(
        self, command: Command, sessions: list[Session], requests: list[list[bytes]], slow_ns: int
    ) -> bool:
        """Run the requests of these sessions as one; tell whether that was possible."""
        cx = self.cx
        cx.session = sessions[0]
        cx.db = sessions[0].database
        assert command.run is not None
        before_ns = self.clock()
        try:
            values = command.run(cx, requests)
        except (SyncFailed, DiskFull):
            raise
        except Exception as error:
            log.exception("%s failed: nothing of it is kept", command.name)
            raise _Failed(*_EACH_ALONE, type(error).__name__) from error
        if values is None:
            return False
        elapsed_ns = self.clock() - before_ns
        command.calls += len(requests)
        command.elapsed_ns += elapsed_ns
        if elapsed_ns >= slow_ns * len(requests):  # each, on the average
            for session in sessions:
                cx.session = session
                for words in session.requests:
                    self._note_slow(command, words, elapsed_ns // len(requests))
        if self.keyspace.news:  # nobody waits for these keys
            self.keyspace.news.clear()
        encode = sessions[0].encode
        replies: list[bytes] = []
        last, encoded = NO_REPLY, b""
        for value in values:
            if value is not last:  # else as before: OK, or the range that everybody asks for
                last, encoded = value, encode[value.__class__](value)
            replies.append(encoded)
        if ReplyError in set(map(type, values)):
            for value in values:
                if value.__class__ is ReplyError:
                    command.failed_calls += 1
                    self.observers.note_error(value)
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

    def perform(self, command: Command, words: list[bytes], *, again: bool = False) -> Any:
        """Run a command with all that belongs to it, on its own or inside another, and return its value.

        With `again` it was shown to those who watch when it was run first. Raises what its handler raises: ReplyError, and
        Wait, if the caller may not wait: then `nothing` is the reply.
        """
        shows = self.observers.monitors and not (again or command.flags & _UNSHOWN or command.name == "quit")
        if self.observers.monitors and command.name in _SHOWN_FIRST:
            self.show(words)
        news = self.keyspace.news
        start = 0 if news is None else len(news)
        before_ns = self.clock()
        try:
            value = command.handler(self.cx, *words[command.name_words :])
        except (ReplyError, Wait) as refusal:
            if isinstance(refusal, ReplyError):
                self.count_error(command, words, refusal, self.clock() - before_ns)
            if shows:
                self.show(words)
            if self.keyspace.news:
                self._tell(command.name, words, start)
            raise
        elapsed_ns = self.clock() - before_ns
        command.calls += 1
        command.elapsed_ns += elapsed_ns
        if shows:
            self.show(words)
        if 0 <= self.config.slowlog_log_slower_than_us * 1000 <= elapsed_ns:
            self._note_slow(command, words, elapsed_ns)
        if self.keyspace.news:
            self._tell(command.name, words, start)
        return value

    def show(self, words: list[bytes]) -> None:
        """Show a request to those who watch everything."""
        cx = self.cx
        address = "lua" if self.in_script else cx.session.address
        for monitor in self.observers.show(words, cx.db.number, address, cx.now_us):
            self.heard[monitor] = None

    def _tell(self, name: str, words: Sequence[bytes], start: int) -> None:
        """Tell of what a command has done, from a place in the news on: events, and keys that somebody waits for."""
        news = self.keyspace.news
        assert news is not None
        part = news[start:]
        del news[start:]
        if self.events.classes:
            for channel, message in self.events.messages(name, words, part):
                self.publish(Kind.CHANNEL, channel, message)
        if self.waiters:
            self.waiters.note(part)

    def _note_slow(self, command: Command, words: Sequence[bytes], elapsed_ns: int) -> None:
        if not command.flags & SKIP_SLOWLOG:
            cx = self.cx
            self.observers.note_slow(cx.session, words, elapsed_ns, cx.now_ms, self.config.slowlog_max_len)

    def count_error(self, command: Command, words: Sequence[bytes], error: ReplyError, elapsed_ns: int) -> None:
        """Count a call that was refused by the handler."""
        command.calls += 1
        command.failed_calls += 1
        command.elapsed_ns += elapsed_ns
        if not self.in_script:  # there it is no reply to anybody
            self.observers.note_error(error)
        if 0 <= self.config.slowlog_log_slower_than_us * 1000 <= elapsed_ns:
            self._note_slow(command, words, elapsed_ns)

    def _slowly(self, session: Session, words: list[bytes], index: int) -> Any:
        """Return the reply to a request that is not on the straight way. Raises Later."""
        failure = self._failed.get((session.id, index))
        if failure is not None:
            return ReplyError(errors.INTERNAL % failure)
        mode = session.gate & (Gate.REPLY_OFF | Gate.REPLY_SKIP)
        if words[0].upper() in _BROWSER_WORDS:
            return self._hang_up(session)
        command, runs = None, False
        try:
            command = self.resolve(session, words)
            if session.gate & Gate.LISTENS and session.protocol == 2 and command.name not in _WHILE_LISTENING:
                raise ReplyError(errors.ONLY_LISTENING % command.name)
            if session.gate & Gate.MONITORS and command.flags & _TOUCHES_KEYS:
                raise ReplyError(errors.MONITOR_ONLY)
            if self.pauses.is_on and self.pauses.holds(session, command):
                session.gate |= Gate.PAUSED
                raise Later
            session.gate &= ~Gate.REPLY_SKIP
            if session.gate & Gate.IN_MULTI and command.is_queued:
                value = self._queue(session, command, words)
            elif self.refusal is not None and command.writes:
                raise ReplyError(self.refusal)
            else:
                runs = True
                value = self.perform(command, words)
        except Wait as wait:
            assert command is not None
            return self._wait(session, command, words, wait, is_silent=bool(mode))
        except ReplyError as error:
            value = error
            session.gate &= ~Gate.REPLY_SKIP
            if not runs:
                self.observers.note_error(error)
                self._reject(session, words)
        if mode and not (mode == Gate.REPLY_OFF and not session.gate & Gate.REPLY_OFF):
            value = NO_REPLY
        return _among_pushes(session, words, value) if session.gate & Gate.LISTENS else value

    def _reject(self, session: Session, words: list[bytes]) -> None:
        """Take note of a request that was refused before its handler was asked."""
        command = find(words)
        if command is not None:
            command.rejected_calls += 1
        if session.gate & Gate.IN_MULTI:
            self.if_undone.append(session.kept())
            session.aborts = True
            if words[0].upper() == b"EXEC":
                self.unwatch(session)
                session.end_transaction()

    def _queue(self, session: Session, command: Command, words: list[bytes]) -> Any:
        """Keep a command for EXEC. Raises ReplyError: then EXEC will refuse."""
        if command.flags & NO_MULTI:
            raise ReplyError(errors.NOT_IN_MULTI % command.container)
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
        """Return the command or subcommand that the words call. Raises ReplyError: not for strangers, unknown, or wrong arity."""
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
        return command.subcommand(words)


def _among_pushes(session: Session, words: list[bytes], value: Any) -> Any:
    """Return the reply to someone who listens, with the messages that his own command sent to him behind it."""
    if session.protocol == 2 and value is PONG:
        value = [b"pong", b""]
    elif session.protocol == 2 and words[0].upper() == b"PING" and value.__class__ is bytes:
        value = [b"pong", value]
    if not session.pushed:
        return value
    pushed, session.pushed = Raw(b"".join(session.pushed)), []
    return pushed if value is NO_REPLY else Several([value, pushed])


def _is_uniform(requests: list[list[bytes]], name: bytes, words: int) -> bool:
    """Tell whether each request is this command, spelled like this, with so many words."""
    return all(len(request) == words and request[0] == name for request in requests)


def _leading(replies: list[bytes]) -> int:
    """Return how many of the replies may leave together, at least one."""
    return next(number for number, total in enumerate(accumulate(map(len, replies)), 1) if total > _LONG_REPLY_BYTES)
