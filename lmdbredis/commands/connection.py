"""Connection commands: who is asking, and how he wants to be answered. Source: the Redis 7.2 manual, group *connection*.

What a session becomes is told to the session alone, after `will_change`, so that a batch that is undone gives it back. CLIENT
has a room of its own.
"""

from __future__ import annotations

from hmac import compare_digest
from typing import Any, Final

from lmdbredis.arguments import Arguments, integer, small_integer
from lmdbredis.directive_kinds import to_bytes
from lmdbredis.errors import (
    AUTH_WITHOUT_PASSWORD,
    CLIENT_NAME,
    DB_OUT_OF_RANGE,
    HELLO_NO_AUTH,
    HELLO_OPTION,
    NO_PROTOCOL,
    NOT_PROTOCOL,
    SYNTAX,
    WRONG_ARITY,
    WRONG_PASSWORD,
    ReplyError,
    shown,
)
from lmdbredis.info import REDIS_VERSION
from lmdbredis.pubsub import Kind
from lmdbredis.registry import ALLOW_BUSY, FAST, LOADING, NO_AUTH, NOSCRIPT, STALE, Context, command
from lmdbredis.resp import OK, PONG, Simple
from lmdbredis.session import DEFAULT_USER, Gate

_BEFORE_AUTH: Final = NOSCRIPT | LOADING | STALE | FAST | NO_AUTH | ALLOW_BUSY


def will_change(cx: Context) -> None:
    """Take note that the session is about to become another: what it is now comes back if the batch is undone."""
    cx.executor.if_undone.append(cx.session.kept_state())


@command("PING", flags=FAST)
def ping(cx: Context, *message: bytes) -> Any:
    """PING [message] -- Returns the server's liveliness response. O(1). Since 1.0.0."""
    if len(message) > 1:
        raise ReplyError(WRONG_ARITY % "ping")
    if cx.session.gate and cx.session.gate & Gate.LISTENS and cx.session.protocol == 2:  # as a message, among messages
        return [b"pong", message[0] if message else b""]
    return message[0] if message else PONG


@command("ECHO", flags=LOADING | STALE | FAST)
def echo(cx: Context, message: bytes) -> bytes:
    """ECHO message -- Returns the given string. O(1). Since 1.0.0."""
    return message


@command("SELECT", flags=LOADING | STALE | FAST | ALLOW_BUSY)
def select(cx: Context, index: bytes) -> Any:
    """SELECT index -- Changes the session's database. O(1). Since 1.0.0."""
    number = small_integer(index)
    if not 0 <= number < len(cx.keyspace.databases):
        raise ReplyError(DB_OUT_OF_RANGE)
    will_change(cx)
    cx.session.database = cx.db = cx.keyspace.databases[number]
    return OK


@command("QUIT", flags=_BEFORE_AUTH, is_queued=False)
def quit_(cx: Context, *ignored: bytes) -> Any:
    """QUIT -- Closes the connection. O(1). Since 1.0.0."""
    will_change(cx)
    cx.session.closing = cx.session.pauses = True
    return OK


@command("RESET", flags=_BEFORE_AUTH, is_queued=False)
def reset(cx: Context) -> Any:
    """RESET -- Brings the connection back to what it was when it was opened. O(1). Since 6.2.0."""
    will_change(cx)
    cx.executor.unwatch(cx.session)
    cx.executor.unmonitor(cx.session)
    for kind in Kind:
        for name in list(cx.session.listens[kind]):
            cx.executor.unsubscribe(cx.session, kind, name)
    cx.session.reset(cx.keyspace.databases[0], needs_auth=bool(cx.config.requirepass))
    cx.db = cx.session.database
    return Simple(b"RESET")


# --- passwords ----------------------------------------------------------------------------------------------------------------


@command("AUTH", flags=_BEFORE_AUTH)
def auth(cx: Context, word: bytes, *words: bytes) -> Any:
    """AUTH [username] password -- Authenticates the connection. O(N) where N is the number of passwords of the user. Since 1.0.0."""
    if len(words) > 1:
        raise ReplyError(SYNTAX)
    if words:
        _authenticate(cx, word, words[0])
    elif not cx.config.requirepass:
        raise ReplyError(AUTH_WITHOUT_PASSWORD)
    else:
        _authenticate(cx, DEFAULT_USER, word)
    return OK


def _authenticate(cx: Context, user: bytes, password: bytes) -> None:
    """Let the session be the user's. Raises ReplyError. Without a password set, any is right."""
    wanted = to_bytes(cx.config.requirepass)
    if user != DEFAULT_USER or (wanted and not compare_digest(password, wanted)):
        cx.executor.observers.refused_passwords += 1
        raise ReplyError(WRONG_PASSWORD)
    session = cx.session
    if session.gate & Gate.NEEDS_AUTH:
        will_change(cx)
        session.gate &= ~Gate.NEEDS_AUTH
        session.parser.authenticated = True
    session.user = user


@command("HELLO", flags=_BEFORE_AUTH)
def hello(cx: Context, *words: bytes) -> Any:
    """HELLO [protover [AUTH username password] [SETNAME clientname]] -- Shakes hands: chooses the protocol, authenticates, names the connection, and tells about the server. O(1). Since 6.0.0."""
    options, protocol = Arguments(words), 0
    if options:
        protocol = integer(options.next(), NOT_PROTOCOL)
        if protocol not in {2, 3}:
            raise ReplyError(NO_PROTOCOL)
    login, name = None, None
    while options:
        if options.accept(b"AUTH", 2):
            login = options.take(2)
        elif options.accept(b"SETNAME", 1):
            name = options.next()
            check_printable(name, CLIENT_NAME)
        else:
            word = options.next()
            raise ReplyError(HELLO_OPTION % shown(word, len(word)))
    session = cx.session
    if login is not None:
        _authenticate(cx, *login)
    elif session.gate & Gate.NEEDS_AUTH:
        raise ReplyError(HELLO_NO_AUTH)
    will_change(cx)
    if name is not None:
        session.name = name
    if protocol:
        session.speak(protocol)
    return {
        b"server": b"redis",
        b"version": REDIS_VERSION.encode(),
        b"proto": session.protocol,
        b"id": session.id,
        b"mode": b"standalone",
        b"role": b"replica" if cx.server.role.following is not None else b"master",
        b"modules": [],
    }


def check_printable(word: bytes, error: str) -> None:
    """Raise ReplyError if a name could not stand in a line of CLIENT LIST."""
    if any(byte < 0x21 or byte > 0x7E for byte in word):
        raise ReplyError(error)
