"""Stream commands: words and replies. Source: the Redis 7.2 manual, group *stream*; `streams_*` have reading, groups and XINFO."""

from __future__ import annotations

from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from lmdbredis.arguments import REPEATED_BYTES_MAX, Arguments, entry_id, integer, interval_end, interval_start
from lmdbredis.datatypes import streams
from lmdbredis.errors import (
    ENTRY_ID_SMALL,
    ENTRY_ID_ZERO,
    ENTRY_IDS_EXHAUSTED,
    ENTRY_TOO_LARGE,
    NO_SUCH_KEY,
    SETID_ADDED_NEGATIVE,
    SETID_ADDED_SMALL,
    SETID_BELOW_DELETED,
    SETID_BELOW_GIVEN,
    SETID_BELOW_TOP,
    SYNTAX,
    TRIM_LIMIT_ALONE,
    TRIM_LIMIT_EXACT,
    TRIM_LIMIT_NEGATIVE,
    TRIM_MAXLEN_NEGATIVE,
    TRIM_NOTHING,
    TRIM_TWICE,
    WRONG_ARITY,
    ReplyError,
)
from lmdbredis.format import ENTRY_ID_MAX, STREAM
from lmdbredis.registry import DENYOOM, FAST, READ, WRITE, Context, command
from lmdbredis.resp import NULL_ARRAY, OK
from lmdbredis.words import format_entry_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmdbredis.database import Database
    from lmdbredis.datatypes.streams import Item
    from lmdbredis.entry import Entry

_BLOCK: Final = 100  # entries that ~ removes together: Redis's stream-node-max-entries
_APPROXIMATE_MAX: Final = 100 * _BLOCK  # entries that ~ removes at once, if there is no LIMIT
_ENTRY_BYTES_MAX: Final = 1 << 30
_NEW: Final = -1  # instead of an id: one that is made
_OPTION_WORDS_MAX: Final = 6  # of XADD, each once
_SEQUENCE_MAX: Final = (1 << 64) - 1


# --- adding and trimming ------------------------------------------------------------------------------------------------------


class _Options:
    """What XADD and XTRIM say beside the entry."""

    __slots__ = ("creates", "entry_id", "is_approximate", "least", "length", "limit", "makes_sequence")

    def __init__(self) -> None:
        self.creates = True  # XADD makes a stream where there is none
        self.entry_id = _NEW
        self.makes_sequence = False  # only the time of the id is given
        self.length: int | None = None  # MAXLEN
        self.least: int | None = None  # MINID
        self.is_approximate = False
        self.limit: int | None = None

    @property
    def trims(self) -> bool:
        return self.length is not None or self.least is not None

    def accept_trimming(self, options: Arguments) -> bool:
        """Step over a word about trimming and what belongs to it, if it is next. Raises ReplyError."""
        if options.accept(b"MAXLEN", 1):
            self._begin(options)
            self.length = integer(options.next())
            if self.length < 0:
                raise ReplyError(TRIM_MAXLEN_NEGATIVE)
        elif options.accept(b"MINID", 1):
            self._begin(options)
            self.least = entry_id(options.next())
        elif options.accept(b"LIMIT", 1):
            self.limit = integer(options.next())
            if self.limit < 0:
                raise ReplyError(TRIM_LIMIT_NEGATIVE)
        else:
            return False
        return True

    def _begin(self, options: Arguments) -> None:
        if self.trims:
            raise ReplyError(TRIM_TWICE)
        self.is_approximate = options.accept(b"~", 1)
        if not self.is_approximate:
            options.accept(b"=", 1)

    def check(self) -> None:
        """Raise ReplyError if the words do not belong together."""
        if self.limit and not self.trims:
            raise ReplyError(TRIM_LIMIT_ALONE)

    def check_limit(self) -> None:
        """Raise ReplyError if there is a LIMIT, and the trimming is exact."""
        if self.limit is not None and not self.is_approximate:
            raise ReplyError(TRIM_LIMIT_EXACT)

    def trim(self, db: Database, entry: Entry) -> int:
        """Trim a stream; return how many entries were removed."""
        block, deleted_max = 1, 0
        if self.is_approximate:
            block, deleted_max = _BLOCK, _APPROXIMATE_MAX if self.limit is None else self.limit
        if self.length is not None:
            return streams.trim_length(db, entry, self.length, block, deleted_max)
        if self.least is not None:
            return streams.trim_ids(db, entry, self.least, block, deleted_max)
        return 0


