r"""One script, two servers: every reply must be the same, byte for byte, unless a table here says how it may differ.

    pair.run('''
        SET k v EX 100          # a line is a command, in redis-cli's quoting: "\x00\xff\r\n"
        GET k
        SET <600> <100000z>     # <n> = n times "x"; <nabc> = the same with "abc" as its end
    ''')
    pair.run([("SET", b"\x00", 1.5), ("GET", b"\x00")])   # or words, where a program makes the script

Laws:
- How replies may differ is said in `comparison`, but for what needs more talk than one reply: `STEERED` (chance, cursors).
- After every script both servers hold the same keys: type, value, and expiry within a tolerance.
- Where a choice is random, both must choose among what is there; then ours is made to have what the oracle has,
  so that a script may go on after an SPOP.
- A mismatch shows the command, both replies and the script so far; the script's later mismatches follow in brief.
- Both servers get each portion of a script before either is read, so that clocks differ by little.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from tests.client import (
    PORTION_BYTES_MAX,
    PORTION_COMMANDS_MAX,
    Disconnected,
    NotResp,
    RawClient,
    Reply,
    Word,
    pack,
    word_bytes,
)
from tests.comparison import Words, equal, pairs_of, shape, unordered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from tests.servers import Server

    Script = str | Sequence[str | Sequence[Word]]

SHOWN_BYTES_MAX = 300
SHOWN_COMMANDS_MAX = 40
LATER_MISMATCHES_MAX = 12
SCAN_ROUNDS_MAX = 100_000


class Mismatch(AssertionError):
    """The two servers disagree."""


# Scripts.

_TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|.)", re.DOTALL)
_REPEAT = re.compile(rb"<(\d+)([^<>\s]*)>")
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b"}


def _unescape(found: re.Match[bytes]) -> bytes:
    code = found[1]
    return bytes([int(code[1:], 16)]) if len(code) == 3 else _ESCAPED.get(code, code)


def _repeat(found: re.Match[bytes]) -> bytes:
    return b"x" * (int(found[1]) - len(found[2])) + found[2]


def line_words(line: str) -> Words:
    r"""Return the words of a script's line.

    >>> line_words('SET "a\\x00 b" <5z>')
    (b'SET', b'a\x00 b', b'xxxxz')
    """
    words = []
    for found in _TOKEN.finditer(line):
        quoted, bare = found.groups()
        if bare is None:
            words.append(_ESCAPE.sub(_unescape, quoted.encode("latin-1")))
        elif bare.startswith("#"):
            break
        else:
            words.append(_REPEAT.sub(_repeat, bare.encode("latin-1")))
    return tuple(words)


def commands_of(script: Script) -> Iterator[Words]:
    """Return the commands of a script: a text of lines, or a list of lines and of word tuples."""
    for line in script.splitlines() if isinstance(script, str) else script:
        words = line_words(line) if isinstance(line, str) else tuple(map(word_bytes, line))
        if words:
            yield words


# One value of every type, and nothing: the states from which every command is tried, as lines that make `k`.
NOTHING = "EXISTS k"
STATES: dict[str, str] = {
    "nothing": NOTHING,
    "string": "SET k v",
    "hash": "HSET k f v g w",
    "list": "RPUSH k a b c",
    "set": "SADD k a b c",
    "zset": "ZADD k 1 a 2 b 3 c",
    "stream": "XADD k 1-1 f v g w",
}


def lines_of(text: str | Iterable[str]) -> list[str]:
    """Return the non-empty lines of a text, or the phrases of an iterable as they are."""
    if isinstance(text, str):
        return [line.strip() for line in text.splitlines() if line.strip()]
    return list(text)


def spaced(text: str) -> tuple[str, ...]:
    """Return the phrases of a text that are separated by spaces or lines."""
    return tuple(text.split())


# Words that are or nearly are numbers, as a script's line quotes them.
INTEGERS = spaced(r"""
    0 1 -1 2 -2 3 10 -10 100 007 +1 -0 1.0 1e3 0x10 abc - + 1a --1
    2147483647 2147483648 -2147483649 4294967296 9223372036854775807 9223372036854775808
    -9223372036854775808 -9223372036854775809 18446744073709551616 <40111> "" "\x201" "1\x20" "1\x00" "\x00"
