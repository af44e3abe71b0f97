"""CLIENT: what the server knows of its connections. Source: the Redis 7.2 manual, group *connection*.

Tracking is not here yet (CACHING, GETREDIR, TRACKING, TRACKINGINFO).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from lmdbredis.arguments import Arguments, bounded_timeout_ms, integer
from lmdbredis.commands.connection import check_printable, will_change
from lmdbredis.errors import (
    CLIENT_ID,
    CLIENT_INFO_OPTION,
    CLIENT_INFO_VALUE,
    CLIENT_KILL_ID,
    CLIENT_NAME,
    CLIENT_TYPE,
    NO_SUCH_CLIENT,
    NO_SUCH_USER,
    PAUSE_MODE,
    SYNTAX,
    TIMEOUT_NOT_INTEGER,
    UNBLOCK_REASON,
    UNBLOCKED,
    ReplyError,
    shown,
)
from lmdbredis.pauses import Purpose
from lmdbredis.registry import ADMIN, ALLOW_BUSY, LOADING, NO_MULTI, NOSCRIPT, STALE, Context, command, container, find
from lmdbredis.resp import NO_REPLY, OK, Verbatim
from lmdbredis.session import DEFAULT_USER, STANDS, Gate, Session

_SELF: Final = NOSCRIPT | LOADING | STALE | ALLOW_BUSY  # tells or changes the session's own state
_OTHERS: Final = ADMIN | NOSCRIPT | LOADING | STALE  # looks at other sessions or ends them
_TYPES: Final = {
    b"NORMAL": b"normal",
    b"MASTER": b"master",
    b"REPLICA": b"replica",
    b"SLAVE": b"replica",
    b"PUBSUB": b"pubsub",
}

Test = Callable[[Session], bool]


@container("CLIENT", help_since="5.0.0")
def client(cx: Context) -> None:
    """CLIENT -- A container for client connection commands. Since 2.4.0."""


# --- the session itself -------------------------------------------------------------------------------------------------------


@command("CLIENT|ID", flags=_SELF)
def client_id(cx: Context) -> int:
    """CLIENT ID -- Returns the unique client ID of the connection. O(1). Since 5.0.0."""
    return cx.session.id


@command("CLIENT|GETNAME", flags=_SELF)
def client_getname(cx: Context) -> bytes | None:
    """CLIENT GETNAME -- Returns the name of the connection. O(1). Since 2.6.9."""
    return cx.session.name or None


@command("CLIENT|SETNAME", flags=_SELF)
def client_setname(cx: Context, connection_name: bytes) -> Any:
    """CLIENT SETNAME connection-name -- Sets the connection name. O(1). Since 2.6.9."""
    check_printable(connection_name, CLIENT_NAME)
    will_change(cx)
    cx.session.name = connection_name
    return OK


@command("CLIENT|SETINFO", flags=_SELF)
def client_setinfo(cx: Context, option: bytes, value: bytes) -> Any:
    """CLIENT SETINFO <LIB-NAME libname | LIB-VER libver> -- Tells which library speaks on this connection. O(1). Since 7.2.0."""
    attribute = {b"LIB-NAME": "lib_name", b"LIB-VER": "lib_version"}.get(option.upper())
    if attribute is None:
        raise ReplyError(CLIENT_INFO_OPTION % shown(option, len(option)))
    check_printable(value, CLIENT_INFO_VALUE % shown(option))
    will_change(cx)
    setattr(cx.session, attribute, value)
    return OK


@command("CLIENT|NO-EVICT", flags=_OTHERS | ALLOW_BUSY)
def client_no_evict(cx: Context, mode: bytes) -> Any:
    """CLIENT NO-EVICT <ON | OFF> -- Says whether this client may be disconnected to save memory; kept and shown, none ever is. O(1). Since 7.0.0."""
    will_change(cx)
    cx.session.no_evict = _on_or_off(mode)
    return OK


@command("CLIENT|NO-TOUCH", flags=_SELF)
def client_no_touch(cx: Context, mode: bytes) -> Any:
    """CLIENT NO-TOUCH <ON | OFF> -- Says whether this client's commands count as use of a key; kept and shown. O(1). Since 7.2.0."""
    will_change(cx)
    cx.session.no_touch = _on_or_off(mode)
    return OK


def _on_or_off(mode: bytes) -> bool:
    """Return what a switch is set to. Raises ReplyError."""
    if mode.upper() not in {b"ON", b"OFF"}:
        raise ReplyError(SYNTAX)
    return mode.upper() == b"ON"


