"""Server commands: what the process is and does. Source: the Redis 7.2 manual, group *server*.

CONFIG, COMMAND and DEBUG have rooms of their own; FLUSHALL and its like stand with the keys. What only the process can do is asked
of `registry.Server`; what must not happen before the batch is logged waits in `after_batch`.
"""

from __future__ import annotations

from typing import Any, Final

from lmdbredis import info
from lmdbredis.arguments import Arguments, integer
from lmdbredis.config import VERSION
from lmdbredis.datatypes import outside
from lmdbredis.errors import NO_SHUTDOWN, NOT_INTEGER, SAVE_HELD, SAVING_ALREADY, SYNTAX, ReplyError
from lmdbredis.registry import (
    ADMIN,
    ALLOW_BUSY,
    FAST,
    LOADING,
    NO_ASYNC_LOADING,
    NO_MULTI,
    NOSCRIPT,
    READ,
    STALE,
    Context,
    command,
    container,
)
from lmdbredis.resp import NO_REPLY, OK, Simple, Verbatim

_SAMPLES_DEFAULT: Final = 5
_STORM_BYTES: Final = 5 << 20  # below this MEMORY DOCTOR has nothing to say, as in Redis
_LEAF_CHARS: Final = "▁▂▃▄▅▆▇█"


@command("INFO", flags=LOADING | STALE)
def info_(cx: Context, *sections: bytes) -> Verbatim:
    """INFO [section [section ...]] -- Returns information and statistics about the server. O(1). Since 1.0.0."""
    return Verbatim(info.render(cx, sections or (b"default",)))


