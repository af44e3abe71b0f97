"""The generic group against the oracle: keys of every type, their names, their expiry, their databases.

DEL UNLINK EXISTS TYPE TOUCH KEYS SCAN RANDOMKEY RENAME RENAMENX COPY MOVE SWAPDB FLUSHDB FLUSHALL DBSIZE, EXPIRE PEXPIRE
EXPIREAT PEXPIREAT EXPIRETIME PEXPIRETIME TTL PTTL PERSIST, OBJECT.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import pytest

from tests.differential import INTEGERS, ODD_WORDS, STATES, from_each, same_keys, table

if TYPE_CHECKING:
    from tests.differential import Pair
    from tests.servers import Server

AFTER = "TYPE k\nTTL k\nEXISTS k"
ANY = {**STATES, "volatile": "SET k v EX 1000", "volatile list": "RPUSH k a\nEXPIRE k 1000"}
FAR_SECONDS = "4102444800"  # the year 2100
FAR_MS = "4102444800000"
DATABASES = range(4)
WAIT_SECONDS_MAX = 10


def every_type(prefix: str = "") -> list[str]:
    """Return the commands that make one small key of every type and one large of each collection."""
    names = {"string": "s", "hash": "h", "list": "l", "set": "e", "zset": "z"}
    lines = [STATES[kind].replace(" k", f" {prefix}{name}", 1) for kind, name in names.items()]
    members = [f"m{n}" for n in range(600)]
    lines += [f"RPUSH {prefix}L {' '.join(members)}", f"SADD {prefix}E {' '.join(members)}"]
    lines += [
        f"HSET {prefix}H {' '.join(f'{m} v' for m in members)}",
        f"ZADD {prefix}Z {' '.join(f'{n} {m}' for n, m in enumerate(members))}",
    ]
    return [*lines, f"SET {prefix}S <100000>"]


def test_presence(pair: Pair):
    """EXISTS, TYPE, TOUCH, DEL and UNLINK count keys of every type, repeated, missing and of odd names alike."""
    names = "s h l e z L E H Z S missing"
    for command in ("DEL", "UNLINK"):
        pair.run(
            [
                *every_type(),
                *table(["EXISTS", "TYPE", "TOUCH"], names.split()),
                f"EXISTS {names} s s missing",
                f"TOUCH {names} s",
            ]
        )
        pair.run(
            [
                f"{command} s s missing",
                f"{command} missing",
                "DBSIZE",
                f"{command} {names}",
                "DBSIZE",
                f"EXISTS {names}",
                command,
            ]
        )
        pair.run(
            [
                line
                for word in ODD_WORDS
                for line in (f"SET {word} v", f"EXISTS {word}", f"TYPE {word}", f"{command} {word}")
            ]
        )
    pair.run(["EXISTS", "TYPE", "TYPE a b", "TOUCH", "DBSIZE x", "KEYS", "KEYS a b", "RANDOMKEY x", "DEL", "UNLINK"])


def test_deleted_keys_leave_nothing_to_their_successors(pair: Pair):
    """A key made again under the name of a large one that was deleted, overwritten or expired begins empty."""
    for gone in (
        "DEL L E H Z",
        "UNLINK L E H Z",
        "MSET L 1 E 1 H 1 Z 1",
        "FLUSHDB",
        "FLUSHALL ASYNC",
        "FLUSHDB SYNC",
        "PEXPIREAT L 1\nPEXPIREAT E 1\nPEXPIREAT H 1\nPEXPIREAT Z 1",
    ):
        again = [
            "RPUSH L new",
            "SADD E new",
            "HSET H new 1",
            "ZADD Z 1 new",
            "LRANGE L 0 -1",
            "SMEMBERS E",
            "HGETALL H",
            "ZRANGE Z 0 -1",
            "DBSIZE",
        ]
        pair.run([*every_type(), *gone.splitlines(), *again, "DEL L E H Z", *again])


def test_patterns(pair: Pair):
    """KEYS and SCAN MATCH understand every glob alike: stars, marks, classes, ranges, negation, escapes, none closed."""
    names = [
        "a", "ab", "abc", "b", "abd", "a*c", "a?c", "a[c", "a]c", "a^c", "a-c", '"a\\\\\\\\c"', '"a b"', '""',
        '"\\xffz"', "hello", "hallo", "hillo", "user:1", "user:2:x", "A", "<600a>", "<600b>",
    ]  # fmt: skip
    patterns = [
        "*", "?", "??", "a*", "*c", "a?c", "a*c", "h[ae]llo", "h[^e]llo", "h[a-e]llo", "h[e-a]llo", "[ab]*",
        "[^a]*", "[^a-z]*", "a[*]c", "a[", "a[b", "a[]c", "a[^]c", "[]", "[^]", "**", "*?*",
    ]  # fmt: skip
    patterns += [
        '"a\\\\\\\\*c"', '"a\\\\\\\\?c"', '"a\\\\\\\\[c"', '"\\\\\\\\a"', '"a\\\\\\\\\\\\\\\\c"', '"a\\\\\\\\"',
        '"[\\\\\\\\a]*"', '"[a\\\\\\\\-c]b"', "[a-]c", "[-a]*", '""', '"* *"', '"\\xff*"', "user:*", "user:?:*",
        "<600a>", "<599>*", "a**c", "[A-Z]", "nothing*", "[[]", "a[-]c", "a[^-]c",
    ]  # fmt: skip
    pair.run(
        [*(f"SET {name} v" for name in names), *table("KEYS", patterns), *table("SCAN 0 MATCH", patterns), "DBSIZE"]
    )
    pair.run([*table("SCAN 0 MATCH", patterns, ["COUNT 1", "COUNT 1000", "TYPE string", "TYPE list"])])


def test_scanning(pair: Pair):
    """SCAN brings every key that stays, under any MATCH, COUNT and TYPE; bad cursors, counts and words are refused."""
    script: list[object] = [
        ("MSET", *(word for n in range(1500) for word in (f"key:{n}", n))),
        *every_type("t:"),
        *every_type("u:"),
    ]
    options = [
        "",
        "COUNT 1",
        "COUNT 3",
        "COUNT 100000",
        "MATCH key:1*",
        "MATCH t:*",
        "MATCH *:L",
        "MATCH nothing*",
        "MATCH key:1234",
        "MATCH [kt]*5 COUNT 7",
    ]
    kinds = ["", "TYPE string", "TYPE hash", "TYPE list", "TYPE set", "TYPE zset", "TYPE stream", "TYPE STRING"]
    pair.run([*script, *table("SCAN 0", options, kinds), "DBSIZE", "RANDOMKEY", "RANDOMKEY"])
    wrong = [
        "COUNT 0",
        "COUNT -1",
        "COUNT a",
        "COUNT",
        "MATCH",
        "TYPE",
        "BOGUS",
        "COUNT 1 BOGUS 2",
        "COUNT 9223372036854775808",
    ]
    pair.run(
        [
            *table("SCAN 0", wrong),
            *table("SCAN", ["a", "-1", "1.5", '""', "18446744073709551616"]),
            "SCAN",
            "SCAN 0 TYPE bogus",
        ]
    )
    pair.run(["FLUSHALL", "SCAN 0", "RANDOMKEY", "KEYS *", "DBSIZE", "SET only v", "RANDOMKEY", "SCAN 0 COUNT 1"])


def test_renaming_and_copying(pair: Pair):
    """RENAME, RENAMENX and COPY between every pair of states carry type, value and expiry, and drop what was there."""
    states = [state for state in ANY.values() if " k" in state]
    script = []
    for source in states:
        for target in states:
            for command in ("RENAME s t", "RENAMENX s t", "COPY s t", "COPY s t REPLACE", "copy s t replace"):
                made = [*source.replace(" k", " s").splitlines(), *target.replace(" k", " t").splitlines()]
                script += ["DEL s t", *made, command, "TYPE s", "TYPE t", "TTL s", "TTL t"]
    pair.run(script)
    pair.run(
        [
            *every_type(),
            *(
                line
                for name in "shlezLEHZS"
                for line in (
                    f"RENAME {name} r:{name}",
                    f"COPY r:{name} c:{name}",
                    f"RENAMENX c:{name} r:{name}",
                    f"EXISTS {name}",
                )
            ),
        ]
    )
    pair.run(
        from_each(
            ANY.values(),
            ["RENAME k k", "RENAMENX k k", "COPY k k", "COPY k k REPLACE", "COPY k k DB 1", "COPY k t DB 0"],
            AFTER + "\nDEL t",
        ),
        databases=DATABASES,
    )
    pair.run(
        [
            "RENAME a",
            "RENAME a b c",
            "RENAMENX a",
            "RENAMENX a b c",
            "COPY a",
            "COPY a b BOGUS",
            "COPY a b DB",
            "COPY a b DB 99",
            "COPY a b DB -1",
            "COPY a b DB x",
            "RENAME missing missing",
        ]
    )
    pair.run(
        [
            line
            for word in ODD_WORDS
            for line in (
                f"SET {word} v",
                f"RENAME {word} {ODD_WORDS[-1]}",
                f"RENAME {ODD_WORDS[-1]} {word}",
                f"COPY {word} q REPLACE",
                f"GET {word}",
            )
        ]
    )


def test_copies_are_independent(pair: Pair):
    """After COPY, writing to either side does not show in the other, whatever the type and size."""
    writes = [
        "APPEND {}S x",
        "RPUSH {}L x",
        "LPOP {}L 300",
        "SADD {}E x",
        "SREM {}E m5",
        "HSET {}H m1 x",
        "HDEL {}H m2",
        "ZADD {}Z 5 x",
        "ZREM {}Z m7",
        "DEL {}E",
    ]
    pair.run(
        [
            *every_type(),
            *(f"COPY {name} c:{name}" for name in "LEHZS"),
            *(w.format("") for w in writes[:5]),
            *(w.format("c:") for w in writes[5:]),
        ]
    )


def test_databases(pair: Pair):
    """SELECT, MOVE, COPY DB, SWAPDB, FLUSHDB and FLUSHALL keep the databases apart, with their expiries."""
    pair.run(
        [
            "SELECT 1", *every_type(), "EXPIRE L 1000", "SELECT 0", *every_type("z"), "EXPIRE zs 1000",
            "MOVE zs 1", "MOVE zL 1", "MOVE missing 1", "MOVE zE 0", "DBSIZE",
        ],
        databases=DATABASES,
    )  # fmt: skip
    pair.run(
        [
            "SET L 1", "MOVE L 1", "SELECT 1", "TTL zs", "MOVE L 2", "SELECT 2", "TTL L", "COPY L L DB 3",
            "COPY L L DB 3", "COPY L L DB 3 REPLACE", "DBSIZE", "SELECT 0",
        ],
        databases=DATABASES,
    )  # fmt: skip
    pair.run(
        [
            "SWAPDB 0 1", "DBSIZE", "SWAPDB 1 3", "SWAPDB 2 2", "KEYS *", "SELECT 3", "KEYS *", "SET x y",
            "SWAPDB 0 3", "EXISTS x", "FLUSHDB", "DBSIZE", "SELECT 0", "DBSIZE",
        ],
        databases=DATABASES,
    )  # fmt: skip
    pair.run(
        [
            "SELECT 2", "FLUSHDB ASYNC", "DBSIZE", "SELECT 1", "SET x 1 EX 100", "FLUSHALL", "DBSIZE", "SELECT 0",
            "DBSIZE",
        ],
        databases=DATABASES,
    )  # fmt: skip
    pair.run(
        [
            *table("SELECT", [number for number in INTEGERS if number not in {"2", "3", "10"}]), "SELECT",
            "SELECT 1 2", "SELECT 15", "SELECT 16", "SELECT 0",
        ]
    )  # fmt: skip
    pair.run(
        [
            *table("MOVE k", INTEGERS), *table("SWAPDB 0", INTEGERS), *table("SWAPDB", INTEGERS, "0"), "MOVE k",
            "SWAPDB 0", "SWAPDB", "FLUSHDB BOGUS", "FLUSHALL SYNC ASYNC", "FLUSHDB sync",
        ]
    )  # fmt: skip
    pair.run(from_each(["SET k v"], table("MOVE k", ["0", "16", "-1", "a"])))


def test_expiry_from_every_state(pair: Pair):
    """The four EXPIREs with every condition, on keys with and without an expiry, sooner and later, past and absurd."""
    states = [*ANY.values(), f"SET k v EXAT {FAR_SECONDS}", "SET k v EX 5000"]
    times = [
        "EXPIRE k 100",
        "EXPIRE k 100000000",
        "PEXPIRE k 100000",
        f"EXPIREAT k {FAR_SECONDS}",
        "EXPIREAT k 4102444900",
        f"PEXPIREAT k {FAR_MS}",
        "EXPIRE k -1",
        "EXPIRE k 0",
        "PEXPIRE k -1",
        "EXPIREAT k 1",
        "PEXPIREAT k 1",
        "PEXPIREAT k 0",
    ]
    conditions = ["", "NX", "XX", "GT", "LT", "nx", "XX GT", "XX LT", "GT XX"]
    pair.run(from_each(states, table(times, conditions), AFTER + "\nPEXPIRETIME k"))
    wrong = ["NX XX", "NX GT", "NX LT", "GT LT", "BOGUS", "<200>", "NX BOGUS", "XX GT LT", "NX NX", "GT GT"]
    pair.run(from_each(["EXISTS k", "SET k v", "SET k v EX 50"], table(["EXPIRE k 100", "PEXPIRE k x"], wrong), AFTER))
    pair.run(
        from_each(
            ["SET k v", "EXISTS k"],
            table(
                ["EXPIRE k", "PEXPIRE k", "EXPIREAT k", "PEXPIREAT k"],
                [*INTEGERS, "9223372036854775", "9223372036854775000", "-9223372036854775"],
            ),
            AFTER,
        )
    )
    reads = [
        "TTL k",
        "PTTL k",
        "EXPIRETIME k",
        "PEXPIRETIME k",
        "PERSIST k",
        "PERSIST",
        "TTL",
        "PTTL k k",
        "EXPIRE k",
        "EXPIRETIME",
        "PEXPIRETIME k k",
    ]
    pair.run(from_each(states, reads, AFTER))


def test_expiry_goes_with_the_key(pair: Pair):
    """What keeps, moves or drops a key's expiry: writes keep it, overwrites drop it, renames and copies carry it."""
    kept = [
        "APPEND k x",
        "INCR k",
        "SETRANGE k 0 7",
        "GETEX k",
        "SET k 8 KEEPTTL",
        "INCRBYFLOAT k 1",
        "GETRANGE k 0 1",
        "PERSIST k",
        "GETEX k PERSIST",
    ]
    dropped = [
        "SET k 1",
        "GETSET k 1",
        "MSET k 1",
        "GETDEL k",
        "SETNX k 1",
        "RENAME k t",
        "COPY k t",
        "SINTERSTORE k k",
        "RENAME t k",
        "SETEX k 9 1",
    ]
    pair.run(from_each(["SET k 5 EX 1000"], [*kept, *dropped], "TTL k\nTTL t\nDEL t"))
    pair.run(from_each(["SADD k a\nEXPIRE k 1000"], ["SADD k b", "SREM k a", "SUNIONSTORE k k", "SPOP k"], "TTL k"))
    pair.run(
        from_each(
            ["RPUSH k a b\nEXPIRE k 1000"],
            ["LPUSH k c", "LPOP k", "LTRIM k 0 0", "LMOVE k k LEFT RIGHT", "LMOVE k t LEFT RIGHT", "LTRIM k 5 6"],
            "TTL k\nTTL t\nRPUSH k z\nTTL k\nDEL t",
        )
    )
    pair.run(
        from_each(
            ["ZADD k 1 a 2 b\nEXPIRE k 1000"],
            ["ZADD k 3 c", "ZUNIONSTORE k 1 k", "ZRANGESTORE k k 0 0", "ZPOPMIN k", "ZPOPMIN k 2"],
            "TTL k\nZADD k 1 z\nTTL k",
        )
    )


