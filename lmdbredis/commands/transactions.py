"""Transaction commands: words and replies. Source: the Redis 7.2 manual, group *transactions*.

A transaction is commands that are run one after another in one batch, which is one record of the log: after a crash all of
it is there, or none. What is queued lives in the session, who watches what in `watches`; the executor queues.
"""

from __future__ import annotations

from typing import Any, Final

from lmdbredis.errors import (
    DISCARD_WITHOUT_MULTI,
    EXEC_ABORT,
    EXEC_REFUSED,
    EXEC_WITHOUT_MULTI,
    MASTER_DOWN,
    ReplyError,
)
from lmdbredis.registry import ALLOW_BUSY, FAST, LOADING, NO_MULTI, NOSCRIPT, SKIP_SLOWLOG, STALE, Context, command
from lmdbredis.resp import NULL_ARRAY, OK
from lmdbredis.session import Gate

_FLAGS: Final = NOSCRIPT | LOADING | STALE


@command("MULTI", flags=_FLAGS | FAST | ALLOW_BUSY | NO_MULTI)
def multi(cx: Context) -> Any:
    """MULTI -- Starts a transaction. O(1). Since 1.2.0."""
    session = cx.session
    cx.executor.if_undone.append(session.kept_transaction())
    session.gate |= Gate.IN_MULTI
    session.queued, session.queued_from = [], session.received_bytes
    return OK


@command("EXEC", flags=_FLAGS | SKIP_SLOWLOG, is_queued=False)
def exec_(cx: Context) -> Any:
    """EXEC -- Executes all commands in a transaction. O(N) for N commands, beside what each of them costs. Since 1.2.0."""
    session, executor = cx.session, cx.executor
    if not session.gate & Gate.IN_MULTI:
        raise ReplyError(EXEC_WITHOUT_MULTI)
    queued, aborts = session.queued, session.aborts
    is_touched = executor.watches.is_touched(session)
    _end(cx)
    if aborts:
        raise ReplyError(EXEC_ABORT)
    if executor.no_writes is not None and any(executor.says_it_writes(found, words) for found, words in queued):
        raise ReplyError(EXEC_REFUSED % executor.no_writes)
    if executor.masks_all and not all(found.flags & STALE for found, _ in queued):
        raise ReplyError(EXEC_REFUSED % MASTER_DOWN)
    if is_touched:
        return NULL_ARRAY
    executor.in_transaction = True
    try:
        return executor.perform_each(queued)
    finally:
        executor.in_transaction = False


@command("DISCARD", flags=_FLAGS | FAST | ALLOW_BUSY, is_queued=False)
def discard(cx: Context) -> Any:
    """DISCARD -- Discards a transaction. O(N), when N is the number of queued commands. Since 2.0.0."""
    if not cx.session.gate & Gate.IN_MULTI:
        raise ReplyError(DISCARD_WITHOUT_MULTI)
    _end(cx)
    return OK


def _end(cx: Context) -> None:
    """Leave the transaction, and what was watched for its sake."""
    cx.executor.if_undone.append(cx.session.kept_transaction())
    cx.executor.unwatch(cx.session)
    cx.session.end_transaction()


@command("WATCH", flags=_FLAGS | FAST | ALLOW_BUSY | NO_MULTI, keys=(1, -1, 1))
def watch(cx: Context, key: bytes, *keys: bytes) -> Any:
    """WATCH key [key ...] -- Monitors changes to keys to determine the execution of a transaction. O(1) for every key. Since 2.2.0."""
    cx.executor.watch(cx.session, cx.db, (key, *keys))
    return OK


@command("UNWATCH", flags=_FLAGS | FAST | ALLOW_BUSY)
def unwatch(cx: Context) -> Any:
    """UNWATCH -- Forgets about watched keys of a transaction. O(1). Since 2.2.0."""
    cx.executor.unwatch(cx.session)
    return OK
