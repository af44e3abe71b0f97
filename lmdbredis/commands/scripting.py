"""Scripts: words and replies of EVAL and its like. Source: the Redis 7.2 manual, group *scripting*.

A script's commands run in the batch of its EVAL, which is one record of the log: after a crash all of it is there, or none.
What it is to run a script is told in `lmdbredis.scripting`; functions (FUNCTION, FCALL) are not here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lmdbredis.arguments import integer
from lmdbredis.errors import (
    MASTER_DOWN,
    NEGATIVE_KEYS,
    NO_SCRIPT,
    NOT_BUSY,
    SCRIPT_FLUSH_OPTION,
    SCRIPT_MAY_WRITE,
    TOO_MANY_KEYS,
    ReplyError,
)
from lmdbredis.registry import (
    ALLOW_BUSY,
    MOVABLEKEYS,
    NO_MANDATORY_KEYS,
    NOSCRIPT,
    READ,
    SKIP_MONITOR,
    STALE,
    Context,
    command,
    container,
)
from lmdbredis.resp import OK
from lmdbredis.words import parse_int

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmdbredis.scripting.scripts import Script

_FLAGS: Final = NOSCRIPT | STALE | SKIP_MONITOR | NO_MANDATORY_KEYS | MOVABLEKEYS


def _keys_of(words: Sequence[bytes]) -> list[int]:
    """Return the positions of the keys: as many as the third word says. Raises ReplyError."""
    count = parse_int(words[2])
    if count is None or not 0 <= count <= len(words) - 3:
        raise ReplyError(TOO_MANY_KEYS)
    return list(range(3, 3 + count))


def _key_count(numkeys: bytes, words: Sequence[bytes]) -> int:
    """Return how many of the words are keys. Raises ReplyError."""
    if numkeys == b"0":
        return 0
    count = integer(numkeys)
    if count > len(words):
        raise ReplyError(TOO_MANY_KEYS)
    if count < 0:
        raise ReplyError(NEGATIVE_KEYS)
    return count


def _run(cx: Context, script: Script, count: int, words: Sequence[bytes], *, read_only: bool) -> Any:
    """Run a script, the first `count` words of which are keys. Raises ReplyError, too, if that is what it returns: what it wrote stays."""
    executor = cx.executor
    if script.says_it_writes:
        if read_only:
            raise ReplyError(SCRIPT_MAY_WRITE)
        if executor.no_writes is not None:
            raise ReplyError(executor.no_writes)
    if executor.masks_all and not script.allows_stale:
        raise ReplyError(MASTER_DOWN)
    value = executor.scripting.run(script, count, words, read_only=read_only)
    if value.__class__ is ReplyError:
        raise value
    return value


def _eval(cx: Context, text: bytes, numkeys: bytes, words: Sequence[bytes], *, read_only: bool) -> Any:
    """Run a script given by its text."""
    count = _key_count(numkeys, words)
    return _run(cx, cx.executor.scripting.of_text(text), count, words, read_only=read_only)


def _evalsha(cx: Context, sha: bytes, numkeys: bytes, words: Sequence[bytes], *, read_only: bool) -> Any:
    """Run a script given by its SHA1."""
    script = cx.executor.scripting.scripts.of_sha(sha)
    if script is None:
        raise ReplyError(NO_SCRIPT)
    return _run(cx, script, _key_count(numkeys, words), words, read_only=read_only)


@command("EVAL", flags=_FLAGS, keys_of=_keys_of)
def eval_(cx: Context, script: bytes, numkeys: bytes, *words: bytes) -> Any:
    """EVAL script numkeys [key [key ...]] [arg [arg ...]] -- Executes a server-side Lua script. O(N) for N steps of the script, beside what its commands cost. Since 2.6.0."""
    return _eval(cx, script, numkeys, words, read_only=False)


@command("EVAL_RO", flags=_FLAGS | READ, keys_of=_keys_of)
def eval_ro(cx: Context, script: bytes, numkeys: bytes, *words: bytes) -> Any:
    """EVAL_RO script numkeys [key [key ...]] [arg [arg ...]] -- Executes a read-only server-side Lua script. O(N) for N steps of the script, beside what its commands cost. Since 7.0.0."""
    return _eval(cx, script, numkeys, words, read_only=True)


@command("EVALSHA", flags=_FLAGS, keys_of=_keys_of)
def evalsha(cx: Context, sha1: bytes, numkeys: bytes, *words: bytes) -> Any:
    """EVALSHA sha1 numkeys [key [key ...]] [arg [arg ...]] -- Executes a server-side Lua script by SHA1 digest. O(N) for N steps of the script, beside what its commands cost. Since 2.6.0."""
    return _evalsha(cx, sha1, numkeys, words, read_only=False)


@command("EVALSHA_RO", flags=_FLAGS | READ, keys_of=_keys_of)
def evalsha_ro(cx: Context, sha1: bytes, numkeys: bytes, *words: bytes) -> Any:
    """EVALSHA_RO sha1 numkeys [key [key ...]] [arg [arg ...]] -- Executes a read-only server-side Lua script by SHA1 digest. O(N) for N steps of the script, beside what its commands cost. Since 7.0.0."""
    return _evalsha(cx, sha1, numkeys, words, read_only=True)


# --- the cache --------------------------------------------------------------------------------------------------------------------


@container("SCRIPT", help_since="5.0.0")
def script_(cx: Context) -> None:
    """SCRIPT -- A container for Lua scripts management commands. Since 2.6.0."""


@command("SCRIPT|LOAD", flags=NOSCRIPT | STALE)
def script_load(cx: Context, script: bytes) -> bytes:
    """SCRIPT LOAD script -- Loads a server-side Lua script to the script cache. O(N) with N being the length in bytes of the script body. Since 2.6.0."""
    scripting = cx.executor.scripting
    found: Script = scripting.of_text(script)
    scripting.scripts.keep(found)
    return found.sha


@command("SCRIPT|EXISTS", flags=NOSCRIPT | STALE)
def script_exists(cx: Context, sha1: bytes, *sha1s: bytes) -> list[int]:
    """SCRIPT EXISTS sha1 [sha1 ...] -- Determines whether server-side Lua scripts exist in the script cache. O(N) with N being the number of scripts to check. Since 2.6.0."""
    scripts = cx.executor.scripting.scripts
    return [int(scripts.of_sha(sha) is not None) for sha in (sha1, *sha1s)]


@command("SCRIPT|FLUSH", flags=NOSCRIPT | STALE)
def script_flush(cx: Context, *words: bytes) -> Any:
    """SCRIPT FLUSH [ASYNC | SYNC] -- Removes all server-side Lua scripts from the script cache. O(N) with N being the number of scripts in cache. Since 2.6.0."""
    if len(words) > 1 or (words and words[0].upper() not in {b"ASYNC", b"SYNC"}):
        raise ReplyError(SCRIPT_FLUSH_OPTION)
    cx.executor.scripting.flush()
    return OK


@command("SCRIPT|KILL", flags=NOSCRIPT | ALLOW_BUSY)
def script_kill(cx: Context) -> Any:
    """SCRIPT KILL -- Terminates a server-side Lua script during execution. O(1). Since 2.6.0."""
    raise ReplyError(NOT_BUSY)  # while one runs, the server answers by itself: no handler runs then


@command("SCRIPT|SHOW", flags=NOSCRIPT | STALE)
def script_show(cx: Context, sha1: bytes) -> bytes:
    """SCRIPT SHOW sha1 -- Shows a server-side Lua script of the script cache. O(1). Since 8.0.0."""
    script = cx.executor.scripting.scripts.of_sha(sha1)
    if script is None:
        raise ReplyError(NO_SCRIPT)
    text: bytes = script.text
    return text