""")
FLOATS = spaced(r"""
    0 -0 1 -1 1.5 -1.5 +2.5 .5 5. 0.1 3.0e3 1e5 1E5 1e-5 1e17 1e21 1.7976931348623157e308 1e309 -1e309 5e-324
    inf -inf +inf INF infinity -Infinity nan NaN -nan 0x10 0x1p3 1e abc 1,5 1.5.5 - . e 1e400
    123456789012345678 9007199254740993 0.30000000000000004 -0.0 "" "\x201" "1\x20" "1\x00" "1.5\n"
""")
ODD_WORDS = spaced(r"""
    "" "a\x20b" "\x00" "\x00\xff\r\n" "\xff" <127> <255> <256> <500> <510> <511> <512> <600a> <600b> <600c>
    <100000a> <100000b>
""")


def table(*axes: str | Iterable[str]) -> list[str]:
    """Return every combination of the axes' phrases as one line each: the way to be exhaustive over options.

    >>> table("SET k v", ["", "NX"], ["", "GET"])
    ['SET k v  ', 'SET k v  GET', 'SET k v NX ', 'SET k v NX GET']
    """
    lines = [""]
    for axis in axes:
        phrases = lines_of(axis)
        lines = [f"{line} {phrase}" if line else phrase for line in lines for phrase in phrases]
    return lines


def from_each(
    states: str | Iterable[str], commands: str | Iterable[str], then: str = "", *, key: str = "k"
) -> list[str]:
    """Return a script that runs each command from each state of `key`, reading back with the lines of `then`."""
    lines = []
    for state in lines_of(states):
        for command in lines_of(commands):
            lines += [f"DEL {key}", *state.splitlines(), command, *then.splitlines()]
    return lines


# Chance and cursors: more than one reply each.


class Turn(NamedTuple):
    """One command that needs steering: what is asked, of whom."""

    words: Words
    ours: RawClient
    oracle: RawClient

    def both(self, *words: Word) -> tuple[Reply, Reply]:
        return self.ours.call(*words), self.oracle.call(*words)


def scan(turn: Turn) -> list[tuple[Reply, Reply]]:
    """Follow a scan that starts at cursor 0 to its end on both sides: the same set of elements.

    An element may come twice, a round may bring nothing, rounds may be many or one: all that Redis's guarantee allows.
    """
    at = 1 if turn.words[0].upper() == b"SCAN" else 2
    if len(turn.words) <= at or turn.words[at] != b"0":
        return [turn.both(*turn.words)]
    mine, theirs = (_scan_all(client, turn.words, at) for client in (turn.ours, turn.oracle))
    if mine != theirs and theirs.is_error and theirs.value.startswith(b"ERR unknown type name"):
        theirs = Reply("scanned", frozenset())  # Redis 7.2 finds no key of an unknown type; valkey 9 refuses the word
    return [(mine, theirs)]


def _scan_all(client: RawClient, words: Words, at: int) -> Reply:
    elements: set[object] = set()
    paired = words[0].upper() in {b"HSCAN", b"ZSCAN"}
    cursor: object = b"0"
    for _ in range(SCAN_ROUNDS_MAX):
        reply = client.call(*words[:at], cursor, *words[at + 1 :])
        if reply.is_error:
            return reply
        if reply.kind != "*" or [item.kind for item in reply.items()] != ["$", "*"]:
            raise Mismatch(f"{show_words(words)}: no scan reply: {show(reply)}")
        cursor, page = reply.items()[0].value, reply.items()[1].items()
        elements.update(zip(page[::2], page[1::2], strict=True) if paired else page)
        if cursor == b"0":
            return Reply("scanned", frozenset(elements))
    raise Mismatch(f"{show_words(words)}: the scan does not end")


def random_members(turn: Turn) -> list[tuple[Reply, Reply]]:
    """SRANDMEMBER, HRANDFIELD, ZRANDMEMBER, RANDOMKEY: same shape, only what is there, distinct where promised."""
    name = turn.words[0].upper()
    ours, oracle = turn.both(*turn.words)
    if ours == oracle:
        return [(ours, oracle)]
    if not shape(turn.words, ours, oracle) or ours.is_error:
        return [(ours, oracle)]
    listing = {
        b"SRANDMEMBER": ("SMEMBERS", *turn.words[1:2]),
        b"HRANDFIELD": ("HGETALL", *turn.words[1:2]),
        b"ZRANDMEMBER": ("ZRANGE", *turn.words[1:2], 0, -1, "WITHSCORES"),
        b"RANDOMKEY": ("KEYS", "*"),
    }[name]
    there = turn.oracle.call(*listing)
    paired = len(turn.words) == 4  # WITHVALUES or WITHSCORES
    if name in {b"SRANDMEMBER", b"RANDOMKEY"}:
        known = set(there.items())
    else:
        known = {pair if paired else pair[0] for pair in pairs_of(there)}
    for reply in (ours, oracle):
        chosen = list(pairs_of(reply).elements()) if paired else list(reply.items() or [reply])
        if not set(chosen) <= known:
            raise Mismatch(f"{show_words(turn.words)}: chose what is not there: {show(reply)}")
        if len(turn.words) > 2 and not turn.words[2].startswith(b"-") and len(set(chosen)) != len(chosen):
            raise Mismatch(f"{show_words(turn.words)}: a positive count repeats itself: {show(reply)}")
    return []


def spop(turn: Turn) -> list[tuple[Reply, Reply]]:
    """SPOP: same shape, popped what was there; then the oracle's choice becomes ours."""
    before = {item.value for item in turn.ours.call("SMEMBERS", *turn.words[1:2]).items()}
    ours, oracle = turn.both(*turn.words)
    if ours == oracle or ours.is_error or not shape(turn.words, ours, oracle):
        return [(ours, oracle)]
    mine = [item.value for item in ours.items() or (ours,)]
    theirs = [item.value for item in oracle.items() or (oracle,)]
    if not set(mine) <= before or len(set(mine)) != len(mine):
        raise Mismatch(f"{show_words(turn.words)}: popped what is not there, or twice: {show(ours)}")
    back, out = set(mine) - set(theirs), set(theirs) - set(mine)
    if back:
        fixed = [turn.ours.call("SADD", turn.words[1], *back), turn.ours.call("SREM", turn.words[1], *out)]
        if [reply.value for reply in fixed] != [len(back), len(out)]:
            raise Mismatch(f"{show_words(turn.words)}: after it, SADD and SREM of the difference said {fixed}")
    return []


