"""Random command sequences, with crashes in between, against the oracle: replies and keys must stay the same.

Laws:
- What is drawn is a table of syntax lines (`LINES`) whose slots are filled from few hot keys and few odd words, so that
  commands meet on the same keys, with the right type and with the wrong one.
- Nothing may depend on how long a step takes: expiries are far in the future, long past, or waited for.
- Nothing may depend on what the oracle leaves open: lex ranges only over equal scores (a key of their own), sums only of
  scores that add exactly, aggregates of two operands (the oracle adds them by size, not in the order given).
- Nor on what it remembers of a collection's past: -0 is a score of its own in a sorted set that was large once, and 0 in others.
- kill -9 and DEBUG RELOAD happen to our server alone, and nobody may notice.

`make fuzz` runs thousands of these; the default profile some tens.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from tests.differential import Mismatch, compare, lines_of, same_keys

if TYPE_CHECKING:
    from tests.client import Word
    from tests.comparison import Words
    from tests.differential import Pair

DATABASES = range(4)
KILLS_MAX = 1  # in one example: each costs a start of the interpreter
WAIT_SECONDS_MAX = 10
FAR_MS = 4102444800000  # the year 2100

KEYS = [b"a", b"b", b"c", b"d", b"\x00\xff\r\n", b"k" * 600 + b"1", b"k" * 600 + b"2"]
MEMBERS = [
    b"m1",
    b"m2",
    b"m3",
    b"m4",
    b"1",
    b"2",
    b"-3",
    b"",
    b"\x00\xff\r\n",
    b"m" * 520 + b"a",
    b"m" * 520 + b"b",
    b"y" * 5000,
]
IDS = ["1-0", "1-1", "1-2", "2-0", "2-1", "3-0", "3-1", "4-0", "5-0", "9-9"]
SCORES = ["0", "1", "2", "3", "-1", "2.5", "1e3", "inf", "-inf"]
ODD_NUMBERS = ["abc", "", "1.5", "nan", "9223372036854775807", "-9223372036854775808", "9223372036854775808", " 1"]

small = st.integers(-6, 12).map(str)
keys = st.sampled_from(KEYS)
members = st.sampled_from(MEMBERS)
values = st.one_of(members, small, st.sampled_from(["10", "1.25", "hello world", "-7"]))
integers = st.one_of(small, small, small, st.sampled_from(ODD_NUMBERS))
scores = st.sampled_from([*SCORES, *SCORES, "abc", "nan", ""])
bounds = st.sampled_from([*SCORES, "(1", "(2", "(-inf", "+inf", "(abc", "x"])
lexes = st.one_of(st.sampled_from([b"-", b"+"]), st.builds(bytes.__add__, st.sampled_from([b"[", b"("]), members))


def words(*strategies: st.SearchStrategy[Word], least: int = 1, most: int = 1) -> st.SearchStrategy[tuple[Word, ...]]:
    """Return the strategy of `least` to `most` rounds of the strategies' words, flat."""
    rounds = st.lists(st.tuples(*strategies), min_size=least, max_size=most)
    return rounds.map(lambda drawn: tuple(word for group in drawn for word in group))


def phrase(text: str) -> st.SearchStrategy[tuple[Word, ...]]:
    """Return the strategy of one of the phrases that `|` separates; an empty one is no word."""
    return st.sampled_from([tuple(option.split()) for option in text.split("|")])