@lru_cache(maxsize=64)
def _repeated_options(words: tuple[bytes, ...]) -> _Options | None:
    """Return what XADD says before ``*``, None if that is not all, or is refused: producers say the same every time."""
    try:
        arguments = Arguments(words)
        found = _add_options(arguments)
    except ReplyError:
        return None
    return None if arguments or found.entry_id != _NEW else found


def _add_options(options: Arguments) -> _Options:
    """Return what XADD says before the fields. Raises ReplyError."""
    found = _Options()
    while options:
        if options.accept(b"*"):
            break
        if found.accept_trimming(options):
            continue
        if options.accept(b"NOMKSTREAM"):
            found.creates = False
        else:
            word = options.next().partition(b"\0")[0]
            if word == b"*":
                break
            found.makes_sequence = word.partition(b"-")[2] == b"*"
            found.entry_id = entry_id(word[:-1] + b"0" if found.makes_sequence else word)
            break
    found.check()
    found.check_limit()
    return found


def _xadd_run(cx: Context, requests: Sequence[Sequence[bytes]]) -> list[Any] | None:
    """Return the replies to a run of XADDs of one field each; None if one of them names its id."""
    if any(words[2] != b"*" for words in requests):
        return None
    replies: list[Any] = []
    for key, series in groupby(requests, itemgetter(1)):
        entries = [words[3:] for words in series]
        try:
            entry = cx.db.edit_or_create(key, STREAM)
            if entry.last + len(entries) > ENTRY_ID_MAX:
                replies += [_xadd_or_refuse(cx, key, words) for words in entries]
                continue
        except ReplyError as error:
            replies += [error] * len(entries)
            continue
        first_id = streams.next_id(entry.last, cx.now_ms)
        streams.add_many(cx.db, entry, first_id, entries)
        replies += map(format_entry_id, range(first_id, first_id + len(entries)))
    return replies


def _xadd_or_refuse(cx: Context, key: bytes, words: Sequence[bytes]) -> Any:
    """Return the reply to one XADD, a refusal too."""
    try:
        return xadd(cx, key, b"*", *words)
    except ReplyError as error:
        return error


@command("XADD", flags=WRITE | DENYOOM | FAST, run=_xadd_run)
def xadd(cx: Context, key: bytes, word: bytes, field: bytes, value: bytes, *rest: bytes) -> bytes | None:
    """XADD key [NOMKSTREAM] [<MAXLEN | MINID> [= | ~] threshold [LIMIT count]] <* | id> field value [field value ...] -- Adds an entry to the end of a stream, which is created if need be, and returns its id. O(log N), and O(log N) for each entry that is trimmed. Since 5.0.0."""
    options = None
    words: Sequence[bytes] = (field, value, *rest)
    if word != b"*":
        options, words = _split((word, *words))
    if len(words) < 2 or len(words) % 2:
        raise ReplyError(WRONG_ARITY % "xadd")
    if options is not None and not options.entry_id and not options.makes_sequence:
        raise ReplyError(ENTRY_ID_ZERO)
    db = cx.db
    entry = db.edit(key, STREAM)
    if entry is None and options is not None and not options.creates:
        return None
    new_id = _new_id(0 if entry is None else entry.last, options, cx.now_ms)
    if len(words) > 2 and sum(map(len, words)) > _ENTRY_BYTES_MAX:
        raise ReplyError(ENTRY_TOO_LARGE)
    if entry is None:
        entry = db.create(key, STREAM)
    streams.add(db, entry, new_id, words)
    if options is not None:
        options.trim(db, entry)
    return format_entry_id(new_id)


def _split(words: tuple[bytes, ...]) -> tuple[_Options, Sequence[bytes]]:
    """Return what XADD says before the fields, and the fields. Raises ReplyError."""
    head = words[:_OPTION_WORDS_MAX]
    if b"*" in head:
        at = head.index(b"*")
        is_short = sum(map(len, head[:at])) <= REPEATED_BYTES_MAX
        options = _repeated_options(head[:at]) if is_short else None
        if options is not None:
            return options, words[at + 1 :]
    arguments = Arguments(words)
    return _add_options(arguments), arguments.rest()


def _new_id(last: int, options: _Options | None, now_ms: int) -> int:
    """Return the id of a new entry of a stream whose last id is `last`. Raises ReplyError."""
    if last == ENTRY_ID_MAX:
        raise ReplyError(ENTRY_IDS_EXHAUSTED)
    if options is None or options.entry_id == _NEW:
        return streams.next_id(last, now_ms)
    found = options.entry_id
    if options.makes_sequence and found >> 64 == last >> 64 and last & _SEQUENCE_MAX != _SEQUENCE_MAX:
        found = last + 1
    if found <= last:
        raise ReplyError(ENTRY_ID_SMALL)
    return found