@command("CLIENT|REPLY", flags=_SELF | NO_MULTI)
def client_reply(cx: Context, mode: bytes) -> Any:
    """CLIENT REPLY <ON | OFF | SKIP> -- Says whether this client wants to be answered. O(1). Since 3.2.0."""
    word, session = mode.upper(), cx.session
    if word not in {b"ON", b"OFF", b"SKIP"}:
        raise ReplyError(SYNTAX)
    will_change(cx)
    if word == b"ON":
        session.gate &= ~Gate.REPLY_OFF
        return OK
    if word == b"OFF":
        session.gate |= Gate.REPLY_OFF
    elif not session.gate & Gate.REPLY_OFF:
        session.gate |= Gate.REPLY_SKIP
    return NO_REPLY


# --- all sessions -------------------------------------------------------------------------------------------------------------


@command("CLIENT|INFO", flags=NOSCRIPT | LOADING | STALE)
def client_info(cx: Context) -> Verbatim:
    """CLIENT INFO -- Returns information about the connection. O(1). Since 6.2.0."""
    return Verbatim(_line(cx, cx.session, [b"CLIENT", b"INFO"]))


@command("CLIENT|LIST", flags=_OTHERS)
def client_list(cx: Context, *words: bytes) -> Verbatim:
    """CLIENT LIST [TYPE <NORMAL | MASTER | REPLICA | PUBSUB>] [ID client-id [client-id ...]] -- Lists open connections. O(N) where N is the number of client connections. Since 2.4.0."""
    options, test = Arguments(words), None
    if len(words) == 2 and options.accept(b"TYPE", 1):
        kind = _type(options.next())
        test = lambda session: _type_of(session) == kind  # noqa: E731
    elif options.accept(b"ID", 1):
        ids = {integer(word, CLIENT_ID) for word in options.rest()}
        test = lambda session: session.id in ids  # noqa: E731
    elif words:
        raise ReplyError(SYNTAX)
    lines = [
        _line(cx, session, [b"CLIENT", b"LIST"] if session is cx.session else session.last_words)
        for session in cx.server.sessions
        if (test is None or test(session)) and (session is cx.session or not session.closing)
    ]
    return Verbatim(b"".join(lines))


def _type(word: bytes) -> bytes:
    """Return the type of clients that a word names. Raises ReplyError."""
    kind = _TYPES.get(word.upper())
    if kind is None:
        raise ReplyError(CLIENT_TYPE % shown(word, len(word)))
    return kind


def _type_of(session: Session) -> bytes:
    if session.gate & Gate.LISTENS:
        return b"pubsub"
    return b"replica" if session.gate & Gate.REPLICATES else b"normal"


def _line(cx: Context, session: Session, last_words: Sequence[bytes]) -> bytes:
    """Return a session's line of CLIENT LIST."""
    held, pending = session.parser.buffered_bytes, session.unsent_bytes
    command_ = find(last_words) if last_words else None
    queued = session.queued if session.gate & Gate.IN_MULTI else None
    queued_bytes = sum(len(word) for _, words in queued or () for word in words)
    channels, patterns, shards = map(len, session.listens)
    flags = "S" * bool(session.gate & Gate.REPLICATES) + "O" * bool(session.gate & Gate.MONITORS)
    flags += "P" * bool(session.gate & Gate.LISTENS)
    flags += "x" * (queued is not None) + "b" * bool(session.gate & STANDS) + "d" * session.is_stale
    flags += "U" * (session.address[-2:] == ":0") + "e" * session.no_evict + "T" * session.no_touch
    waiting_bytes = sum(len(word) for request in session.requests for word in request)
    fields: dict[str, Any] = {
        "id": session.id,
        "addr": session.address,
        "laddr": session.local_address,
        "fd": session.fd,
        "name": session.name.decode(),
        "age": (cx.now_ms - session.created_ms) // 1000,
        "idle": (cx.now_ms - session.last_ms) // 1000,
        "flags": flags or "N",
        "db": session.database.number,
        "sub": channels,
        "psub": patterns,
        "ssub": shards,
        "multi": -1 if queued is None else len(queued),
        "qbuf": held,
        "qbuf-free": 0,
        "argv-mem": waiting_bytes,
        "multi-mem": queued_bytes,
        "rbs": 0,
        "rbp": 0,
        "obl": 0,
        "oll": int(pending > 0),
        "omem": pending,
        "tot-mem": held + waiting_bytes + queued_bytes + pending,
        "events": "rw" if pending else "r",
        "cmd": command_.name if command_ is not None else "NULL",
        "user": session.user.decode(),
        "redir": -1,
        "resp": session.protocol,
        "lib-name": session.lib_name.decode(),
        "lib-ver": session.lib_version.decode(),
    }
    return (" ".join(f"{name}={value}" for name, value in fields.items()) + "\n").encode("utf-8", "surrogateescape")


