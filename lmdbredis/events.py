"""Key events: the names that Redis gives to what happens to keys: notify-keyspace-events.

Theory. The keyspace's news tell what happened to which keys; the command that was run tells what Redis calls it. For most commands
that is one name for whatever they change (`_CHANGES`); a few have a rule of their own (`_RULES`). A deletion is called ``del``,
an expiry ``expired``, a time to expire ``expire``, whoever does it.

Laws:

1. An event that nobody asked for is not made: `Events.classes` holds the letters of the setting, `Events.noted` those that replicas ask for.
2. The order is that of the news; what a command does to one key again and again is one event.
3. A key that a command deletes to put something else in its place was overwritten: neither ``del`` nor ``new``, but for RENAME and
   COPY, which tell that it is new.

It knows no session and no channel but the two that an event has: `messages` returns what is to be published. A replica has no
commands from which to tell what happened, so it gets the events themselves (notes of a record), if it asks for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from lmdbredis.news import News, What

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from lmdbredis.database import Database
    from lmdbredis.format import Note

_ALL_CLASSES: Final = frozenset("g$lshzxetd")  # what the letter A stands for


class Event(NamedTuple):
    """One event: the letter of its class, its name, and whose it is."""

    letter: str
    name: bytes
    database: Database
    key: bytes


def _changes(letter: str, names: str) -> dict[str, tuple[str, bytes]]:
    """Return command -> (class, event), for commands and events of one class: ``command`` or ``command=event``."""
    pairs = (word.partition("=") for word in names.split())
    return {command: (letter, (event or command).encode()) for command, _, event in pairs}


# What a command's change of a key is called.
_CHANGES: Final = (
    _changes(
        "$",
        "set setnx=set setex=set psetex=set getset=set mset=set msetnx=set append setrange incr=incrby decr=incrby incrby decrby=incrby "
        "incrbyfloat setbit bitop=set bitfield=setbit pfadd pfmerge=pfadd",
    )
    | _changes("l", "lpush rpush lpushx=lpush rpushx=rpush lpop rpop linsert lset lrem ltrim blpop=lpop brpop=rpop")
    | _changes("s", "sadd srem spop sinterstore sunionstore sdiffstore")
    | _changes("h", "hset hmset=hset hsetnx=hset hdel hincrby hincrbyfloat")
    | _changes(
        "z",
        "zadd zincrby=zincr zrem zremrangebyscore zremrangebyrank zremrangebylex zpopmin zpopmax bzpopmin=zpopmin "
        "bzpopmax=zpopmax zunionstore zinterstore zdiffstore zrangestore geoadd=zadd",
    )
    | _changes("g", "copy=copy_to")
    | _changes(
        "t",
        "xdel xtrim xsetid xgroup|create=xgroup-create xgroup|setid=xgroup-setid xgroup|destroy=xgroup-destroy "
        "xgroup|createconsumer=xgroup-createconsumer xgroup|delconsumer=xgroup-delconsumer "
        "xreadgroup=xgroup-createconsumer xclaim=xgroup-createconsumer xautoclaim=xgroup-createconsumer",
    )
)

# Commands that give a key a time; others take it over from where they took the value.
_SET_EXPIRY: Final = frozenset({"set", "setex", "psetex", "getex", "expire", "pexpire", "expireat", "pexpireat"})

_MAKE_ANEW: Final = frozenset({"rename", "renamenx", "copy"})  # law 3

_PUSHED: Final = {b"LEFT": b"lpush", b"RIGHT": b"rpush"}
_POPPED: Final = {b"LEFT": b"lpop", b"RIGHT": b"rpop"}
_MIN_MAX: Final = {b"MIN": b"zpopmin", b"MAX": b"zpopmax"}


def _moved_element(words: Sequence[bytes], changes: int) -> tuple[str, bytes]:
    """LMOVE and its like: the first change is the push, the second the pop."""
    if len(words) > 4:
        wherefrom, whereto = words[3].upper(), words[4].upper()
    else:
        wherefrom, whereto = b"RIGHT", b"LEFT"  # RPOPLPUSH, BRPOPLPUSH
    return "l", _PUSHED[whereto] if changes == 1 else _POPPED[wherefrom]


def _popped_elements(words: Sequence[bytes], changes: int) -> tuple[str, bytes]:
    """LMPOP: the word behind the keys says from which end."""
    return "l", _POPPED[_behind_keys(words)]


def _popped_elements_in_time(words: Sequence[bytes], changes: int) -> tuple[str, bytes]:
    """BLMPOP: a timeout stands before the count of keys."""
    return _popped_elements(words[1:], changes)


def _popped_members(words: Sequence[bytes], changes: int) -> tuple[str, bytes]:
    """ZMPOP."""
    return "z", _MIN_MAX[_behind_keys(words)]


def _popped_members_in_time(words: Sequence[bytes], changes: int) -> tuple[str, bytes]:
    """BZMPOP."""
    return _popped_members(words[1:], changes)


def _behind_keys(words: Sequence[bytes]) -> bytes:
    """Return the word behind the keys of a request that counts them."""
    return words[2 + int(words[1])].upper()


def _moved_member(words: Sequence[bytes], changes: int) -> tuple[str, bytes]:
    """SMOVE: out of the first, into the second."""
    return "s", b"srem" if changes == 1 else b"sadd"


def _added_score(words: Sequence[bytes], changes: int) -> tuple[str, bytes]:
    """ZADD: with INCR it is called as ZINCRBY's."""
    is_increment = any(word.upper() == b"INCR" for word in words[2:-2])
    return "z", b"zincr" if is_increment else b"zadd"