@command("XTRIM", flags=WRITE)
def xtrim(cx: Context, key: bytes, strategy: bytes, threshold: bytes, *rest: bytes) -> int:
    """XTRIM key <MAXLEN | MINID> [= | ~] threshold [LIMIT count] -- Removes the first entries of a stream, until it is as long as wanted or its ids are; returns how many. O(M log N) for M entries removed. Since 5.0.0."""
    options, arguments = _Options(), Arguments((strategy, threshold, *rest))
    while arguments:
        if not options.accept_trimming(arguments):
            raise ReplyError(SYNTAX)
    options.check()
    if not options.trims:
        raise ReplyError(TRIM_NOTHING)
    options.check_limit()
    entry = cx.db.edit(key, STREAM)
    return 0 if entry is None else options.trim(cx.db, entry)


@command("XDEL", flags=WRITE | FAST)
def xdel(cx: Context, key: bytes, id_: bytes, *ids: bytes) -> int:
    """XDEL key id [id ...] -- Removes entries from a stream and returns how many were there. O(log N) for each. Since 5.0.0."""
    entry = cx.db.edit(key, STREAM)
    if entry is None:
        return 0
    return streams.delete(cx.db, entry, [entry_id(word) for word in (id_, *ids)])


@command("XSETID", flags=WRITE | DENYOOM | FAST)
def xsetid(cx: Context, key: bytes, last_id: bytes, *rest: bytes) -> Any:
    """XSETID key last-id [ENTRIESADDED entries-added] [MAXDELETEDID max-deleted-id] -- Sets what a stream remembers: its last id, how many entries were ever added, the greatest id that was deleted. O(log N). Since 5.0.0."""
    last, added, deleted = entry_id(last_id), None, 0
    options = Arguments(rest)
    while options:
        if options.accept(b"ENTRIESADDED", 1):
            added = integer(options.next())
            if added < 0:
                raise ReplyError(SETID_ADDED_NEGATIVE)
        elif options.accept(b"MAXDELETEDID", 1):
            deleted = entry_id(options.next())
            if last < deleted:
                raise ReplyError(SETID_BELOW_GIVEN)
        else:
            raise ReplyError(SYNTAX)
    entry = cx.db.edit(key, STREAM)
    if entry is None:
        raise ReplyError(NO_SUCH_KEY)
    if last < entry.deleted:
        raise ReplyError(SETID_BELOW_DELETED)
    if entry.count:
        if last < streams.greatest(cx.db, entry):
            raise ReplyError(SETID_BELOW_TOP)
        if added is not None and added < entry.count:
            raise ReplyError(SETID_ADDED_SMALL)
    streams.set_last(cx.db, entry, last, added, deleted)
    return OK


# --- reading ------------------------------------------------------------------------------------------------------------------


@command("XLEN", flags=READ | FAST)
def xlen(cx: Context, key: bytes) -> int:
    """XLEN key -- Returns the number of entries of a stream. O(1). Since 5.0.0."""
    entry = cx.db.open(key, STREAM)
    return 0 if entry is None else entry.count


@command("XRANGE", flags=READ)
def xrange_(cx: Context, key: bytes, start: bytes, end: bytes, *rest: bytes) -> Any:
    """XRANGE key start end [COUNT count] -- Returns the entries of a stream from one id to another. O(log N + M) for M entries returned. Since 5.0.0."""
    return _range(cx, key, start, end, rest, back=False)


@command("XREVRANGE", flags=READ)
def xrevrange(cx: Context, key: bytes, end: bytes, start: bytes, *rest: bytes) -> Any:
    """XREVRANGE key end start [COUNT count] -- Returns the entries of a stream from one id down to another. O(log N + M) for M entries returned. Since 5.0.0."""
    return _range(cx, key, start, end, rest, back=True)


def _range(cx: Context, key: bytes, start: bytes, end: bytes, rest: Sequence[bytes], *, back: bool) -> Any:
    """Return what XRANGE and XREVRANGE reply."""
    low, high = interval_start(start), interval_end(end)
    options, count = Arguments(rest), -1
    while options:
        if not options.accept(b"COUNT", 1):
            raise ReplyError(SYNTAX)
        count = max(integer(options.next()), 0)
    entry = cx.db.open(key, STREAM)
    if entry is None:
        return []
    if not count:
        return NULL_ARRAY
    read = streams.get_range_back if back else streams.get_range
    return _shown(read(cx.db, entry, low, high, max(count, 0)))


def _shown(items: Sequence[Item]) -> list[list[Any]]:
    """Return entries as they are replied."""
    return [[format_entry_id(found), words] for found, words in items]