def gone(pair: Pair, *keys: str) -> None:
    """Wait until both servers say that the keys are gone."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    for client in pair.clients():
        while client.call("EXISTS", *keys).value != 0:
            assert time.monotonic() < deadline, f"{keys} outlive their time on port {client.socket.getpeername()}"


@pytest.mark.parametrize("made", [state for kind, state in STATES.items() if kind != "nothing"])
def test_what_has_expired_is_gone_for_everyone(pair: Pair, made: str):
    """Once its time has come a key is missing to reads, counts, patterns, scans, renames and conditional writes."""
    pair.run([made, "SET stays v", "PEXPIRE k 30"], databases=())
    gone(pair, "k")
    reads = [
        "GET k",
        "TYPE k",
        "TTL k",
        "PEXPIRETIME k",
        "KEYS *",
        "SCAN 0",
        "RANDOMKEY",
        "RENAME k t",
        "COPY k t",
        "PERSIST k",
        "EXPIRE k 10",
        "DEL k",
        "OBJECT ENCODING k",
    ]
    pair.run([*reads, "LPUSHX k a", "SET k v XX", "SETNX k v", "TTL k"])


def test_many_expire_together(pair: Pair):
    """Five hundred keys with short expiries go, those renewed, persisted or overwritten in time stay."""
    script: list[object] = [("SET", f"k{n}", n, "PX", 500 + n % 50) for n in range(500)]
    script += [
        line
        for n in range(0, 500, 10)
        for line in (
            f"PERSIST k{n}",
            f"SET k{n + 1} new",
            f"EXPIRE k{n + 2} 1000",
            f"RENAME k{n + 3} r{n}",
            f"PERSIST r{n}",
        )
    ]
    pair.run(script, databases=())
    gone(pair, *(f"k{n}" for n in range(500) if n % 10 > 3))
    same_keys(*pair.clients())
    pair.run(["KEYS *", "SCAN 0"])


def test_object(pair: Pair):
    """OBJECT's subcommands answer alike for every state; unknown ones and wrong arities are refused alike."""
    lines = [
        "OBJECT ENCODING k",
        "OBJECT REFCOUNT k",
        "OBJECT IDLETIME k",
        "OBJECT FREQ k",
        "OBJECT HELP",
        "object help",
        "OBJECT",
        "OBJECT BOGUS k",
        "OBJECT ENCODING",
        "OBJECT ENCODING k k",
        "OBJECT HELP x",
    ]
    pair.run(from_each(ANY.values(), lines))