# A slot of a line -> the words that fill it.
SLOTS: dict[str, st.SearchStrategy[tuple[Word, ...]]] = {
    "{k}": words(keys),
    "{k*}": words(keys, most=4),
    "{2k}": words(st.just("2"), keys, keys, most=1).map(lambda drawn: drawn[:3]),
    "{kv*}": words(keys, values, most=3),
    "{m}": words(members),
    "{m*}": words(members, most=5),
    "{mv*}": words(members, values, most=4),
    "{fm*}": words(scores, members, most=4),
    "{v}": words(values),
    "{v*}": words(values, most=5),
    "{i}": words(integers),
    "{n}": words(small),
    "{count}": words(st.integers(0, 6).map(str)),
    "{f}": words(scores),
    "{sb}": words(bounds),
    "{float}": words(st.sampled_from(["0.5", "-1.5", "3", "1e2", "0.25", "abc", "inf"])),
    "{db}": words(st.sampled_from([str(n) for n in DATABASES])),
    "{glob}": words(st.sampled_from(["*", "a", "[ab]", "k*", "k*1", "?", "m*", "[^m]*", "m?", "\\a", "nothing*"])),
    "{set}": phrase("||NX|XX|GET|NX GET|XX GET|KEEPTTL|EX 1000|PXAT 4102444800000|EXAT 1|NX XX|EX 0"),
    "{getex}": phrase("|PERSIST|EX 1000|PXAT 4102444800000|PXAT 1|EX 0"),
    "{zadd}": phrase("|||NX|XX|GT|LT|CH|XX CH|GT CH|LT CH|INCR|NX INCR|NX GT"),
    "{far}": words(st.sampled_from([str(FAR_MS), str(FAR_MS + 100_000), "1", "0", "-1"])),
    "{when}": phrase("||NX|XX|GT|LT|XX GT|NX GT"),
    "{side}": phrase("LEFT|RIGHT|left|UP"),
    "{place}": phrase("BEFORE|AFTER"),
    "{end}": phrase("MIN|MAX"),
    "{rev}": phrase("||REV"),
    "{scores}": phrase("|WITHSCORES"),
    "{limit}": phrase("|||LIMIT 0 3|LIMIT 1 -1|LIMIT 2 1|LIMIT 0 0"),
    "{weights}": phrase("||WEIGHTS 2 -1|WEIGHTS 0 1|WEIGHTS 1"),
    "{aggregate}": phrase("|AGGREGATE SUM|AGGREGATE MIN|AGGREGATE MAX"),
    "{replace}": phrase("|REPLACE"),
    "{many}": phrase("|COUNT 1|COUNT 100"),
    "{lpos}": phrase("|RANK 2|RANK -1|COUNT 0|COUNT 2|MAXLEN 3|RANK -1 COUNT 0|RANK 0"),
}

SLOTS |= {
    "{id}": words(st.sampled_from([*IDS, *IDS, "0", "abc", "-", "7-"])),
    "{id*}": words(st.sampled_from(IDS), most=3),
    "{new}": words(st.sampled_from(["1-*", "2-*", "3-*", "3-1", "4-*", "9-9", "5", "*x"])),
    "{low}": words(st.sampled_from(["-", "+", "1", "(1-1", "2-1", "(", "3"])),
    "{trim}": phrase("|||MAXLEN 3|MINID 2|MAXLEN = 1|NOMKSTREAM|MAXLEN ~ 200|NOMKSTREAM MINID 3-1"),
    "{group}": phrase("g|g|h"),
    "{consumer}": words(st.sampled_from([b"ann", b"bob", b"c" * 600])),
    "{after}": phrase(">|>|>|0|1-1|2"),
    "{claim}": phrase("|JUSTID|FORCE|FORCE RETRYCOUNT 3|RETRYCOUNT 5 JUSTID|LASTID 2-1|TIME 1000|BOGUS"),
    "{noack}": phrase("|||NOACK"),
}
STREAM_LINES = lines_of("""
    XADD {k} {trim} {new} {m} {v}
    XADD {k} {new} {m} {v} {m} {v}
    XADD {k} {new} {m} {v}
    XLEN {k}
    XRANGE {k} {low} + {many}
    XREVRANGE {k} + {low} {many}
    XREAD {many} STREAMS {k} {id}
    XREAD STREAMS {k} {k} {id} {id}
    XDEL {k} {id*}
    XTRIM {k} MAXLEN {count}
    XTRIM {k} MINID {id}
    XSETID {k} {id}
    XGROUP CREATE {k} {group} {id} MKSTREAM
    XGROUP CREATE {k} {group} $ MKSTREAM
    XGROUP CREATE {k} {group} 0
    XGROUP SETID {k} {group} {id}
    XGROUP DESTROY {k} {group}
    XGROUP CREATECONSUMER {k} {group} {consumer}
    XGROUP DELCONSUMER {k} {group} {consumer}
    XREADGROUP GROUP {group} {consumer} {many} {noack} STREAMS {k} {after}
    XREADGROUP GROUP {group} {consumer} COUNT 2 STREAMS {k} {after}
    XREADGROUP GROUP {group} {consumer} STREAMS {k} {k} {after} {after}
    XACK {k} {group} {id*}
    XPENDING {k} {group}
    XPENDING {k} {group} {low} + {n}
    XPENDING {k} {group} - + 9 {consumer}
    XCLAIM {k} {group} {consumer} 0 {id*} {claim}
    XAUTOCLAIM {k} {group} {consumer} 0 {low} {many}
    XINFO STREAM {k} FULL
    XINFO GROUPS {k}
    DEL {k}
    COPY {k} {k} {replace}
    RENAME {k} {k}
    PEXPIREAT {k} {far} {when}
""")

