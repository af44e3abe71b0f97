"""Units: several commands that must be there together after a crash, or not at all; and streams with their groups.

A unit is written as a command whose words are commands: `(b"EXEC", (b"SET", ...), (b"ZADD", ...))` is a transaction, and with
`EVAL` in its place a script that runs the same commands. `requests` says how a unit goes over the wire; a plain command is a
unit of its own. What a unit does is what its commands do one after the other, each whatever the others answered.

A stream's entries have ids that the workload counts up, so that what every command does to it is known without its reply:
entries, the last id, and for each group how far it has read and who has which entry pending, delivered how often.

Also: what a state is, and how it is asked for. Knows no server, no disk and no file: `crash` mixes these into its model and its
workload.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from lmdbredis import format as fmt

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable, Sequence

    from lmdbredis.snapshots import Reader
    from tests.client import RawClient, Reply

UNITS = (b"EXEC", b"EVAL")
# Refusals that a model foresees: the command changed nothing, and was not meant to.
FORESEEN = (b"ERR no such key", b"BUSYGROUP", b"NOGROUP", b"ERR The XGROUP subcommand requires the key to exist")
# Runs the commands in ARGV, each preceded by its number of words. Only a refusal that is not foreseen ends it.
SCRIPT = b"""
local foreseen = {%b}
local function refused(reply)
  if type(reply) ~= 'table' or not reply.err then return false end
  for _, text in ipairs(foreseen) do
    if string.find(reply.err, text, 1, true) == 1 then return false end
  end
  return true
end
local at = 1
while at <= #ARGV do
  local count = tonumber(ARGV[at])
  local reply = redis.pcall(unpack(ARGV, at + 1, at + count))
  if refused(reply) then return reply end
  at = at + count + 1