STEERED: dict[bytes, Callable[[Turn], list[tuple[Reply, Reply]]]] = {
    **dict.fromkeys((b"SCAN", b"SSCAN", b"HSCAN", b"ZSCAN"), scan),
    **dict.fromkeys((b"SRANDMEMBER", b"HRANDFIELD", b"ZRANDMEMBER", b"RANDOMKEY"), random_members),
    b"SPOP": spop,
}


# Running a script against both.


def show(reply: Reply) -> str:
    """Return a reply for a person: kinds before values, shortened.

    >>> show(Reply("*", (Reply("$", b"a"), Reply(":", 1))))
    "*[$'a' :1]"
    """
    return _shorten(_show(reply))


def _show(reply: Reply) -> str:
    if reply.kind == "scanned":
        return f"scanned {sorted(reply.value)}"
    if reply.kind == "%":
        return "%{" + " ".join(f"{_show(key)}={_show(value)}" for key, value in reply.value) + "}"
    if isinstance(reply.value, tuple):
        return f"{reply.kind}[{' '.join(map(_show, reply.value))}]"
    if isinstance(reply.value, bytes):
        return f"{reply.kind}{reply.value.decode('latin-1')!a}"
    return f"{reply.kind}{reply.value}"


def _shorten(text: str) -> str:
    if len(text) <= SHOWN_BYTES_MAX:
        return text
    return f"{text[: SHOWN_BYTES_MAX * 2 // 3]} ...({len(text)} characters)... {text[-SHOWN_BYTES_MAX // 3 :]}"