LINES = lines_of("""
    SET {k} {v} {set}
    GET {k}
    GETSET {k} {v}
    GETDEL {k}
    GETEX {k} {getex}
    SETNX {k} {v}
    MSET {kv*}
    MSETNX {kv*}
    MGET {k*}
    APPEND {k} {v}
    STRLEN {k}
    SETRANGE {k} {n} {v}
    GETRANGE {k} {i} {i}
    INCR {k}
    DECR {k}
    INCRBY {k} {i}
    DECRBY {k} {i}
    INCRBYFLOAT {k} {float}
    LCS {k} {k} LEN
    HSET {k} {mv*}
    HSET {k} {mv*}
    HSETNX {k} {m} {v}
    HMSET {k} {mv*}
    HGET {k} {m}
    HMGET {k} {m*}
    HGETALL {k}
    HKEYS {k}
    HVALS {k}
    HLEN {k}
    HSTRLEN {k} {m}
    HEXISTS {k} {m}
    HDEL {k} {m*}
    HINCRBY {k} {m} {i}
    HINCRBYFLOAT {k} {m} {float}
    HRANDFIELD {k} {n}
    HSCAN {k} 0 MATCH {glob}
    LPUSH {k} {v*}
    RPUSH {k} {v*}
    RPUSH {k} {v*}
    LPUSHX {k} {v}
    RPUSHX {k} {v}
    LPOP {k}
    RPOP {k} {count}
    LLEN {k}
    LINDEX {k} {i}
    LRANGE {k} {i} {i}
    LSET {k} {i} {v}
    LINSERT {k} {place} {v} {v}
    LREM {k} {n} {v}
    LTRIM {k} {n} {n}
    LPOS {k} {v} {lpos}
    LMOVE {k} {k} {side} {side}
    RPOPLPUSH {k} {k}
    LMPOP {2k} {side} {many}
    SADD {k} {m*}
    SADD {k} {m*}
    SREM {k} {m*}
    SCARD {k}
    SISMEMBER {k} {m}
    SMISMEMBER {k} {m*}
    SMEMBERS {k}
    SMOVE {k} {k} {m}
    SPOP {k}
    SPOP {k} {n}
    SRANDMEMBER {k} {n}
    SSCAN {k} 0 MATCH {glob}
    SUNION {k*}
    SINTER {k*}
    SDIFF {k*}
    SUNIONSTORE {k} {k*}
    SINTERSTORE {k} {k*}
    SDIFFSTORE {k} {k*}
    SINTERCARD {2k} {limit}
    ZADD {k} {zadd} {fm*}
    ZADD {k} {fm*}
    ZINCRBY {k} {f} {m}
    ZREM {k} {m*}
    ZCARD {k}
    ZSCORE {k} {m}
    ZMSCORE {k} {m*}
    ZRANK {k} {m} WITHSCORE
    ZREVRANK {k} {m}
    ZCOUNT {k} {sb} {sb}
    ZRANGE {k} {i} {i} {rev} {scores}
    ZRANGE {k} {sb} {sb} BYSCORE {rev} {limit} {scores}
    ZRANGEBYSCORE {k} {sb} {sb} {scores} {limit}
    ZREVRANGEBYSCORE {k} {sb} {sb} {limit}
    ZREVRANGE {k} {i} {i}
    ZRANGESTORE {k} {k} {i} {i} {rev}
    ZREMRANGEBYRANK {k} {n} {n}
    ZREMRANGEBYSCORE {k} {sb} {sb}
    ZPOPMIN {k}
    ZPOPMAX {k} {count}
    ZMPOP {2k} {end} {many}
    ZRANDMEMBER {k} {n}
    ZSCAN {k} 0
    ZUNION {2k} {weights} {aggregate} {scores}
    ZINTER {2k} {weights} {aggregate} {scores}
    ZDIFF {2k} {scores}
    ZUNIONSTORE {k} {2k} {weights} {aggregate}
    ZINTERSTORE {k} {2k} {weights} {aggregate}
    ZDIFFSTORE {k} {2k}
    ZINTERCARD {2k} {limit}
    DEL {k*}
    UNLINK {k*}
    EXISTS {k*}
    TOUCH {k*}
    TYPE {k}
    KEYS {glob}
    SCAN 0 MATCH {glob} COUNT 2
    RANDOMKEY
    DBSIZE
    RENAME {k} {k}
    RENAMENX {k} {k}
    COPY {k} {k} {replace}
    COPY {k} {k} DB {db} {replace}
    MOVE {k} {db}
    PEXPIREAT {k} {far} {when}
    EXPIRE {k} 1000
    TTL {k}
    PEXPIRETIME {k}
    PERSIST {k}
""")
TEMPLATES = [tuple(line.split()) for line in LINES]
STREAM_TEMPLATES = [tuple(line.split()) for line in STREAM_LINES]
LEX_LINES = [
    tuple(line.split())
    for line in lines_of("""
    ZADD lex 0 {m} 0 {m} 0 {m}
    ZREM lex {m}
    ZLEXCOUNT lex {lex} {lex}
    ZRANGEBYLEX lex {lex} {lex} {limit}
    ZREVRANGEBYLEX lex {lex} {lex} {limit}
    ZRANGE lex {lex} {lex} BYLEX {rev} {limit}
    ZREMRANGEBYLEX lex {lex} {lex}
    ZRANK lex {m}
    ZRANGE lex 0 -1
""")
]
SLOTS["{lex}"] = words(lexes)


