"""Runs: requests of several clients that ask for the same, done together.

Theory. Requests of different clients have no order until they are answered. So clients that ask for the same command, and nothing
else, are taken together, and the command's `run` (see `registry.command`) pays for its calls and lookups once.

So is a transaction that came whole, MULTI to EXEC in one piece, and asks for one thing only: its commands join the others. What is
queued otherwise is run alike: those commands in a row that are the same.

Of the reads that a client sends in one piece a run takes as many as fit into what leaves together (`Session.fits`): what was read
beyond would have to be kept, or read again.

Laws: a run's replies and rows are those of its requests one by one (tests/test_runs.py); nobody waits for the keys of a run; while
anybody watches, or wants events of writes, there are none.
"""

from __future__ import annotations

import logging
from itertools import accumulate, groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from lmdbredis.blocking import Wait
from lmdbredis.errors import ReplyError, SyncFailed
from lmdbredis.lobby import HandlerFailed, Lobby
from lmdbredis.registry import TABLE
from lmdbredis.resp import NO_REPLY, OK, QUEUED, encode2
from lmdbredis.store import NoRoom

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmdbredis.registry import Command
    from lmdbredis.session import Session

BATCH_REQUESTS_MAX: Final = 4096
SESSION_REQUESTS_MAX: Final = 1024
MIDDLING_REPLY_BYTES: Final = 1 << 12  # shorter ones are not added up
LONG_REPLY_BYTES: Final = 1 << 20  # longer replies end their session's part of the batch, so that they can leave
_RUN_REQUESTS_MIN: Final = 4  # fewer are not worth the run
_OK: Final = encode2(OK)
_QUEUED: Final = encode2(QUEUED)
# For `HandlerFailed`: no session has this id, so each request is run by itself the next time.
_EACH_ALONE: Final = (0, 0)

log = logging.getLogger("lmdbredis")

Part = tuple["Session", list[list[bytes]]]  # who asks, and the requests that are part of a run