def _added_entry(words: Sequence[bytes], changes: int) -> tuple[str, bytes]:
    """XADD: the entry, and then what is trimmed."""
    return "t", b"xadd" if changes == 1 else b"xtrim"


# Commands whose event depends on their words, and on how many changes there were before (counted from 1).
_RULES: Final[dict[str, Callable[[Sequence[bytes], int], tuple[str, bytes]]]] = {
    "lmove": _moved_element,
    "rpoplpush": _moved_element,
    "blmove": _moved_element,
    "brpoplpush": _moved_element,
    "lmpop": _popped_elements,
    "blmpop": _popped_elements_in_time,
    "zmpop": _popped_members,
    "bzmpop": _popped_members_in_time,
    "smove": _moved_member,
    "zadd": _added_score,
    "xadd": _added_entry,
}
_PLAIN: Final = {
    What.NEW: ("n", b"new"),
    What.DELETED: ("g", b"del"),
    What.EXPIRED: ("x", b"expired"),
    What.EXPIRY: ("g", b"expire"),
    What.PERSISTED: ("g", b"persist"),
    What.MISSED: ("m", b"keymiss"),
}

_NEWS_OF: Final[dict[str, frozenset[What]]] = {  # classes that are not of writes: letter -> their news
    "x": frozenset({What.EXPIRED}),
    "m": frozenset({What.MISSED}),
    "e": frozenset(),  # nothing is evicted here
    "d": frozenset(),  # nor are there modules
}

# Classes of which a replica tells nothing that comes from its primary: who reads misses keys, and keys do not expire there, they are deleted.
_NOT_NOTED: Final = frozenset("mx")
# What a replica of Redis tells, which gets other commands than the clients sent: event -> (class, event).
_AT_REPLICAS: Final = {
    b"expired": ("g", b"del"),
    b"spop": ("s", b"srem"),
    b"incrbyfloat": ("$", b"set"),
    b"hincrbyfloat": ("h", b"hset"),
}