end
return 'OK'
""" % b", ".join(b"'%b'" % text for text in FORESEEN)
GROUPS = (b"group0", b"group1")
CONSUMERS = (b"ann", b"bob")

Words = tuple[Any, ...]  # a command's words, or a unit's name and its commands
# key -> (type, expire_at_ms or 0, value): bytes, dict, list, set, or a stream as `StreamModel` draws it.
State = dict[bytes, tuple[str, int, Any]]


def abilities(call: Callable[..., Reply]) -> frozenset[str]:
    """Return which of EXEC, EVAL and XADD a server has, asked by COMMAND INFO."""
    names = ("EXEC", "EVAL", "XADD")
    answers = call("COMMAND", "INFO", *names).items()

    return frozenset(name for name, answer in zip(names, answers, strict=True) if answer.value is not None)


def requests(unit: Words) -> list[Words]:
    """Return the commands that a unit is sent as."""
    if unit[0] not in UNITS or len(unit) < 2 or not isinstance(unit[1], tuple):
        return [unit]
    if unit[0] == b"EXEC":
        return [(b"MULTI",), *unit[1:], (b"EXEC",)]
    return [(b"EVAL", SCRIPT, b"0", *(word for words in unit[1:] for word in (b"%d" % len(words), *words)))]


def verdict(replies: Sequence[Reply]) -> Reply:
    """Return the reply that says whether a unit was refused: the first refusal, or what came last."""
    return next((reply for reply in replies if reply.is_error), replies[-1])


# --- streams ----------------------------------------------------------------------------------------------------------------


class StreamModel:
    """What commands on streams do: `{"last": id, "entries": {id: fields}, "groups": {name: {"last": id, "pending": ...}}}`.

    An id is (ms, sequence number); pending is id -> (consumer, deliveries).
    """

    state: dict[bytes, tuple[str, int, Any]]

    def _stream(self, key: bytes) -> dict[str, Any] | None:
        return self.state[key][2] if key in self.state else None

    def _new_stream(self, key: bytes) -> dict[str, Any]:
        return self.state.setdefault(key, ("stream", 0, {"last": (0, 0), "entries": {}, "groups": {}}))[2]

    def _group(self, key: bytes, name: bytes) -> dict[str, Any] | None:
        return (self._stream(key) or {"groups": {}})["groups"].get(name)

    def _xadd(self, key: bytes, *words: bytes) -> None:
        stream = self._new_stream(key)
        most = None
        if words[0] == b"MAXLEN":
            most, words = int(words[1]), words[2:]
        stream["last"] = unpack_id(words[0])
        stream["entries"][stream["last"]] = list(words[1:])
        if most is not None:
            self._trim(stream, most)

    def _xtrim(self, key: bytes, _maxlen: bytes, most: bytes) -> None:
        if stream := self._stream(key):
            self._trim(stream, int(most))

    @staticmethod
    def _trim(stream: dict[str, Any], most: int) -> None:
        for entry in sorted(stream["entries"])[: max(len(stream["entries"]) - most, 0)]:
            del stream["entries"][entry]

    def _xdel(self, key: bytes, *entries: bytes) -> None:
        if stream := self._stream(key):
            for entry in entries:
                stream["entries"].pop(unpack_id(entry), None)

    def _xgroup(self, what: bytes, key: bytes, name: bytes, *_: bytes) -> None:
        if what == b"CREATE":
            self._new_stream(key)["groups"].setdefault(name, {"last": (0, 0), "pending": {}})
        elif stream := self._stream(key):
            stream["groups"].pop(name, None)

    def _xreadgroup(
        self, _group: bytes, name: bytes, consumer: bytes, _count: bytes, count: bytes, *words: bytes
    ) -> None:
        key = words[1]
        if (group := self._group(key, name)) is None:
            return
        stream = self._new_stream(key)
        for entry in [one for one in sorted(stream["entries"]) if one > group["last"]][: int(count)]:
            group["pending"][entry] = (consumer, 1)
            group["last"] = entry

    def _xack(self, key: bytes, name: bytes, *entries: bytes) -> None:
        if (group := self._group(key, name)) is not None:
            for entry in entries:
                group["pending"].pop(unpack_id(entry), None)

    def _xclaim(self, key: bytes, name: bytes, consumer: bytes, _idle: bytes, *entries: bytes) -> None:
        if (group := self._group(key, name)) is None:
            return
        for entry in map(unpack_id, entries):
            if entry not in group["pending"]:
                continue
            if entry in self._new_stream(key)["entries"]:
                group["pending"][entry] = (consumer, group["pending"][entry][1] + 1)
            else:  # what was deleted meanwhile cannot be claimed, and is pending no more
                del group["pending"][entry]


def copy_stream(value: dict[str, Any]) -> dict[str, Any]:
    """Return a stream, to be kept."""
    return copy.deepcopy(value)


def unpack_id(entry: bytes) -> tuple[int, int]:
    """Return an id as numbers.

    >>> unpack_id(b"7-1")
    (7, 1)
    """
    milliseconds, sequence = entry.split(b"-")
    return int(milliseconds), int(sequence)


class StreamWorkload:
    """Random commands on streams. Ids count up over all of them, so that each is new to the stream it goes to."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.number = 0

    def _old(self) -> bytes:
        """Return the id of one of the last entries added, wherever."""
        return pack_id(max(1, self.number - self.chance.randrange(40)))

    def command(self, key: bytes, value: bytes) -> tuple[bytes, ...]:
        """Return a command on the stream `key`."""
        chance = self.chance
        name = chance.choice(_STREAM_COMMANDS)
        group, consumer = chance.choice(GROUPS), chance.choice(CONSUMERS)
        some = [self._old() for _ in range(chance.choice((1, 1, 5, 20)))]
        if name == "XADD":
            self.number += 1
            most = (b"MAXLEN", b"%d" % chance.choice((5, 50))) if chance.random() < 0.1 else ()
            return (b"XADD", key, *most, pack_id(self.number), b"field", value, b"%d" % self.number, b"")
        if name == "XGROUP":
            if chance.random() < 0.1:
                return (b"XGROUP", b"DESTROY", key, group)
            return (b"XGROUP", b"CREATE", key, group, b"0", b"MKSTREAM")
        if name == "XREADGROUP":
            count = b"%d" % chance.choice((1, 1, 3, 50))
            return (b"XREADGROUP", b"GROUP", group, consumer, b"COUNT", count, b"STREAMS", key, b">")
        if name == "XACK":
            return (b"XACK", key, group, *some)
        if name == "XCLAIM":
            return (b"XCLAIM", key, group, consumer, b"0", *some)
        if name == "XDEL":
            return (b"XDEL", key, *some)
        return (b"XTRIM", key, b"MAXLEN", b"%d" % chance.choice((0, 5, 30)))


_STREAM_COMMANDS = (
    "XADD", "XADD", "XADD", "XADD", "XGROUP", "XREADGROUP", "XREADGROUP", "XACK", "XACK", "XCLAIM", "XDEL", "XTRIM",
)  # fmt: skip


