"""Runs: requests of several clients that ask for the same, done together.

Theory. Requests of different clients have no order until they are answered. So clients that ask for the same command, and nothing
else, are taken together, and the command's `run` (see `registry.command`) pays for its calls and lookups once.

Laws: a run's replies and rows are those of its requests one by one (tests/test_runs.py); nobody waits for the keys of a run; while
anybody watches, there are none.
"""

from __future__ import annotations

import logging
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from lmdbredis.errors import DiskFull, ReplyError, SyncFailed
from lmdbredis.lobby import HandlerFailed, Lobby
from lmdbredis.registry import TABLE, Command
from lmdbredis.resp import NO_REPLY

if TYPE_CHECKING:
    from lmdbredis.session import Session

BATCH_REQUESTS_MAX: Final = 4096
SESSION_REQUESTS_MAX: Final = 1024
LONG_REPLY_BYTES: Final = 1 << 20  # a longer reply ends its session's part of the batch, so that it can leave
_RUN_REQUESTS_MIN: Final = 4  # fewer are not worth the run
_EACH_ALONE: Final = (
    0,
    0,
)  # for `HandlerFailed`: no session has this id, so each request is run by itself the next time

log = logging.getLogger("lmdbredis")


class Runs(Lobby):
    """See the module."""

    def execute_runs(self, sessions: list[Session], slow_ns: int) -> tuple[list[Session], int]:
        """Run what several requests have in common; return (the sessions that are left, how many requests were run).

        Requests of different clients have no order until they are answered. So clients that ask for the same command, and
        nothing else, are taken together, and the command's `run` pays for its calls and lookups once.
        """
        by_name: dict[bytes, list[Session]] = {}
        left, room, waiters = [], BATCH_REQUESTS_MAX, self.waiters
        for session in sessions:
            requests = session.requests
            if requests and not session.gate and not session.closing:
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
                    or len(asked) > SESSION_REQUESTS_MAX
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
            raise HandlerFailed(*_EACH_ALONE, type(error).__name__) from error
        if values is None:
            return False
        elapsed_ns = self.clock() - before_ns
        command.calls += len(requests)
        command.elapsed_ns += elapsed_ns
        if elapsed_ns >= slow_ns * len(requests):  # each, on the average
            for session in sessions:
                cx.session = session
                for words in session.requests:
                    self.note_slow(command, words, elapsed_ns // len(requests))
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
                if sum(map(len, part)) > LONG_REPLY_BYTES and not command.writes:
                    run_now = _leading(part)  # the rest will be read again
                session.output = b"".join(part[:run_now])
            session.run_now = run_now
            session.last_ms = cx.now_ms
            session.last_words = asked[run_now - 1]
            at += count
        return True


def _is_uniform(requests: list[list[bytes]], name: bytes, words: int) -> bool:
    """Tell whether each request is this command, spelled like this, with so many words."""
    return all(len(request) == words and request[0] == name for request in requests)


def _leading(replies: list[bytes]) -> int:
    """Return how many of the replies may leave together, at least one."""
    return next(number for number, total in enumerate(accumulate(map(len, replies)), 1) if total > LONG_REPLY_BYTES)