def show_words(words: Sequence[Word]) -> str:
    """Return a command for a person, in the quoting that a script reads."""
    return " ".join(_shorten(ascii(word_bytes(word).decode("latin-1"))) for word in words)


@dataclass
class Pair:
    """Two servers and the protocol to speak with them. `run` is the whole of it."""

    ours: Server
    oracle: Server
    protocol: int = 2

    def run(self, script: Script, *, databases: Sequence[int] = (0,)) -> None:
        """Run a script against both, on shared connections; then both must hold the same keys in `databases`."""
        compare(self, script, databases=databases)

    def clients(self) -> tuple[RawClient, RawClient]:
        """Return the shared connections: ours, the oracle's."""
        return self.ours.client(self.protocol), self.oracle.client(self.protocol)

    def fresh(self) -> tuple[RawClient, RawClient]:
        """Return new connections for a test that changes their state; `with` or the test closes them."""
        return self.ours.connect(self.protocol), self.oracle.connect(self.protocol)

    def flush(self) -> None:
        """Empty both servers and bring the shared connections back to database 0."""
        for client in self.clients():
            for reply in client.pipeline([("SELECT", 0), ("FLUSHALL",)]):
                if reply.value != b"OK":
                    raise Mismatch(f"cannot empty the server: {show(reply)}")

    def check(self, history: Sequence[object] = ()) -> None:
        """Raise Mismatch, with what came before, if our own check finds something wrong; the oracle has no such check."""
        if self.ours.name == "lmdbredis":
            reply = self.clients()[0].call("DEBUG", "CHECK")
            if reply.value != b"OK":
                raise Mismatch(f"DEBUG CHECK: {reply.value!r} after {history}")


def compare(
    pair: Pair,
    script: Script,
    *,
    databases: Sequence[int] = (0,),
    clients: tuple[RawClient, RawClient] | None = None,
    history: list[Words] | None = None,
) -> None:
    """Run a script against both servers and raise Mismatch where they disagree, in replies or in what they then hold.

    `databases`: whose keys are compared at the end, () for none. `clients`: connections, the shared ones by default.
    `history`: commands that came before, shown in a mismatch; the script's commands are added to it.
    """
    __tracebackhide__ = True
    ours, oracle = clients or pair.clients()
    run = _Run(ours, oracle, [] if history is None else history)
    try:
        run.script(script)
    except Mismatch:
        raise
    except BaseException:  # replies may be left in the connections: nobody may go on with them
        ours.close()
        oracle.close()
        raise
    run.finish()
    if databases:
        same_keys(ours, oracle, databases, run.history)