class Events:
    """Who wants which events."""

    def __init__(self) -> None:
        self.classes: frozenset[str] = frozenset()  # empty: nobody here wants any
        self.noted: frozenset[str] = frozenset()  # what replicas want
        self._to_keyspace = self._to_keyevent = False

    def choose(self, letters: str) -> None:
        """Take the setting notify-keyspace-events, in its canonical form."""
        self._to_keyspace, self._to_keyevent = "K" in letters, "E" in letters
        self.classes = _classes(letters)

    def note(self, settings: Iterable[str]) -> None:
        """Take the settings of replicas, whose events are to be noted."""
        self.noted = frozenset().union(*map(_classes, settings)) - _NOT_NOTED

    def kinds(self) -> frozenset[What]:
        """Return the news that events are made of. Those of writes come together or not at all: some events hang on several."""
        wanted = self.wanted
        if wanted <= _NEWS_OF.keys():
            return frozenset().union(*(_NEWS_OF[letter] for letter in wanted))
        return frozenset(What)

    @property
    def wanted(self) -> frozenset[str]:
        """Return the classes of which somebody wants the events."""
        return self.classes | self.noted

    def of(self, name: str, words: Sequence[bytes], news: Iterable[News]) -> list[Event]:
        """Return the events that the news of one command are, if somebody wants any."""
        return list(_events(name, words, list(news))) if self.classes or self.noted else []

    def notes_of(self, name: str, words: Sequence[bytes], events: Sequence[Event]) -> Iterator[Note]:
        """Yield what a replica is to tell of the events of a command, if one wants it."""
        if name == "spop" and len(words) > 2 and events and events[-1].name == b"del":  # a replica of Redis gets DEL
            events = events[-1:]
        for letter, event, database, key in events:
            told = _AT_REPLICAS.get(event, (letter, event))
            if told[0] in self.noted:
                yield *told, database.number, key

    def messages(self, letter: str, name: bytes, number: int, key: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield (channel, message) for an event in the database `number`, if somebody here wants it."""
        if letter in self.classes:
            if self._to_keyspace:
                yield b"__keyspace@%d__:%b" % (number, key), name
            if self._to_keyevent:
                yield b"__keyevent@%d__:%b" % (number, name), key


def _classes(letters: str) -> frozenset[str]:
    """Return the classes that a setting names, none if it says to no channel."""
    classes = set(letters) - set("AKE")
    if "A" in letters:
        classes |= _ALL_CLASSES
    return frozenset(classes if "K" in letters or "E" in letters else ())


def _events(name: str, words: Sequence[bytes], news: list[News]) -> Iterator[Event]:
    """Yield what Redis would tell of a command, of no command (expiry) if `name` is empty."""
    overwritten = _overwritten(news)
    stays_new = name in _MAKE_ANEW
    changes, last = 0, None
    for one in news:
        what, database, key, source = one
        if what in {What.CHANGED, What.REPLACED}:
            changes += 1
            rule = _RULES.get(name)
            found = rule(words, changes) if rule is not None else _CHANGES.get(name)
            event = None if found is None else Event(*found, database, key)
            if event is None or (event == last and event.letter != "$"):  # MSET of one key twice is two
                continue
        elif what == What.MOVED:
            assert source is not None
            kind = b"move" if name == "move" else b"rename"
            yield Event("g", kind + b"_from", *source)
            event = Event("g", kind + b"_to", database, key)
        elif what == What.EXPIRY and (
            name not in _SET_EXPIRY or (name == "set" and b"KEEPTTL" in map(bytes.upper, words))
        ):
            continue  # the time came along with the value
        elif what == What.ALL or (
            (what == What.DELETED or (what == What.NEW and not stays_new)) and (database, key) in overwritten
        ):
            continue
        else:
            event = Event(*_PLAIN[what], database, key)
        yield event
        last = event


def _overwritten(news: list[News]) -> set[tuple[Database, bytes]]:
    """Return the keys that were deleted and then made anew (law 3), but for those that were moved there."""
    if len(news) < 2:
        return set()
    deleted, found = set(), set()
    for what, database, key, _ in news:
        if what == What.DELETED:
            deleted.add((database, key))
        elif what == What.NEW and (database, key) in deleted:
            found.add((database, key))
    return found