class Runs(Lobby):
    """See the module."""

    def execute_runs(self, sessions: list[Session]) -> tuple[list[Session], int]:
        """Run what several requests have in common; return (the sessions that are left, how many requests were run)."""
        if len(sessions) < _RUN_REQUESTS_MIN and sum(len(session.requests) for session in sessions) < _RUN_REQUESTS_MIN:
            return sessions, 0
        by_name: dict[bytes, list[Part]] = {}
        left, room, begins = [], BATCH_REQUESTS_MAX, self.begins
        for session in sessions:
            requests = session.requests
            if not requests or session.gate or session.closing:
                left.append(session)
                continue
            if requests[0][0] in begins and self._is_whole(session):
                requests = requests[1:-1]
            by_name.setdefault(requests[0][0], []).append((session, requests))
        if not by_name.keys().isdisjoint(self.watches_keys):  # put off behind a run, a busy key could never be watched
            return sessions, 0
        for name, members in by_name.items():
            command = self.table.get(name)
            if command is None or command.run is None:
                left += [session for session, _ in members]
                continue
            first = members[0][0]
            database, encode, run_words = first.database, first.encode, command.run_words
            waited = self.waiters.in_database(database.number)
            run: list[Part] = []
            count = 0
            for member in members:
                session, asked = member
                if len(asked) > session.fits and asked is session.requests and not command.writes:
                    asked = asked[: session.fits]
                    member = session, asked
                if (
                    session.database is not database
                    or session.encode is not encode
                    or len(asked) > SESSION_REQUESTS_MAX
                    or count + len(asked) > room
                    or not (len(asked[0]) == run_words if len(asked) == 1 else _is_uniform(asked, name, run_words))
                    or (waited and any(words[1] in waited for words in asked))
                ):
                    left.append(session)
                else:
                    run.append(member)
                    count += len(asked)
            if count < _RUN_REQUESTS_MIN or not self._execute_run(command, run):
                left += [session for session, _ in run]
            else:
                room -= count
        return left, BATCH_REQUESTS_MAX - room

    def _execute_run(self, command: Command, parts: list[Part]) -> bool:
        """Run the requests of these sessions as one; tell whether that was possible."""
        cx = self.cx
        first = parts[0][0]
        cx.session = first
        cx.db = first.database
        before_ns = self.clock()
        try:
            values = self._run(command, [words for _, asked in parts for words in asked], parts)
        except (SyncFailed, *NoRoom):
            raise
        except Exception as error:
            log.exception("%s failed: nothing of it is kept", command.name)
            raise HandlerFailed(*_EACH_ALONE, type(error).__name__) from error
        if values is None:
            return False
        encode = first.encode
        replies: list[bytes] = []
        last, encoded = NO_REPLY, b""
        for value in values:
            if value is not last:  # else as before: OK, or the range that everybody asks for
                last, encoded = value, encode[value.__class__](value)
            replies.append(encoded)
        at = 0
        for session, asked in parts:
            requests = session.requests
            run_now = count = len(asked)
            if asked[0] is not requests[0]:
                session.output = b"".join((_OK, _QUEUED * count, b"*%d\r\n" % count, *replies[at : at + count]))
                run_now = len(requests)
                _count_transaction(requests, (self.clock() - before_ns) * count // len(replies))
            elif count == 1:
                session.output = replies[at]
            else:
                part = replies[at : at + count]
                if not command.writes:
                    size_bytes = sum(map(len, part))
                    session.fits = _fitting(session.fits, count, size_bytes)
                    if size_bytes > LONG_REPLY_BYTES:  # the rest will be read again, this once
                        run_now = _leading(part)
                        command.calls -= count - run_now
                session.output = b"".join(part[:run_now])
            session.run_now = run_now
            session.last_ms = cx.now_ms
            session.last_words = requests[run_now - 1]
            at += count
        return True

    def _is_whole(self, session: Session) -> bool:
        """Tell whether a session asks for one transaction from beginning to end, and nothing that it watches could end that."""
        requests = session.requests
        return (
            len(requests) > 2
            and len(requests[0]) == 1
            and requests[-1][0] in self.ends
            and len(requests[-1]) == 1
            and not session.watched
            and not session.is_stale
        )

    def _run(self, command: Command, requests: list[list[bytes]], parts: Sequence[Part]) -> list[Any] | None:
        """Return what the command's `run` returns, counted. Nobody waits for these keys: what is written to them is no news."""
        assert command.run is not None
        keyspace = self.keyspace
        wants_writes, keyspace.wants_writes = keyspace.wants_writes, False
        hits, misses = keyspace.hits, keyspace.misses
        before_ns = self.clock()
        try:
            values = command.run(self.cx, requests)
        finally:
            keyspace.wants_writes = wants_writes
        if keyspace.news:  # keys that expired or were missed
            self.tell("", (), 0)
        if values is None:
            keyspace.hits, keyspace.misses = hits, misses  # whoever runs them one by one counts them
            return None
        elapsed_ns = self.clock() - before_ns
        command.calls += len(requests)
        command.elapsed_ns += elapsed_ns
        if elapsed_ns >= self.slow_ns * len(requests):  # each, on the average
            session = self.cx.session
            for self.cx.session, asked in parts:
                for words in asked:
                    self.note_slow(command, words, elapsed_ns // len(requests))
            self.cx.session = session
        if ReplyError in set(map(type, values)):
            for value in values:
                if value.__class__ is ReplyError:
                    value.__traceback__ = None
                    command.failed_calls += 1
                    self.observers.note_error(value)
        return values

    def perform_each(self, queued: Sequence[tuple[Command, list[bytes]]]) -> list[Any]:
        """Return the replies to the commands of a transaction, run one after another; a refusal is one, and the others go on."""
        values: list[Any] = []
        for command, series in groupby(queued, itemgetter(0)):
            requests = [words for _, words in series]
            if (
                command.run is not None
                and len(requests) >= _RUN_REQUESTS_MIN
                and self.may_run
                and not self.keyspace.wants_writes
                and all(len(words) == command.run_words for words in requests)
                and (found := self._run(command, requests, [(self.cx.session, requests)])) is not None
            ):
                values += found
            else:
                values += [self._perform_or_refuse(command, words) for words in requests]
        return values

    def _perform_or_refuse(self, command: Command, words: list[bytes]) -> Any:
        """Return a command's reply, where nobody may wait and a refusal is a reply."""
        try:
            return self.perform(command, words)
        except Wait as wait:
            command.calls += 1
            return wait.nothing
        except ReplyError as error:
            return error


def _count_transaction(requests: list[list[bytes]], elapsed_ns: int) -> None:
    """Count a transaction whose commands were part of a run."""
    TABLE[requests[0][0]].calls += 1
    ended = TABLE[requests[-1][0]]
    ended.calls += 1
    ended.elapsed_ns += elapsed_ns


def _is_uniform(requests: list[list[bytes]], name: bytes, words: int) -> bool:
    """Tell whether each request is this command, spelled like this, with so many words."""
    return all(len(request) == words and request[0] == name for request in requests)


def _fitting(fits: int, count: int, size_bytes: int) -> int:
    """Return how many reads of a session the next run takes, when it took `fits` at most and the replies to `count` had this size.

    What was read beyond what may leave together would have to be kept, or read again. At least as many as make a run.
    """
    if size_bytes > LONG_REPLY_BYTES:
        return max(count * LONG_REPLY_BYTES // size_bytes, _RUN_REQUESTS_MIN)
    if count == fits and size_bytes < LONG_REPLY_BYTES // 4:
        return min(4 * fits, SESSION_REQUESTS_MAX)
    return fits


def _leading(replies: list[bytes]) -> int:
    """Return how many of the replies may leave together, at least one."""
    return next(number for number, total in enumerate(accumulate(map(len, replies)), 1) if total > LONG_REPLY_BYTES)
