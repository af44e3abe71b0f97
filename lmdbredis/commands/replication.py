"""Replication: words and replies of REPLICAOF and its like, and what a replica says. Source: the Redis 7.2 manual, groups *server*, *generic*.

The verbs are Redis's own; behind them goes this server's log, which only a replica of its kind can read (``REPLCONF capa lmdbredis``).
How it works is told in `feeds` and `link`.
"""

from __future__ import annotations

from typing import Any, Final

from lmdbredis.arguments import Arguments, bounded_timeout_ms, integer
from lmdbredis.blocking import Wait
from lmdbredis.directive_kinds import to_bytes
from lmdbredis.errors import (
    FAILOVER_TIMEOUT,
    IP_ADDRESS_LENGTH,
    MASTER_PORT,
    NOT_CONNECTED_TO_MASTER,
    NOT_FOR_REPLICAS,
    REPLCONF_OPTION,
    REPLICA_OF_IN_FAILOVER,
    REPLICA_WAITS,
    REPLICA_WAITS_AOF,
    SYNTAX,
    TIMEOUT_NEGATIVE,
    TIMEOUT_NOT_INTEGER,
    WAIT_POSITIVE,
    WAIT_RANGE,
    ReplyError,
    shown,
)
from lmdbredis.registry import (
    ADMIN,
    ALLOW_BUSY,
    BLOCKING,
    FAST,
    LOADING,
    NO_ASYNC_LOADING,
    NO_MULTI,
    NOSCRIPT,
    STALE,
    Context,
    command,
)
from lmdbredis.replication import Awaited
from lmdbredis.resp import NO_REPLY, OK
from lmdbredis.words import parse_int

_NO_KIND: Final = -1  # what is waited for is no key
_PORT_MAX: Final = 65535
_ADDRESS_BYTES_MAX: Final = 255


# --- roles ----------------------------------------------------------------------------------------------------------------------


def _replicate(cx: Context, host: bytes, port: bytes) -> Any:
    """Copy another server from the end of this batch on, or none any more."""
    if cx.server.role.failover.is_on:
        raise ReplyError(REPLICA_OF_IN_FAILOVER)
    address = None
    if (host.lower(), port.lower()) != (b"no", b"one"):
        number = parse_int(port)
        if number is None or not 0 <= number <= _PORT_MAX:
            raise ReplyError(MASTER_PORT)
        address = (host.decode("utf-8", "surrogateescape"), number)
    cx.config.follow(address)  # at once: Sentinel has CONFIG REWRITE behind it in the same transaction
    cx.executor.after_batch.append(lambda: cx.server.role.replicate(address))
    cx.session.pauses = True
    return OK


@command("REPLICAOF", flags=ADMIN | NOSCRIPT | STALE | NO_ASYNC_LOADING)
def replicaof(cx: Context, host: bytes, port: bytes) -> Any:
    """REPLICAOF <host port | NO ONE> -- Makes this server a replica of another, or a server of its own. O(1). Since 5.0.0."""
    return _replicate(cx, host, port)


@command("SLAVEOF", flags=ADMIN | NOSCRIPT | STALE | NO_ASYNC_LOADING)
def slaveof(cx: Context, host: bytes, port: bytes) -> Any:
    """SLAVEOF <host port | NO ONE> -- As REPLICAOF. O(1). Since 1.0.0."""
    return _replicate(cx, host, port)


@command("ROLE", flags=NOSCRIPT | LOADING | STALE | FAST)
def role(cx: Context) -> list[Any]:
    """ROLE -- Returns what this server is to others, and how far its log or its replicas' is. O(N) where N is the number of replicas. Since 2.8.12."""
    lsn, following = cx.keyspace.store.wal.end_lsn, cx.server.role.following
    if following is not None:
        return [b"slave", to_bytes(following.host), following.port, following.state.encode(), lsn]
    replicas = [
        [to_bytes(replica.address), b"%d" % replica.port, b"%d" % replica.lsn] for replica in cx.executor.replicas
    ]
    return [b"master", lsn, replicas]


@command("FAILOVER", flags=ADMIN | NOSCRIPT | STALE)
def failover(cx: Context, *words: bytes) -> Any:
    """FAILOVER [TO host port [FORCE]] [ABORT] [TIMEOUT milliseconds] -- Lets a replica take this server's place, when it has everything. O(1). Since 6.2.0."""
    options, target, forces, timeout_ms = Arguments(words), None, False, 0
    aborts = False
    while options:
        if options.accept(b"TIMEOUT", 1) and not timeout_ms:
            timeout_ms = integer(options.next())
            if timeout_ms <= 0:
                raise ReplyError(FAILOVER_TIMEOUT)
        elif options.accept(b"TO", 2) and target is None:
            host = options.next().decode("utf-8", "surrogateescape")
            target = (host, integer(options.next()))
        elif options.accept(b"FORCE") and not forces:
            forces = True
        elif options.accept(b"ABORT") and len(words) == 1:
            aborts = True
        else:
            raise ReplyError(SYNTAX)
    if aborts:
        cx.server.role.failover.abort()
        return OK
    cx.server.role.failover.begin(target, timeout_ms, forces=forces)
    return OK


# --- what a replica says ---------------------------------------------------------------------------------------------------------


