"""The lobby: what sessions have to do with each other, and what is done around every command.

Theory. Sessions listen to channels, watch keys, wait for keys, are held by a pause, or are shown everything; who does, stands in rooms
of their own (`pubsub`, `watches`, `blocking`, `pauses`, `observers`). Here these come together with the commands: `perform` runs one
and looks after what it means to the others: key events, clients to be served, lines to be shown, calls to be counted.

Laws:

1. What a session gets besides the replies of its turn is laid into its `pushed`, and it is `heard`; who runs the batch sends it.
2. Whatever is done to a session can be undone: `if_undone` (law 2 of `executor`).
3. Nobody pays for what nobody wants: `is_watched` is false, and the keyspace makes no news, unless somebody does.
4. Clients that wait are served when the outermost command is done, as themselves, first come, first served.

The executor is one (`executor.Executor`); it knows no sockets, and its clock is told.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from lmdbredis import errors
from lmdbredis.blocking import Wait, Waiters, Waiting
from lmdbredis.database import kind_of
from lmdbredis.errors import ReplyError, SyncFailed
from lmdbredis.events import Events
from lmdbredis.holds import Hold
from lmdbredis.news import What
from lmdbredis.observers import Observers
from lmdbredis.pauses import OF_SCRIPTS, Pauses, Purpose
from lmdbredis.pubsub import Hub, Kind
from lmdbredis.registry import ADMIN, SKIP_MONITOR, SKIP_SLOWLOG, STALE, TABLE, Command, Context, spellings
from lmdbredis.replication import Awaited, Replicas
from lmdbredis.resp import NO_REPLY, Push
from lmdbredis.scripting.runtime import Scripting
from lmdbredis.session import Gate, Session
from lmdbredis.store import NoRoom
from lmdbredis.watches import Watches

if TYPE_CHECKING:
    import random as chance
    from collections.abc import Callable, Iterable, Sequence

    from lmdbredis.config import Config
    from lmdbredis.database import Database
    from lmdbredis.keyspace import Keyspace
    from lmdbredis.registry import Server
    from lmdbredis.store import Store

_NEVER_NS: Final = 1 << 63
_WAITED: Final = -1  # for `HandlerFailed`: the request that a session waits with
# Whose replies also reach a session that wants none.
_TOLD: Final = frozenset(
    ("client|reply", "subscribe", "unsubscribe", "psubscribe", "punsubscribe", "ssubscribe", "sunsubscribe")
)
# A script is shown before what it runs; everything else when it has run.
_SHOWN_FIRST: Final = frozenset({"eval", "evalsha", "eval_ro", "evalsha_ro", "fcall", "fcall_ro"})
_UNSHOWN: Final = SKIP_MONITOR | ADMIN  # commands that MONITOR does not show

log = logging.getLogger("lmdbredis")


class HandlerFailed(Exception):
    """A handler failed, not the request: law 2 of `executor`."""

    def __init__(self, session_id: int, index: int, reason: str) -> None:
        super().__init__(reason)
        self.request = (session_id, index)
        self.reason = reason


class Lobby:
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
        self.hold = Hold()  # checkpoints that wait for whoever copies the directory
        self.replicas = Replicas()
        self.awaited: dict[Session, Awaited] = {}  # who waits for copies of what it wrote
        self.scripting = Scripting(self.cx)
        self.heard: dict[Session, None] = {}  # who was sent something besides the replies of its turn
        self.resumed: dict[Session, None] = {}  # who waits no more, and may have requests left
        self.refusal: str | None = None  # why the disk takes no writes, None = it does
        self.denial: str | None = None  # why this server takes no writes, None = it does (a replica, too few replicas)
        self.masks_all = False  # nor may anything be read that may be out of date
        self.has_replicas = False  # which are told what is published
        self.is_copy = False  # another server's rows come here, and none of its own
        self.table: dict[bytes, Command] = TABLE  # what may take the straight way
        self.begins, self.ends, self.watches_keys = spellings("multi"), spellings("exec"), spellings("watch")
        self.is_watched = False  # no request may take the straight way
        self.may_run = True  # requests for the same may be run together
        self.in_script = False  # a script is asking, not the session itself
        self.in_transaction = False  # EXEC is running
        self.slow_ns = _NEVER_NS  # a request that takes so long is slow
        self.failed: dict[tuple[int, int], str] = {}  # requests of the batch whose handlers failed
        self.follow_settings()

    def follow_settings(self) -> None:
        """Take note of settings that have changed."""
        self.events.choose(self.config.notify_keyspace_events)
        self.observers.shorten(self.config.slowlog_max_len)
        slower_than_us = self.config.slowlog_log_slower_than_us
        self.slow_ns = slower_than_us * 1000 if slower_than_us >= 0 else _NEVER_NS
        self.look()

    def take_over(self, before: Lobby) -> None:
        """Take the place of another executor, whose store was closed: who listens, waits or watches everything is with us now."""
        self.hub, self.waiters, self.observers, self.pauses = (
            before.hub,
            before.waiters,
            before.observers,
            before.pauses,
        )
        self.replicas, self.awaited, self.hold = before.replicas, before.awaited, before.hold
        self.hold.begin_anew()
        self.heard, self.resumed = before.heard, before.resumed
        self.scripting.take_over(before.scripting.scripts)
        self.look()

    def look(self) -> None:
        """Find out what the next requests must take care of."""
        keyspace = self.keyspace
        # A read that finds an expired key must not write while nobody may.
        keyspace.may_expire = self.refusal is None and not self.pauses.is_on and not self.is_copy
        keyspace.want_news(self.events.kinds(), self.waiters)
        self.is_watched = bool(self.refusal is not None or self.failed or self.observers.monitors or self.pauses.is_on)
        self.may_run = not self.is_watched and self.events.kinds() <= {What.EXPIRED}

    @property
    def no_writes(self) -> str | None:
        """Return why a write is refused, None if it is not."""
        return self.refusal or self.denial

    def says_it_writes(self, command: Command, words: Sequence[bytes]) -> bool:
        """Tell whether a request writes, or runs a script that says so."""
        if command.name not in OF_SCRIPTS:
            return command.writes
        script = self.scripting.script_of(words)
        return script is not None and script.says_it_writes

    def deny(self, denial: str | None, *, masks_all: bool = False) -> None:
        """Refuse writes for this reason from now on (None = take them again); with `masks_all`, whatever may read what is out of date."""
        if (denial, masks_all) == (self.denial, self.masks_all):
            return
        self.denial, self.masks_all = denial, masks_all
        if denial is None:
            self.table = TABLE
        else:  # what is not in it takes the slow way, where it is refused
            self.table = {
                name: command
                for name, command in TABLE.items()
                if not command.writes and (command.flags & STALE or not masks_all)
            }

    def end(self) -> None:
        """Do what waits for the record."""
        self._lay_pushed()
        self.keyspace.cache.trim()
        self.if_undone.clear()
        if self.after_batch:
            waiting, self.after_batch = self.after_batch, []
            for work in waiting:
                work()
            self.if_undone.clear()
            self._lay_pushed()

    def _lay_pushed(self) -> None:
        """Lay what sessions were sent besides their replies behind those."""
        for session in self.heard:
            if session.pushed:
                session.output += b"".join(session.pushed)
                session.pushed = []

    def take_heard(self) -> tuple[list[Session], list[Session]]:
        """Return (who has output besides the sessions of the batch, who may run requests again); forget both."""
        heard, resumed = list(self.heard), [session for session in self.resumed if session.requests]
        self.heard, self.resumed = {}, {}
        return heard, resumed

    # --- messages -----------------------------------------------------------------------------------------------------------------

    def subscribe(self, session: Session, kind: Kind, name: bytes) -> None:
        """Let a session listen to a name."""
        if self.hub.subscribe(session, kind, name):
            self.if_undone.append(partial(self.hub.unsubscribe, session, kind, name))

    def unsubscribe(self, session: Session, kind: Kind, name: bytes) -> None:
        """Let a session listen to a name no more."""
        if self.hub.unsubscribe(session, kind, name):
            self.if_undone.append(partial(self.hub.subscribe, session, kind, name))

    def publish_everywhere(self, kind: Kind, channel: bytes, message: bytes) -> int:
        """As `publish`, and through the log to those who listen at replicas."""
        if self.has_replicas:
            self.store.notes.append(("", channel, int(kind), message))
        return self.publish(kind, channel, message)

    def publish(self, kind: Kind, channel: bytes, message: bytes) -> int:
        """Send a message to everybody who listens to the channel; return to how many. It leaves when the batch is written."""
        count, heard = 0, self.heard
        for head, sessions in self.hub.receivers(kind, channel):
            packed: dict[int, bytes] = {}  # by protocol
            for session in sessions:
                protocol = session.protocol
                if protocol not in packed:
                    packed[protocol] = session.encode[Push](Push((*head, message)))
                session.pushed.append(packed[protocol])
                heard[session] = None
            count += len(sessions)
        return count

    def monitor(self, session: Session) -> bool:
        """Show a session everything that is run from now on; tell whether that is new to it."""
        monitors = self.observers.monitors
        if session in monitors:
            return False
        self.if_undone.append(session.kept_state())
        self.if_undone.append(lambda: monitors.pop(session, None))
        monitors[session] = None
        session.gate |= Gate.MONITORS
        self.look()
        return True

    def unmonitor(self, session: Session) -> None:
        """Show a session nothing any more."""
        if self.observers.monitors.pop(session, self) is None:
            self.if_undone.append(partial(self.observers.monitors.setdefault, session, None))
            session.gate &= ~Gate.MONITORS
            self.look()

    # --- watches ------------------------------------------------------------------------------------------------------------------

    def watch(self, session: Session, database: Database, keys: Iterable[bytes]) -> None:
        """Let a session watch keys. Raises Later: this batch has touched one of them."""
        names = self.watches.watch(session, database, keys)
        self.if_undone.append(partial(self.watches.unwatch, session, names))

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

    def wait(
        self, session: Session, command: Command, words: list[bytes], wait: Wait, *, is_silent: bool = False
    ) -> Any:
        """Let a session wait, and run nothing else of it until then."""
        deadline_ns = self.clock() + wait.timeout_ms * 1_000_000 if wait.timeout_ms else 0
        waiting = Waiting(session, command, words, wait, deadline_ns, self.waiters.next_order())
        waiting.is_silent = is_silent
        self._stand(waiting)
        self.if_undone.append(lambda: self._go(session))
        if wait.awaited is not None:
            self.after_batch.append(partial(self._await_copies, waiting, wait.awaited))
        session.pauses = True
        return NO_REPLY

    def _stand(self, waiting: Waiting) -> None:
        self.waiters.add(waiting)
        waiting.session.gate |= Gate.WAITS
        if not self.keyspace.wants_writes:
            self.look()

    def _go(self, session: Session) -> None:
        self.waiters.remove(session)
        self.awaited.pop(session, None)
        session.gate &= ~Gate.WAITS
        if not self.waiters:
            self.look()

    def _await_copies(self, waiting: Waiting, awaited: Awaited) -> None:
        """Let a session that waits go on when there are enough copies of everything up to the end of this batch, which is logged."""
        if self.waiters.of(waiting.session) is waiting:
            awaited.lsn = self.store.wal.end_lsn
            self.awaited[waiting.session] = awaited
            self.note_copies()

    def note_copies(self) -> None:
        """Let go on who has waited for the copies that there are by now: a replica, or the own disk, has got further."""
        synced_lsn = self.store.wal.synced_lsn
        for session, awaited in list(self.awaited.items()):
            waiting = self.waiters.of(session)
            if waiting is not None and awaited.is_reached(self.replicas, synced_lsn):
                waiting.command.calls += 1
                self.answer(waiting, awaited.reply(self.replicas, synced_lsn))

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

    def serve(self) -> None:
        """Run the requests again that wait for keys which have changed, first come, first served."""
        waiters = self.waiters
        if self.refusal is not None and not self.store.is_copy:  # they are writes, nearly all
            waiters.ready.clear()
        while waiters.ready:
            name = next(iter(waiters.ready))
            del waiters.ready[name]
            database = self.keyspace.databases[name[0]]
            queue = waiters.queue(name)
            # Whether there is anything is asked before who is next: that may mean to walk over many.
            while (found := database.find(name[1])) is not None or waiters.wake_if_gone:
                waiting = next(queue, None)
                if waiting is None:
                    break
                if waiting.wakes_if_gone or (found is not None and kind_of(found) == waiting.kind):
                    self._try_again(waiting)

    def _try_again(self, waiting: Waiting) -> None:
        """Run the request of a session that waits; if there still is nothing for it, it keeps its place."""
        cx, session = self.cx, waiting.session
        before, place = (cx.session, cx.db), len(session.pushed)
        cx.session, cx.db = session, session.database
        failure = self.failed.get((session.id, _WAITED))
        try:
            if failure is not None:
                raise ReplyError(errors.INTERNAL % failure)
            value = self.perform(waiting.command, waiting.words, again=True)
        except Wait:
            return
        except ReplyError as error:
            value = error
        except (SyncFailed, *NoRoom):
            raise
        except Exception as error:
            log.exception("%s failed: nothing of it is kept", waiting.command.name)
            raise HandlerFailed(session.id, _WAITED, type(error).__name__) from error
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
        if not self.slow_ns:
            cx, before = self.cx, self.cx.session
            cx.session = waiting.session
            self.note_slow(command, waiting.words, 0)
            cx.session = before
        self.answer(waiting, value)

    def refuse_waiters(self, error: ReplyError) -> None:
        """Let nobody wait any more, with this error as the reply."""
        for waiting in self.waiters.all():
            self.give_up(waiting, error)
        self.end()

    def next_deadline_ns(self) -> int:
        """Return when `pass_time` has something to do, 0 = never."""
        deadlines = (self.waiters.next_deadline_ns(), self.pauses.until_ns)
        return min((deadline_ns for deadline_ns in deadlines if deadline_ns), default=0)

    def pass_time(self) -> None:
        """Answer who has waited long enough; end a pause that is over."""
        now_ns = self.clock()
        while (waiting := self.waiters.due(now_ns)) is not None:
            self.give_up(waiting, waiting.in_vain())
        for purpose in self.pauses.due(now_ns):
            self.unpause(purpose)
        self.end()

    # --- pauses -------------------------------------------------------------------------------------------------------------------

    def pause(self, purpose: Purpose, milliseconds: int, *, writes_only: bool) -> None:
        """Let requests wait, all of them or those that may write, for a while."""
        self.pauses.begin(purpose, self.clock() + milliseconds * 1_000_000, writes_only=writes_only)
        self.look()

    def unpause(self, purpose: Purpose) -> None:
        """Let requests wait no more for this purpose."""
        for session in self.pauses.end(purpose):
            session.gate &= ~Gate.PAUSED
            self.resumed[session] = None
        self.look()

    def forget(self, session: Session) -> None:
        """Take note that a client is gone."""
        self.watches.forget(session)
        self.hub.forget(session)
        self.replicas.forget(session)
        self._go(session)
        self.pauses.forget(session)
        self.heard.pop(session, None)
        self.resumed.pop(session, None)
        if self.observers.monitors.pop(session, self) is None:
            self.look()

    # --- around a command -------------------------------------------------------------------------------------------------------

    def perform(self, command: Command, words: list[bytes], *, again: bool = False) -> Any:
        """Run a command with all that belongs to it, on its own or inside another, and return its value.

        With `again` it was shown to those who watch when it was run first. Raises what its handler raises: ReplyError, and
        Wait, if the caller may not wait: then `nothing` is the reply.
        """
        if not self.is_watched and not self.keyspace.wants_news:  # as below, but for what nobody wants
            before_ns = self.clock()
            try:
                value = command.handler(self.cx, *words[command.name_words :])
            except ReplyError as error:
                self.count_error(command, words, error, self.clock() - before_ns)
                raise
            elapsed_ns = self.clock() - before_ns
            command.calls += 1
            command.elapsed_ns += elapsed_ns
            if elapsed_ns >= self.slow_ns:
                self.note_slow(command, words, elapsed_ns)
            return value
        shows = self.observers.monitors and not (again or command.flags & _UNSHOWN)
        if self.observers.monitors and command.name in _SHOWN_FIRST:
            self.show(command.name, words)
        start = len(self.keyspace.news)
        before_ns = self.clock()
        try:
            value = command.handler(self.cx, *words[command.name_words :])
        except (ReplyError, Wait) as refusal:
            if isinstance(refusal, ReplyError):
                self.count_error(command, words, refusal, self.clock() - before_ns)
            if self.keyspace.news:
                self.tell(command.name, words, start)
            if shows:
                self.show(command.name, words)
            raise
        elapsed_ns = self.clock() - before_ns
        command.calls += 1
        command.elapsed_ns += elapsed_ns
        if elapsed_ns >= self.slow_ns:
            self.note_slow(command, words, elapsed_ns)
        if self.keyspace.news:
            self.tell(command.name, words, start)
        if shows:
            self.show(command.name, words)
        return value

    def show(self, name: str, words: list[bytes]) -> None:
        """Show a request to those who watch everything."""
        cx = self.cx
        address = "lua" if self.in_script else cx.session.address
        for monitor in self.observers.show(name, words, cx.db.number, address, cx.now_us):
            self.heard[monitor] = None

    def tell(self, name: str, words: Sequence[bytes], start: int) -> None:
        """Tell of what a command has done, from a place in the news on: events, and keys that somebody waits for."""
        news = self.keyspace.news
        part = news[start:]
        del news[start:]
        events = self.events.of(name, words, part)
        if self.events.noted:
            self.store.notes += self.events.notes_of(name, words, events)
        for letter, event, database, key in events:
            self.announce(letter, event, database.number, key)
        if self.waiters:
            self.waiters.note(part)

    def announce(self, letter: str, event: bytes, number: int, key: bytes) -> None:
        """Publish a key event, if somebody here wants it."""
        for channel, message in self.events.messages(letter, event, number, key):
            self.publish(Kind.CHANNEL, channel, message)

    def note_slow(self, command: Command, words: Sequence[bytes], elapsed_ns: int) -> None:
        """Keep a slow request of the session that is running, unless it is of a command that never is."""
        if not command.flags & SKIP_SLOWLOG:
            cx = self.cx
            self.observers.note_slow(
                cx.session, command.name, words, elapsed_ns, cx.now_ms, self.config.slowlog_max_len
            )

    def count_error(self, command: Command, words: Sequence[bytes], error: ReplyError, elapsed_ns: int) -> None:
        """Count a call that was refused by the handler."""
        error.complete(words)
        command.calls += 1
        command.failed_calls += 1
        command.elapsed_ns += elapsed_ns
        if not error.is_counted:  # it left a script, where a command of the script was refused
            error.is_counted = True
            self.observers.note_error(error)
        if elapsed_ns >= self.slow_ns:
            self.note_slow(command, words, elapsed_ns)


def is_told(mode: int, command: Command | None, value: Any) -> bool:
    """Tell whether a reply is sent though the session has asked for none: that it gets replies again, and to what it listens."""
    if command is None or value.__class__ is ReplyError:
        return False
    return command.name in _TOLD or (command.name == "reset" and mode == Gate.REPLY_OFF)