def test_random_keys_over_many_thresholds(pair: Pair):
    """A keyspace that grows and shrinks past every threshold counts, lists, scans and samples alike."""
    chance = random.Random(9)
    for size in (255, 256, 257, 512, 513, 2000):
        script: list[object] = [
            ("MSET", *(word for n in range(size) for word in (f"p:{n:05}", n))),
            "DBSIZE",
            "RANDOMKEY",
            "KEYS *",
            "KEYS p:0001*",
        ]
        script += [
            ("DEL", *(f"p:{n:05}" for n in chance.sample(range(size), size // 3))),
            "DBSIZE",
            "SCAN 0 COUNT 77",
            "RANDOMKEY",
            "SCAN 0 MATCH p:*1",
        ]
        pair.run([*script, "FLUSHDB", "DBSIZE", "RANDOMKEY"])


def test_a_literal_prefix_is_sought(ours: Server):
    """SCAN MATCH with a literal beginning visits only keys that begin so: a few steps, however many keys there are."""
    client = ours.client()
    client.pipeline(
        [
            ("MSET", *(word for n in range(start, start + 1000) for word in (f"many:{n}", n)))
            for start in range(0, 10_000, 1000)
        ]
    )
    client.call("MSET", "few:1", 1, "few:2", 2, "z", 3)

    for glob, found in (
        ("few:*", {b"few:1", b"few:2"}),
        ("few:[12]", {b"few:1", b"few:2"}),
        ("nobody*", set()),
        ("few:2", {b"few:2"}),
    ):
        cursor, names = client.call("SCAN", 0, "MATCH", glob, "COUNT", 10).items()
        assert (cursor.value, {name.value for name in names.items()}) == (b"0", found)
        assert {name.value for name in client.call("KEYS", glob).items()} == found
    steps, cursor = 0, b"0"
    while steps == 0 or cursor != b"0":
        cursor = client.call("SCAN", cursor, "MATCH", "many:12*", "COUNT", 100).items()[0].value
        steps += 1
    assert steps <= 1 + 111 // 100 + 1


def test_random_keys_are_alive_and_of_every_kind(ours: Server):
    """RANDOMKEY finds every key sooner or later, and never one that has expired, though nobody has deleted it yet."""
    client = ours.client()
    client.call("DEBUG", "SET-ACTIVE-EXPIRE", 0)
    try:
        client.pipeline(
            [("SET", f"dead{n}", n, "PX", 1) for n in range(300)] + [("SET", f"alive{n}", n) for n in range(5)]
        )
        time.sleep(0.01)
        seen = {client.call("RANDOMKEY").value for _ in range(200)}

        assert seen == {b"alive%d" % n for n in range(5)}
        client.call("DEL", *(f"alive{n}" for n in range(5)))
        client.pipeline([("SET", f"dead{n}", n, "PX", 1) for n in range(300)])
        time.sleep(0.01)
        assert client.call("RANDOMKEY").value is None
    finally:
        client.call("DEBUG", "SET-ACTIVE-EXPIRE", 1)