@command("REPLCONF", flags=ADMIN | NOSCRIPT | LOADING | STALE | ALLOW_BUSY)
def replconf(cx: Context, *words: bytes) -> Any:
    """REPLCONF [option value ...] -- An internal command with which replicas say what they are and how far. O(1). Since 3.0.0."""
    if len(words) % 2:
        raise ReplyError(SYNTAX)
    replica = cx.executor.replicas.of(cx.session)
    if words and words[0].lower() == b"ack":
        lsn, synced_lsn = parse_int(words[1]), 0
        if len(words) > 3 and words[2].lower() == b"fack":
            synced_lsn = parse_int(words[3]) or 0
        if lsn is not None:
            cx.server.role.acknowledge(replica, lsn, synced_lsn)
        return NO_REPLY
    for option, value in zip(words[::2], words[1::2], strict=True):
        name = option.lower()
        if name == b"listening-port":
            replica.port = integer(value)
        elif name == b"ip-address":
            if len(value) > _ADDRESS_BYTES_MAX:
                raise ReplyError(IP_ADDRESS_LENGTH % len(value))
            replica.host = value.decode("utf-8", "surrogateescape")
        elif name == b"key-events":
            replica.key_events = value.decode("latin-1")
            cx.executor.after_batch.append(cx.server.role.apply)
            cx.executor.after_batch.append(cx.server.role.follow_events)
            if replica.is_fed:  # it listens for nothing but the log
                return NO_REPLY
        elif name == b"capa":
            replica.reads_log = replica.reads_log or value.lower() == b"lmdbredis"
        elif name == b"ack":  # not first: of no account, and without a reply
            return NO_REPLY
        elif name not in {b"getack", b"rdb-only", b"rdb-filter-only", b"version", b"fack"}:
            raise ReplyError(REPLCONF_OPTION % shown(option))
    return OK


@command("PSYNC", flags=ADMIN | NOSCRIPT | NO_ASYNC_LOADING | NO_MULTI)
def psync(cx: Context, replicationid: bytes, offset: bytes, *words: bytes) -> Any:
    """PSYNC replicationid offset [last-record-lsn last-record-end checksum [FAILOVER]] -- An internal command with which a replica asks for the log, or a snapshot first. O(1). Since 2.8.0."""
    lsn, last = integer(offset), [integer(word) for word in words[:3]]
    _refuse_strangers(cx)
    session = cx.session
    if words[3:] and words[3].upper() == b"FAILOVER":
        cx.executor.after_batch.append(lambda: cx.server.role.take_place(session, replicationid.decode("latin-1")))
    cx.executor.after_batch.append(
        lambda: cx.server.role.feed(session, replicationid.decode("latin-1"), lsn, last if len(last) == 3 else None)
    )
    session.pauses = True
    return NO_REPLY


@command("SYNC", flags=ADMIN | NOSCRIPT | NO_ASYNC_LOADING | NO_MULTI)
def sync(cx: Context) -> Any:
    """SYNC -- An internal command with which replicas of old asked for everything; not here. O(1). Since 1.0.0."""
    raise ReplyError(NOT_FOR_REPLICAS)


def _refuse_strangers(cx: Context) -> None:
    """Raise ReplyError if who asks cannot read this server's log, or it has none to give yet."""
    if not cx.executor.replicas.of(cx.session).reads_log:
        raise ReplyError(NOT_FOR_REPLICAS)
    following = cx.server.role.following
    if following is not None and not following.is_up:
        raise ReplyError(NOT_CONNECTED_TO_MASTER)


# --- waiting for copies ------------------------------------------------------------------------------------------------------------


def _timeout_ms(cx: Context, word: bytes) -> int:
    """Return a timeout in ms, 0 = none. Raises ReplyError."""
    milliseconds = integer(word, TIMEOUT_NOT_INTEGER)
    if milliseconds < 0:
        raise ReplyError(TIMEOUT_NEGATIVE)
    return bounded_timeout_ms(milliseconds, cx.now_ms) if milliseconds else 0


def _await(cx: Context, awaited: Awaited, timeout_ms: int) -> Any:
    """Wait for copies of everything up to the end of this batch."""
    executor, wal = cx.executor, cx.keyspace.store.wal
    awaited.lsn = wal.end_lsn

    def found() -> int | list[int]:
        return awaited.reply(executor.replicas, wal.synced_lsn)

    raise Wait((), _NO_KIND, timeout_ms, found(), late=found, awaited=awaited)


@command("WAIT", flags=BLOCKING)
def wait(cx: Context, numreplicas: bytes, timeout: bytes) -> Any:
    """WAIT numreplicas timeout -- Blocks until so many replicas have all writes that came before, and returns how many have. O(1). Since 3.0.0."""
    if cx.executor.is_copy:
        raise ReplyError(REPLICA_WAITS)
    replicas = integer(numreplicas)
    return _await(cx, Awaited(replicas), _timeout_ms(cx, timeout))


@command("WAITAOF", flags=BLOCKING)
def waitaof(cx: Context, numlocal: bytes, numreplicas: bytes, timeout: bytes) -> Any:
    """WAITAOF numlocal numreplicas timeout -- Blocks until all writes that came before are on this server's disk and on those of so many replicas. O(1). Since 7.2.0."""
    local = integer(numlocal)
    if not 0 <= local <= 1:
        raise ReplyError(WAIT_RANGE)
    replicas = integer(numreplicas, WAIT_POSITIVE)
    if replicas < 0:
        raise ReplyError(WAIT_POSITIVE)
    timeout_ms = _timeout_ms(cx, timeout)
    if cx.executor.is_copy:
        raise ReplyError(REPLICA_WAITS_AOF)
    cx.executor.after_batch.append(lambda: cx.server.role.sync_soon_for(replicas=replicas, local=local))
    return _await(cx, Awaited(replicas, local), timeout_ms)