@command("TIME", flags=LOADING | STALE | FAST)
def time(cx: Context) -> list[bytes]:
    """TIME -- Returns the server time: seconds since 1970, and microseconds of the second. O(1). Since 2.6.0."""
    return [b"%d" % (cx.now_us // 1_000_000), b"%d" % (cx.now_us % 1_000_000)]


# --- saving and ending ----------------------------------------------------------------------------------------------------------


@command("SAVE", flags=ADMIN | NOSCRIPT | NO_ASYNC_LOADING | NO_MULTI)
def save(cx: Context) -> Any:
    """SAVE -- Makes a checkpoint and answers when it is on disk. O(N) where N is the number of rows that have changed since the last one. Since 1.0.0."""
    _refuse_if_held(cx)
    session = cx.session
    session.pauses = True
    cx.executor.after_batch.append(lambda: cx.server.save(session))
    return OK


@command("BGSAVE", flags=ADMIN | NOSCRIPT | NO_ASYNC_LOADING)
def bgsave(cx: Context, *words: bytes) -> Any:
    """BGSAVE [SCHEDULE] -- Begins a checkpoint in the background; LASTSAVE tells when it is on disk. O(1). Since 1.0.0."""
    if words and (len(words) > 1 or words[0].upper() != b"SCHEDULE"):
        raise ReplyError(SYNTAX)
    _refuse_if_held(cx)
    if cx.server.measures.facts()["is_saving"]:
        raise ReplyError(SAVING_ALREADY)
    cx.session.pauses = True  # what follows sees that it has begun
    cx.executor.after_batch.append(cx.server.begin_save)
    return Simple(b"Background saving scheduled" if cx.executor.in_transaction else b"Background saving started")


def _refuse_if_held(cx: Context) -> None:
    """Refuse to make a checkpoint while a backup holds them."""
    hold = cx.executor.hold
    if hold.is_on:
        raise ReplyError(SAVE_HELD % hold.called())


@command("LASTSAVE", flags=LOADING | STALE | FAST)
def lastsave(cx: Context) -> int:
    """LASTSAVE -- Returns when the last checkpoint was on disk, in seconds since 1970. O(1). Since 1.0.0."""
    return int(cx.server.measures.facts()["saved_at_ms"] // 1000)


@command("SHUTDOWN", flags=ADMIN | NOSCRIPT | LOADING | STALE | NO_MULTI | ALLOW_BUSY)
def shutdown(cx: Context, *words: bytes) -> Any:
    """SHUTDOWN [NOSAVE | SAVE] [NOW] [FORCE] [ABORT] -- Ends the server, with a checkpoint unless NOSAVE says otherwise; the log has everything either way. Without NOW, replicas that lag get up to shutdown-timeout to catch up. O(N) where N is the number of rows that have changed since the last checkpoint. Since 1.0.0."""
    wanted = {word.upper() for word in words}
    if wanted - {b"NOSAVE", b"SAVE", b"NOW", b"FORCE", b"ABORT"} or {b"SAVE", b"NOSAVE"} <= wanted:
        raise ReplyError(SYNTAX)
    if b"ABORT" in wanted:
        if len(wanted) > 1:
            raise ReplyError(SYNTAX)
        if not cx.server.is_ending:
            raise ReplyError(NO_SHUTDOWN)
        cx.executor.after_batch.append(cx.server.abort_shutdown)
        return OK
    cx.executor.if_undone.append(cx.session.kept_state())
    cx.session.closing = cx.session.pauses = True
    cx.executor.after_batch.append(lambda: cx.server.shutdown(save=b"NOSAVE" not in wanted, now=b"NOW" in wanted))
    return NO_REPLY


# --- memory -----------------------------------------------------------------------------------------------------------------------


@container("MEMORY", help_since="4.0.0")
def memory(cx: Context) -> None:
    """MEMORY -- A container for memory diagnostics commands. Since 4.0.0."""


@command("MEMORY|USAGE", flags=READ)
def memory_usage(cx: Context, key: bytes, *words: bytes) -> int | None:
    """MEMORY USAGE key [SAMPLES count] -- Estimates how many bytes a key and its value take in the data file. O(N) where N is the number of samples. Since 4.0.0."""
    options, samples = Arguments(words), _SAMPLES_DEFAULT
    while options:
        if not options.accept(b"SAMPLES", 1):
            raise ReplyError(SYNTAX)
        samples = integer(options.next(), NOT_INTEGER)
        if samples < 0:
            raise ReplyError(SYNTAX)
    found = cx.db.find(key)
    return None if found is None else outside.size_bytes(cx.db, key, found, samples)


@command("MEMORY|STATS")
def memory_stats(cx: Context) -> dict[bytes, Any]:
    """MEMORY STATS -- Returns details about memory usage. O(1). Since 4.0.0."""
    facts = cx.server.measures.memory()
    used, peak, resident = facts["anonymous_bytes"], facts["peak_bytes"], facts["rss_bytes"]
    startup = min(facts["startup_bytes"], used)
    keys = sum(database.keys for database in cx.keyspace.databases)
    pending = sum(session.unsent_bytes + session.parser.buffered_bytes for session in cx.server.sessions)
    return {
        b"peak.allocated": peak,
        b"total.allocated": used,
        b"startup.allocated": startup,
        b"replication.backlog": 0,
        b"clients.slaves": 0,
        b"clients.normal": pending,
        b"cluster.links": 0,
        b"aof.buffer": 0,
        b"lua.caches": cx.executor.scripting.scripts.size_bytes,
        b"functions.caches": 0,
        b"overhead.total": startup + pending,
        b"keys.count": keys,
        b"keys.bytes-per-key": (used - startup) // keys if keys else 0,
        b"dataset.bytes": used - startup,
        b"dataset.percentage": 100 * (used - startup) / used if used else 0.0,
        b"peak.percentage": 100 * used / peak if peak else 0.0,
        b"allocator.allocated": used,
        b"allocator.active": used,
        b"allocator.resident": used,
        b"allocator-fragmentation.ratio": 1.0,
        b"allocator-fragmentation.bytes": 0,
        b"allocator-rss.ratio": 1.0,
        b"allocator-rss.bytes": 0,
        b"rss-overhead.ratio": resident / used if used else 0.0,
        b"rss-overhead.bytes": resident - used,
        b"fragmentation": resident / used if used else 0.0,
        b"fragmentation.bytes": resident - used,
    }


@command("MEMORY|DOCTOR")
def memory_doctor(cx: Context) -> Verbatim:
    """MEMORY DOCTOR -- Outputs a memory problems report. O(1). Since 4.0.0."""
    facts = cx.server.measures.memory()
    used, resident = facts["anonymous_bytes"], facts["rss_bytes"]
    text = (
        f"The data lies on disk. Of its own this process holds {info.human(used)}; {info.human(resident)} are resident with the pages "
        "of the data file, which the kernel takes back when it needs them.\n"
    )
    pending = sum(session.unsent_bytes for session in cx.server.sessions)
    if pending > _STORM_BYTES:
        text += f"Clients that do not read make {info.human(pending)} of replies wait: see CLIENT LIST, and client-output-buffer-limit.\n"
    if cx.config.hot_layer_size_bytes * 2 < used - facts["startup_bytes"] and used > 40 * _STORM_BYTES:
        text += "That is more than the hot layer (hot-layer-size) accounts for: large requests or replies have been under way.\n"
    return Verbatim(text.encode())


@command("MEMORY|MALLOC-STATS", flags=LOADING)
def memory_malloc_stats(cx: Context) -> bytes:
    """MEMORY MALLOC-STATS -- Returns the allocator statistics, which this allocator does not keep. O(1). Since 4.0.0."""
    return b"Stats not supported for the current allocator"


@command("MEMORY|PURGE", flags=LOADING)
def memory_purge(cx: Context) -> Any:
    """MEMORY PURGE -- Asks the allocator to release memory; it does so by itself. O(1). Since 4.0.0."""
    return OK


# --- LOLWUT ---------------------------------------------------------------------------------------------------------------------


@command("LOLWUT", flags=READ | FAST)
def lolwut(cx: Context, *words: bytes) -> Verbatim:
    """LOLWUT [VERSION version] [columns] [rows] -- Draws a row of hills, a little different every time, and tells the version. O(N) where N is the area of the drawing. Since 5.0.0."""
    options = Arguments(words)
    if options.accept(b"VERSION", 1):
        integer(options.next())  # there is one drawing
    columns, rows = (
        min(max(integer(options.next()), 1), most) if options else usual for usual, most in ((66, 160), (12, 60))
    )
    text = "\n".join(_hills(cx, columns, rows))
    return Verbatim(
        f"{text}\n\nHills of a B+tree: what is shallow is quick. Redis ver. {info.REDIS_VERSION}, lmdbredis {VERSION}\n".encode()
    )


def _hills(cx: Context, columns: int, rows: int) -> list[str]:
    """Return lines of text: a random walk as the ridge, halved again and again as midpoint displacement does."""
    heights = [0.0] * (columns + 1)
    heights[0], heights[columns] = cx.random.random(), cx.random.random()
    spans = [(0, columns, 0.5)]
    for left, right, rough in spans:
        if right - left > 1:
            middle = (left + right) // 2
            heights[middle] = (heights[left] + heights[right]) / 2 + (cx.random.random() - 0.5) * rough
            spans += [(left, middle, rough / 1.8), (middle, right, rough / 1.8)]
    low, high = min(heights), max(heights)
    eighths = [round((height - low) / (high - low or 1) * (rows * 8 - 1)) + 1 for height in heights[:columns]]
    lines = []
    for row in reversed(range(rows)):
        filled = [min(max(height - row * 8, 0), 8) for height in eighths]
        lines.append("".join(_LEAF_CHARS[part - 1] if part else " " for part in filled).rstrip())
    return lines