def pack_id(number: int) -> bytes:
    """Return an id that is greater than that of any smaller number: two share a millisecond, so that the second half counts.

    >>> [pack_id(number) for number in (1, 2, 3)]
    [b'1-1', b'2-0', b'2-1']
    """
    return b"%d-%d" % (number // 2 + 1, number % 2)


def fetch_stream(call: Callable[..., Reply], key: bytes) -> dict[str, Any]:
    """Return a stream as a server answers, in the model's words."""
    facts: Any = call("XINFO", "STREAM", key).plain()
    last = dict(zip(facts[::2], facts[1::2], strict=True))[b"last-generated-id"]
    entries: Any = call("XRANGE", key, "-", "+").plain()
    groups = {}
    for words in call("XINFO", "GROUPS", key).plain():  # type: ignore[attr-defined]
        group = dict(zip(words[::2], words[1::2], strict=True))
        pending: Any = call("XPENDING", key, group[b"name"], "-", "+", 1_000_000).plain()
        groups[group[b"name"]] = {
            "last": unpack_id(group[b"last-delivered-id"]),
            "pending": {unpack_id(entry): (consumer, count) for entry, consumer, _idle, count in pending},
        }
        assert group[b"pending"] == len(pending), "the count of the pending is that of their list"
    return {
        "last": unpack_id(last),
        "entries": {unpack_id(entry): fields for entry, fields in entries},
        "groups": groups,
    }


def fetch(client: RawClient, prefix: bytes) -> State:
    """Return all keys that begin with `prefix`, as a server answers."""
    keys: list[bytes] = [reply.value for reply in client.call("KEYS", prefix + b"*").items()]  # type: ignore[misc]
    readers = {
        "string": ("GET", ()), "hash": ("HGETALL", ()), "set": ("SMEMBERS", ()), "list": ("LRANGE", (0, -1)),
        "zset": ("ZRANGE", (0, -1, "WITHSCORES")), "stream": ("TYPE", ()),
    }  # fmt: skip
    state: State = {}
    for key in keys:
        kind = bytes(client.call("TYPE", key).value).decode()  # type: ignore[arg-type]
        name, words = readers[kind]
        value: Any = fetch_stream(client.call, key) if kind == "stream" else client.call(name, key, *words).plain()
        expire: Any = client.call("PEXPIRETIME", key).value
        if kind in {"hash", "zset"}:
            value = dict(zip(value[::2], value[1::2], strict=True))
        if kind == "zset":
            value = {member: float(score) for member, score in value.items()}
        state[key] = (kind, max(expire, 0), set(value) if kind == "set" else value)
    return state


# --- streams from rows ------------------------------------------------------------------------------------------------------------


def rows_with(reader: Reader, table: int, prefix: bytes) -> Iterable[tuple[bytes, bytes]]:
    """Yield the rows that begin with `prefix`."""
    for key, row in reader.rows(table, prefix):
        if not key.startswith(prefix):
            return
        yield key, row


def stream_of_rows(reader: Reader, owner: bytes, last: int) -> dict[str, Any]:
    """Return a stream as `StreamModel` draws it, from its rows and the last id in its head."""
    entries = {
        _pair(fmt.unpack_entry_id(key)): fmt.unpack_entry(row) for key, row in rows_with(reader, fmt.STREAMS, owner)
    }
    groups = {}
    for key, row in rows_with(reader, fmt.GROUPS, owner):
        ident, delivered, _, _, _, whole = fmt.unpack_group(row)
        group = fmt.pack_u64(ident)
        names = {
            fmt.unpack_consumer(consumer)[0]: fmt.unpack_consumer(consumer)[4] or name[8:]
            for name, consumer in rows_with(reader, fmt.CONSUMERS, group)
        }
        pending = {}
        for pending_key, pending_row in rows_with(reader, fmt.PENDING, group):
            consumer_id, _, deliveries = fmt.unpack_pending(pending_row)
            pending[_pair(fmt.unpack_entry_id(pending_key))] = (names[consumer_id], deliveries)
        groups[whole or key[8:]] = {"last": _pair(delivered), "pending": pending}
    return {"last": _pair(last), "entries": entries, "groups": groups}


def _pair(entry_id: int) -> tuple[int, int]:
    """Return an id as (ms, sequence number)."""
    return entry_id >> 64, entry_id & ((1 << 64) - 1)