class _Run:
    """A script on its way: what has been said, and where it differed."""

    def __init__(self, ours: RawClient, oracle: RawClient, history: list[Words]) -> None:
        self.ours = ours
        self.oracle = oracle
        self.history = history  # every command so far
        self.first: str | None = None  # the first mismatch, in full
        self.later: list[str] = []  # the ones after it, in brief

    def script(self, script: Script) -> None:
        """Run commands: the plain ones gathered into portions, the steered ones each by itself."""
        portion: list[Words] = []
        size_bytes = 0
        for words in commands_of(script):
            steered = words[0].upper() in STEERED
            if steered or len(portion) >= PORTION_COMMANDS_MAX or size_bytes > PORTION_BYTES_MAX:
                self.portion(portion)
                portion, size_bytes = [], 0
            if steered:
                self.steered(words)
            else:
                portion.append(words)
                size_bytes += sum(map(len, words))
        self.portion(portion)

    def portion(self, commands: list[Words]) -> None:
        """Run commands as one pipeline on both sides."""
        if not commands:
            return
        packed = b"".join(map(pack, commands))
        self.oracle.send(packed)
        self.ours.send(packed)
        for words in commands:
            theirs = self.oracle.read()
            try:
                mine = self.ours.read()
            except (Disconnected, NotResp) as error:
                for client in (self.ours, self.oracle):  # replies are left in them: nobody may go on here
                    client.close()
                raise Mismatch(self.explain(words, f"no reply: {error}", show(theirs[0]))) from error
            if not equal(words, mine, theirs):
                self.differs(words, show(mine[0]), show(theirs[0]))
            self.history.append(words)

    def steered(self, words: Words) -> None:
        """Run one command whose replies are not comparable as they are."""
        try:
            answers = STEERED[words[0].upper()](Turn(words, self.ours, self.oracle))
        except Mismatch as error:
            raise Mismatch(f"{error}\n{self.so_far()}") from None
        for mine, theirs in answers:
            if mine != theirs:
                self.differs(words, show(mine), show(theirs))
        self.history.append(words)

    def quietly(self, commands: list[Words]) -> None:
        """Run reading commands in portions, beside the history: the script did not say them."""
        history, self.history = self.history, list(self.history)
        for start in range(0, len(commands), PORTION_COMMANDS_MAX):
            self.portion(commands[start : start + PORTION_COMMANDS_MAX])
        self.history = history

    def differs(self, words: Words, mine: str, theirs: str) -> None:
        if self.first is None:
            self.first = self.explain(words, mine, theirs)
        else:
            self.later.append(f"  {show_words(words)}\n     ours:   {mine}\n     oracle: {theirs}")

    def explain(self, words: Words, mine: str, theirs: str) -> str:
        return f"\ncommand: {show_words(words)}\nours:    {mine}\noracle:  {theirs}\n{self.so_far()}"

    def so_far(self) -> str:
        shown = [f"  {show_words(words)}" for words in self.history[-SHOWN_COMMANDS_MAX:]]
        return "\n".join([f"after {len(self.history)} commands, the last of them:", *shown])

    def finish(self) -> None:
        """Raise what was gathered."""
        __tracebackhide__ = True
        if self.first is None:
            return
        brief = self.later[:LATER_MISMATCHES_MAX]
        tail = [f"later mismatches of this script, {len(brief)} of {len(self.later)}:", *brief] if brief else []
        raise Mismatch("\n".join([self.first, *tail]))


# What a server holds.

READ: dict[bytes, tuple[str, ...]] = {
    b"string": ("GET", "{key}"),
    b"hash": ("HGETALL", "{key}"),
    b"list": ("LRANGE", "{key}", "0", "-1"),
    b"set": ("SMEMBERS", "{key}"),
    b"zset": ("ZRANGE", "{key}", "0", "-1", "WITHSCORES"),
    b"stream": ("XINFO", "STREAM", "{key}", "FULL", "COUNT", "0"),
}


def same_keys(
    ours: RawClient, oracle: RawClient, databases: Sequence[int] = (0,), history: Sequence[Words] = ()
) -> None:
    """Raise Mismatch unless both servers hold the same keys: names, types, values, expiry. Ends in database 0."""
    run = _Run(ours, oracle, list(history))
    for database in databases:
        select = [("SELECT", database)] if len(databases) > 1 or database else []
        mine, theirs = (client.pipeline([*select, ("KEYS", "*")])[-1] for client in (ours, oracle))
        if not unordered((), mine, theirs):
            only = set(mine.items()) ^ set(theirs.items())
            raise Mismatch(run.explain((b"KEYS", b"*"), show(mine), show(theirs)) + f"\ndatabase {database}: {only}")
        keys = [item.value for item in theirs.items()]
        kinds = oracle.pipeline([("TYPE", key) for key in keys])
        reads = [
            tuple(key if word == "{key}" else word.encode() for word in READ.get(kind.value, ("TYPE", "{key}")))
            for key, kind in zip(keys, kinds, strict=True)
        ]
        run.quietly([(b"TYPE", key) for key in keys])
        run.quietly(reads)
        run.quietly([(b"PEXPIRETIME", key) for key in keys])
    if len(databases) > 1 or databases[0]:
        for client in (ours, oracle):
            client.call("SELECT", 0)
    run.finish()