@st.composite
def commands(draw: st.DrawFn, templates: list[tuple[str, ...]]) -> tuple[Word, ...]:
    """Draw a line of the table and fill its slots."""
    drawn: list[Word] = []
    for part in draw(st.sampled_from(templates)):
        drawn.extend(draw(SLOTS[part]) if part.startswith("{") else (part,))
    return tuple(drawn)


class Machine(RuleBasedStateMachine):
    """Both servers at once. A subclass carries the pair."""

    pair: ClassVar[Pair]

    @initialize()
    def begin(self) -> None:
        self.history: list[Words] = []
        self.database = 0
        self.kills = 0
        self.broken = False  # a mismatch was seen: what follows proves nothing
        self.pair.flush()

    def say(self, script: list[tuple[Word, ...]]) -> None:
        """Run commands on both and compare the replies."""
        try:
            compare(self.pair, script, databases=(), history=self.history)
        except Exception:
            self.broken = True
            raise

    @rule(script=st.lists(commands(TEMPLATES), min_size=1, max_size=12))
    def run(self, script: list[tuple[Word, ...]]) -> None:
        """A pipeline of commands."""
        self.say(script)

    @rule(script=st.lists(commands(LEX_LINES), min_size=1, max_size=6))
    def lex(self, script: list[tuple[Word, ...]]) -> None:
        """A pipeline on a sorted set whose scores are all equal."""
        self.say(script)

    @rule(script=st.lists(commands(STREAM_TEMPLATES), min_size=1, max_size=20))
    def streams(self, script: list[tuple[Word, ...]]) -> None:
        """A pipeline of commands on streams."""
        self.say(script)

    @rule(database=st.sampled_from(list(DATABASES)))
    def select(self, database: int) -> None:
        self.database = database
        self.say([("SELECT", database)])

    @rule(first=st.sampled_from(list(DATABASES)), second=st.sampled_from(list(DATABASES)), flush=st.integers(0, 9))
    def databases(self, first: int, second: int, flush: int) -> None:
        """Databases change places, and now and then one of them or all are emptied."""
        extra = {8: [("FLUSHDB",)], 9: [("FLUSHALL",)]}.get(flush, [])
        self.say([("SWAPDB", first, second), *extra, ("DBSIZE",)])

    @rule(key=keys, ms=st.integers(1, 20))
    def expire(self, key: bytes, ms: int) -> None:
        """A key's time comes, on both."""
        self.say([("PEXPIRE", key, ms)])
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        for client in self.pair.clients():
            while client.call("EXISTS", key).value != 0:
                if time.monotonic() > deadline:
                    self.broken = True
                    raise Mismatch(f"{key!r} outlives its {ms} ms by {WAIT_SECONDS_MAX} s")

    @precondition(lambda self: self.kills < KILLS_MAX and len(self.history) > 5)
    @rule(now=st.integers(0, 3))
    def kill9(self, now: int) -> None:
        """Our process dies and starts again: nothing that was answered is lost."""
        if now != 3:
            return
        self.kills += 1
        self.pair.ours.kill9()
        self.pair.ours.restart()
        self.after("kill -9")

    @rule()
    def reload(self) -> None:
        """Our server closes and reopens its directory: nothing is lost."""
        reply = self.pair.clients()[0].call("DEBUG", "RELOAD")
        if reply.value != b"OK":
            self.broken = True
            raise Mismatch(f"DEBUG RELOAD said {reply}")
        self.after("DEBUG RELOAD")

    def after(self, event: str) -> None:
        """Compare everything after something happened to our server."""
        self.history.append((b"#", event.encode()))
        self.same_keys()

    def same_keys(self) -> None:
        """Compare the keys of all databases, then go back to the selected one."""
        try:
            same_keys(*self.pair.clients(), DATABASES, self.history)
        except Exception:
            self.broken = True
            raise
        for client in self.pair.clients():
            client.call("SELECT", self.database)

    def teardown(self) -> None:
        """Both hold the same keys, and our rows obey the format."""
        if getattr(self, "broken", True):
            return
        self.same_keys()
        self.pair.check(self.history[-30:])


def test_machine(pair: Pair):
    """Whatever commands come in whatever order, through crashes and reloads, both servers answer and hold the same."""

    class Bound(Machine):
        pass

    Bound.pair = pair
    run_state_machine_as_test(Bound, settings=settings())