@command("CLIENT|KILL", flags=_OTHERS)
def client_kill(cx: Context, word: bytes, *words: bytes) -> Any:
    """CLIENT KILL <ip:port | [ID client-id] [TYPE <NORMAL | MASTER | REPLICA | PUBSUB>] [USER username] [ADDR ip:port] [LADDR ip:port] [SKIPME <YES | NO>]> -- Closes open connections. O(N) where N is the number of client connections. Since 2.4.0."""
    if words:
        tests, skips_me = _kill_filters((word, *words))
    else:
        tests, skips_me = [_address_is("address", word)], False
    doomed = [session for session in cx.server.sessions if not session.closing and all(test(session) for test in tests)]
    if skips_me:
        doomed = [session for session in doomed if session is not cx.session]
    for session in doomed:
        if session is cx.session:
            will_change(cx)
            session.closing = session.pauses = True
        else:
            cx.executor.wait_no_more(session)  # nothing that comes in this batch is his, and nothing of his is run
            cx.executor.if_undone.append(session.kept_state())
            session.closing = True
            cx.executor.after_batch.append(session.kill)
    if words:
        return len(doomed)
    if not doomed:
        raise ReplyError(NO_SUCH_CLIENT)
    return OK


def _kill_filters(words: Sequence[bytes]) -> tuple[list[Test], bool]:
    """Return (what a session must be to be killed, whether the one who asks is spared). Raises ReplyError."""
    options, tests, skips_me = Arguments(words), [], True
    while options:
        if options.accept(b"ID", 1):
            tests.append(_id_is(integer(options.next(), CLIENT_KILL_ID)))
        elif options.accept(b"TYPE", 1):
            tests.append(_type_is(_type(options.next())))
        elif options.accept(b"ADDR", 1):
            tests.append(_address_is("address", options.next()))
        elif options.accept(b"LADDR", 1):
            tests.append(_address_is("local_address", options.next()))
        elif options.accept(b"USER", 1):
            tests.append(_user_is(options.next()))
        elif options.accept(b"SKIPME", 1):
            answer = options.next().upper()
            if answer not in {b"YES", b"NO"}:
                raise ReplyError(SYNTAX)
            skips_me = answer == b"YES"
        else:
            raise ReplyError(SYNTAX)
    return tests, skips_me


def _id_is(ident: int) -> Test:
    if ident < 1:
        raise ReplyError(CLIENT_KILL_ID)
    return lambda session: session.id == ident


def _type_is(kind: bytes) -> Test:
    return lambda session: _type_of(session) == kind


def _address_is(attribute: str, address: bytes) -> Test:
    return lambda session: getattr(session, attribute).encode("utf-8", "surrogateescape") == address


def _user_is(user: bytes) -> Test:
    if user != DEFAULT_USER:
        raise ReplyError(NO_SUCH_USER % shown(user))
    return lambda session: session.user == user


# --- waiting ------------------------------------------------------------------------------------------------------------------


@command("CLIENT|UNBLOCK", flags=_OTHERS)
def client_unblock(cx: Context, client_id_: bytes, *reason: bytes) -> int:
    """CLIENT UNBLOCK client-id [TIMEOUT | ERROR] -- Lets a client wait no more, as if its time were up or with an error; tells whether it was waiting. O(1). Since 5.0.0."""
    is_error = False
    if len(reason) == 1:  # whoever says more is not listened to
        is_error = reason[0].upper() == b"ERROR"
        if not is_error and reason[0].upper() != b"TIMEOUT":
            raise ReplyError(UNBLOCK_REASON)
    session = cx.server.sessions.get(integer(client_id_))
    waiting = None if session is None else cx.executor.waiters.of(session)
    if waiting is None:
        return 0
    cx.executor.give_up(waiting, ReplyError(UNBLOCKED) if is_error else waiting.in_vain())
    return 1


@command("CLIENT|PAUSE", flags=_OTHERS)
def client_pause(cx: Context, timeout: bytes, *mode: bytes) -> Any:
    """CLIENT PAUSE timeout [WRITE | ALL] -- Lets commands of all clients wait for so many milliseconds: all commands, or those that write. O(1). Since 3.0.0."""
    word = mode[0].upper() if len(mode) == 1 else b"ALL"  # of more words than one, none is read
    if word not in {b"ALL", b"WRITE"}:
        raise ReplyError(PAUSE_MODE)
    milliseconds = integer(timeout, TIMEOUT_NOT_INTEGER)
    wait_ms = bounded_timeout_ms(milliseconds, cx.now_ms)
    cx.executor.after_batch.append(lambda: cx.executor.pause(Purpose.CLIENT, wait_ms, writes_only=word == b"WRITE"))
    cx.session.pauses = True
    return OK


@command("CLIENT|UNPAUSE", flags=_OTHERS)
def client_unpause(cx: Context) -> Any:
    """CLIENT UNPAUSE -- Lets all commands run again that wait since CLIENT PAUSE. O(N) where N is the number of clients that wait. Since 6.2.0."""
    cx.executor.after_batch.append(lambda: cx.executor.unpause(Purpose.CLIENT))
    return OK
