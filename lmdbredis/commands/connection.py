"""Connection commands: who is asking, and how he wants to be answered. Source: the Redis 7.2 manual, group *connection*."""

from __future__ import annotations

from typing import Any

from lmdbredis.errors import WRONG_ARITY, ReplyError
from lmdbredis.registry import ALLOW_BUSY, FAST, LOADING, NO_AUTH, NOSCRIPT, STALE, Context, command
from lmdbredis.resp import OK, PONG


@command("PING", flags=FAST)
def ping(cx: Context, *message: bytes) -> Any:
    """PING [message] -- Returns the server's liveliness response. O(1). Since 1.0.0."""
    if len(message) > 1:
        raise ReplyError(WRONG_ARITY % "ping")
    return message[0] if message else PONG


@command("QUIT", flags=ALLOW_BUSY | NOSCRIPT | LOADING | STALE | FAST | NO_AUTH)
def quit_(cx: Context, *ignored: bytes) -> Any:
    """QUIT -- Closes the connection. O(1). Since 1.0.0."""
    cx.session.closing = cx.session.pauses = True
    return OK
