"""Watching what the server does: MONITOR and SLOWLOG. Source: the Redis 7.2 manual, group *server*; what is kept, `observers` knows."""

from __future__ import annotations

from typing import Any, Final

from lmdbredis.arguments import integer
from lmdbredis.errors import NOT_IN_ONE_GO, SLOWLOG_COUNT, SUBCOMMAND_SYNTAX, ReplyError
from lmdbredis.registry import ADMIN, LOADING, NOSCRIPT, STALE, Context, command, container
from lmdbredis.resp import NO_REPLY, OK

_SLOWLOG: Final = ADMIN | LOADING | STALE
_REQUESTS_SHOWN: Final = 10


@command("MONITOR", flags=ADMIN | NOSCRIPT | LOADING | STALE)
def monitor(cx: Context) -> Any:
    """MONITOR -- Shows every command that the server runs, to this connection, as it is run. O(1). Since 1.0.0."""
    if cx.executor.in_transaction:
        raise ReplyError(NOT_IN_ONE_GO % ("MONITOR", ""))
    return OK if cx.executor.monitor(cx.session) else NO_REPLY


@container("SLOWLOG", help_since="6.2.0")
def slowlog(cx: Context) -> None:
    """SLOWLOG -- A container for slow log commands. Since 2.2.12."""


@command("SLOWLOG|GET", flags=_SLOWLOG)
def slowlog_get(cx: Context, *words: bytes) -> list[Any]:
    """SLOWLOG GET [count] -- Returns the slowest of the last requests, the last one first: number, time, duration in microseconds, words, address and name of the client. O(N) where N is the number of entries returned. Since 2.2.12."""
    if len(words) > 1:
        raise ReplyError(SUBCOMMAND_SYNTAX)
    wanted = integer(words[0], SLOWLOG_COUNT) if words else _REQUESTS_SHOWN
    if wanted < -1:
        raise ReplyError(SLOWLOG_COUNT)
    slow = list(cx.executor.observers.slow)
    return [
        [one.id, one.at_s, one.elapsed_us, one.words, one.address.encode("utf-8", "surrogateescape"), one.name]
        for one in (slow if wanted == -1 else slow[:wanted])
    ]


@command("SLOWLOG|LEN", flags=_SLOWLOG)
def slowlog_len(cx: Context) -> int:
    """SLOWLOG LEN -- Returns how many requests the slow log holds. O(1). Since 2.2.12."""
    return len(cx.executor.observers.slow)


@command("SLOWLOG|RESET", flags=_SLOWLOG)
def slowlog_reset(cx: Context) -> Any:
    """SLOWLOG RESET -- Empties the slow log. O(N) where N is the number of entries it holds. Since 2.2.12."""
    cx.executor.observers.slow.clear()
    return OK
