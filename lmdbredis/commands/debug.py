"""DEBUG: for tests and for whoever looks after the server. Refused unless enable-debug-command allows it.

As in Redis its subcommands are no commands of their own: one table, and one error for whatever is not in it or has the wrong number
of words. Source: Redis 7.2, debug.c; CHECK is ours.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

from lmdbredis import check, pattern
from lmdbredis.arguments import positive
from lmdbredis.datatypes import digest, outside
from lmdbredis.entry import Entry
from lmdbredis.errors import BROKEN, DEBUG_REFUSED, DEBUG_RELOAD_OPTION, DEBUG_SYNTAX, NO_SUCH_KEY, ReplyError, shown
from lmdbredis.registry import ADMIN, LOADING, NOSCRIPT, STALE, Context, command
from lmdbredis.resp import OK, Simple
from lmdbredis.words import parse_float, parse_int

if TYPE_CHECKING:
    from collections.abc import Callable

_SAMPLES: Final = 100
_ONE_LINE: Final = bytes.maketrans(b"\r\n", b"  ")


@command("DEBUG", flags=ADMIN | NOSCRIPT | LOADING | STALE)
def debug(cx: Context, subcommand: bytes, *words: bytes) -> Any:
    """DEBUG subcommand [arg ...] -- A container for debugging commands. Since 1.0.0."""
    allowed = cx.config.enable_debug_command
    if allowed == "no" or (allowed == "local" and not cx.session.is_local):
        raise ReplyError(DEBUG_REFUSED)
    found = _SUBCOMMANDS.get(subcommand.upper())
    if found is None:
        raise ReplyError(DEBUG_SYNTAX % shown(subcommand))
    function, least, most = found
    if not least <= len(words) <= most:
        raise ReplyError(DEBUG_SYNTAX % shown(subcommand))
    return function(cx, *words)


def _sleep(cx: Context, seconds: bytes) -> Any:
    """SLEEP <seconds> -- Stop the server for <seconds>. Decimals allowed."""
    cx.server.sleep(max(parse_float(seconds) or 0.0, 0.0))
    cx.session.pauses = True  # what follows has a later time
    return OK


def _set_active_expire(cx: Context, on: bytes) -> Any:
    """SET-ACTIVE-EXPIRE <0|1> -- Setting it to 0 disables expiring keys that are not accessed, 1 enables it again."""
    cx.server.set_active_expire(on=parse_int(on) not in {None, 0})
    return OK


def _error(cx: Context, text: bytes) -> Any:
    """ERROR <string> -- Return a Redis protocol error with <string> as message. Useful for clients unit tests to simulate Redis errors."""
    error = ReplyError(text.translate(_ONE_LINE).decode("latin-1"))
    error.is_counted = True  # it is none of this server's
    raise error


def _object(cx: Context, key: bytes) -> Any:
    """OBJECT <key> -- Show low level info about `key` and associated value."""
    found = cx.db.find(key)
    if found is None:
        raise ReplyError(NO_SUCH_KEY)
    ident = found.id if isinstance(found, Entry) else 0
    encoding = outside.encoding(cx.db, found, cx.config).decode()
    size = outside.size_bytes(cx.db, key, found, _SAMPLES)
    clock = cx.now_ms // 1000 % (1 << 24)
    return Simple(
        f"Value at:{ident:#x} refcount:1 encoding:{encoding} serializedlength:{size} lru:{clock} lru_seconds_idle:0".encode()
    )


def _reload(cx: Context, *options: bytes) -> Any:
    """RELOAD [option ...] -- Close the store and open it again. The options of Redis (MERGE, NOFLUSH, NOSAVE) change nothing."""
    if any(option.upper() not in {b"MERGE", b"NOFLUSH", b"NOSAVE"} for option in options):
        raise ReplyError(DEBUG_RELOAD_OPTION)
    cx.session.pauses = True
    cx.executor.after_batch.append(cx.server.reload)
    return OK


def _stringmatch_len(cx: Context, length: bytes, glob: bytes) -> Any:
    """STRINGMATCH-LEN <length> <pattern> -- Match <length> times the letter a against <pattern>: 1 or 0."""
    return int(pattern.matches(glob, b"a" * min(positive(length), cx.config.proto_max_bulk_len_bytes)))


def _change_repl_id(cx: Context) -> Any:
    """CHANGE-REPL-ID -- Change the replication ID of the server. For tests of replication only."""
    cx.session.pauses = True
    cx.executor.after_batch.append(cx.server.change_replid)
    return OK


def _digest(cx: Context) -> Any:
    """DIGEST -- Output a hex signature representing the current DB content."""
    return Simple(digest.of_all(cx.keyspace).encode())


def _digest_value(cx: Context, *keys: bytes) -> list[Simple]:
    """DIGEST-VALUE <key> [<key> ...] -- Output a hex signature of the values of all the specified keys."""
    return [Simple(digest.of_value(cx.db, key).encode()) for key in keys]


def _check(cx: Context) -> Any:
    """CHECK -- Read every row and look whether it is as the format says: OK, or what is broken."""
    broken = check.check_live(cx.keyspace)
    if broken:
        raise ReplyError(BROKEN % shown("; ".join(broken[:10]).encode(), 2000))
    return OK


def _help(cx: Context) -> list[Simple]:
    """HELP -- Print this help."""
    lines = ["DEBUG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"]
    for function, _, _ in _SUBCOMMANDS.values():
        syntax, _, summary = (inspect.getdoc(function) or "").partition(" -- ")
        lines += [syntax, f"    {summary}"]
    return [Simple(line.encode()) for line in lines]


_ANY: Final = 1 << 30

# Name -> (function, least number of words, greatest).
_SUBCOMMANDS: Final[dict[bytes, tuple[Callable[..., Any], int, int]]] = {
    b"CHANGE-REPL-ID": (_change_repl_id, 0, 0),
    b"CHECK": (_check, 0, 0),
    b"DIGEST": (_digest, 0, 0),
    b"DIGEST-VALUE": (_digest_value, 0, _ANY),
    b"ERROR": (_error, 1, 1),
    b"OBJECT": (_object, 1, 1),
    b"RELOAD": (_reload, 0, _ANY),
    b"SET-ACTIVE-EXPIRE": (_set_active_expire, 1, 1),
    b"SLEEP": (_sleep, 1, 1),
    b"STRINGMATCH-LEN": (_stringmatch_len, 2, 2),
    b"HELP": (_help, 0, 0),
}
