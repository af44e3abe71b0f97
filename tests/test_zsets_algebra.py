"""Sorted sets from sorted sets, against the oracle: ZUNION ZINTER ZDIFF, their STORE forms, ZINTERCARD, ZRANGESTORE."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from tests.differential import FLOATS, INTEGERS, from_each, table

if TYPE_CHECKING:
    from tests.differential import Pair

AFTER = "TYPE k\nZRANGE k 0 -1 WITHSCORES\nTTL k\nOBJECT ENCODING k"
OPERANDS = """
    1 a
    1 missing
    2 a b
    2 b a
    2 a missing
    2 missing a
    2 a a
    3 a b c
    2 a s
    2 s a
    1 s
    2 big a
    2 a big
    2 big half
    2 half big
    1 w
    2 a w
    2 missing w
    2 inf ninf
"""
WEIGHTS = [
    "",
    "WEIGHTS 1 1",
    "WEIGHTS 2 -3",
    "WEIGHTS 0 0.5",
    "WEIGHTS inf 1",
    "WEIGHTS -inf 0",
    "WEIGHTS 1",
    "WEIGHTS",
    "WEIGHTS a b",
    "WEIGHTS 2",
    "WEIGHTS nan 1",
]
AGGREGATES = ["", "AGGREGATE SUM", "AGGREGATE MIN", "AGGREGATE MAX", "AGGREGATE AVG", "AGGREGATE"]


def setup() -> list[object]:
    """Return the commands that make small, large, infinite, plain-set and wrong operands."""
    script: list[object] = ["ZADD a 1 x 2 y 3 z", "ZADD b 10 y 20 z 30 q", "ZADD c 5 z 0 o", "SADD s x y m", "SET w v"]
    script += ["ZADD inf inf x 1 y", "ZADD ninf -inf x 2 y"]
    for key, size in (("big", 700), ("half", 350)):
        script.append(
            ("ZADD", key, *(word for n in range(size) for word in (n * 37 % size / 2, f"m{n}")), 4, "x", 5, "z")
        )
    return script


def test_reads(pair: Pair):
    """ZUNION and ZINTER with every WEIGHTS and AGGREGATE, ZDIFF, over every kind of operands, scores shown or not."""
    scores = ["", "WITHSCORES"]
    pair.run([*setup(), *table(["ZUNION", "ZINTER"], OPERANDS, WEIGHTS, AGGREGATES, scores)])
    pair.run([*setup(), *table("ZDIFF", OPERANDS, ["", "WITHSCORES", "WEIGHTS 1", "AGGREGATE MIN", "BOGUS"])])
    odd = table(["ZUNION", "ZINTER", "ZDIFF"], INTEGERS, ["a", "a b", "a b WITHSCORES"])
    pair.run(
        [
            *setup(),
            *odd,
            *table("ZUNION 1 a WEIGHTS", FLOATS, "WITHSCORES"),
            "ZUNION",
            "ZUNION 1",
            "ZINTER",
            "ZDIFF",
            "ZDIFF 1",
        ]
    )
    pair.run(
        [
            *setup(),
            "ZUNION 2 a b AGGREGATE MIN WEIGHTS 2 3 WITHSCORES",
            "ZUNION 2 a b WITHSCORES WEIGHTS 1 2",
            "ZUNION 1 a aggregate max weights 2 withscores",
        ]
    )


def test_stores(pair: Pair):
    """The STORE forms replace whatever the target was, drop it for an empty result, and may name a source."""
    targets = ["EXISTS k", "SET k v EX 1000", "ZADD k 9 old", "RPUSH k a"]
    stores = [*table(["ZUNIONSTORE k", "ZINTERSTORE k", "ZDIFFSTORE k"], OPERANDS)]
    stores += table(["ZUNIONSTORE k", "ZINTERSTORE k"], ["2 a b", "2 inf ninf", "2 a s"], WEIGHTS, AGGREGATES)
    pair.run([*setup(), *from_each(targets, stores, AFTER)])
    for command in ("ZUNIONSTORE", "ZINTERSTORE", "ZDIFFSTORE"):
        over = [
            f"{command} a 2 a b",
            "ZRANGE a 0 -1 WITHSCORES",
            f"{command} b 2 s b",
            f"{command} w 1 c",
            f"{command} k 1 c WITHSCORES",
        ]
        pair.run(
            [
                "DEL a b s w",
                *setup(),
                *over,
                command,
                f"{command} k",
                f"{command} k 1",
                *table(f"{command} k", INTEGERS, "a b"),
            ]
        )


def test_intersection_cardinality(pair: Pair):
    """ZINTERCARD with and without LIMIT, its key count in every wrong form."""
    limits = [
        "",
        "LIMIT 0",
        "LIMIT 1",
        "LIMIT 2",
        "LIMIT 1000",
        "LIMIT -1",
        "LIMIT a",
        "LIMIT",
        "BOGUS",
        "limit 1 limit 2",
        "LIMIT 1 x",
    ]
    pair.run([*setup(), *table("ZINTERCARD", OPERANDS, limits)])
    pair.run(
        [
            *setup(),
            *table("ZINTERCARD", INTEGERS, ["a", "a b", "a b LIMIT 1"]),
            "ZINTERCARD",
            "ZINTERCARD 1",
            "ZINTERCARD a b",
        ]
    )


def test_storing_ranges(pair: Pair):
    """ZRANGESTORE by index, score and lex, both ways, with LIMIT, over any target; it knows no WITHSCORES."""
    targets = ["EXISTS k", "SET k v EX 1000", "ZADD k 9 old"]
    ranges = [
        "0 -1",
        "1 1",
        "5 9",
        "-2 -1",
        "1 2 BYSCORE",
        "(1 +inf BYSCORE",
        "+inf 1 BYSCORE REV",
        "1 2 REV",
        "[x (z BYLEX",
        "- + BYLEX",
        "+ - BYLEX REV",
    ]
    limits = ["", "LIMIT 0 1", "LIMIT 1 -1", "WITHSCORES", "BOGUS", "LIMIT 0", "LIMIT a 1"]
    pair.run(
        [
            *setup(),
            *from_each(targets, table("ZRANGESTORE k", ["a", "missing", "w", "s"], ranges, limits), AFTER),
        ]
    )
    pair.run(
        [
            *setup(),
            "ZRANGESTORE a a 0 1",
            "ZRANGE a 0 -1",
            "ZRANGESTORE b b 9 9",
            "EXISTS b",
            "ZRANGESTORE k a",
            "ZRANGESTORE k a 0",
            "ZRANGESTORE k a x 1",
            "ZRANGESTORE",
        ]
    )


def test_many_random_operands(pair: Pair):
    """Unions, intersections and differences of many overlapping sets of every size agree member by member."""
    chance = random.Random(21)
    script: list[object] = []
    for n, size in enumerate((3, 40, 200, 600, 1500)):
        members = chance.sample(range(2000), size)
        script.append(("ZADD", f"z{n}", *(word for member in members for word in (chance.randrange(50), f"m{member}"))))
        script.append(("SADD", f"s{n}", *(f"m{member}" for member in chance.sample(range(2000), size))))
    for _ in range(40):
        keys = [f"{chance.choice('zs')}{chance.randrange(5)}" for _ in range(chance.randrange(1, 5))]
        words = (len(keys), *keys)
        script += [
            ("ZUNION", *words, "WITHSCORES"),
            ("ZINTER", *words, "WITHSCORES"),
            ("ZDIFF", *words, "WITHSCORES"),
            ("ZINTERCARD", *words),
        ]
        script += [
            (
                "ZUNIONSTORE",
                "t",
                *words,
                "WEIGHTS",
                *(chance.randrange(-2, 4) for _ in keys),
                "AGGREGATE",
                chance.choice(("SUM", "MIN", "MAX")),
            )
        ]
        script += ["ZRANGE t 0 -1 WITHSCORES", "ZRANGESTORE u t 3 20 REV", "ZRANGE u 0 -1 WITHSCORES"]
    pair.run(script)


def test_long_members(pair: Pair):
    """Members that rows cannot hold whole meet across sorted and plain sets, and come out in exact order."""
    chance = random.Random(5)
    names = [
        "x" * 465 + "".join(chance.choices("abc", k=length)) for length in (0, 1, 14, 15, 16, 17, 100) for _ in "12345"
    ]
    script: list[object] = []
    for n in range(4):
        chosen = chance.sample(sorted(set(names)), 20)
        script.append(("ZADD", f"z{n}", *(word for name in chosen for word in (chance.randrange(3), name))))
        script.append(("SADD", f"s{n}", *chance.sample(sorted(set(names)), 20)))
    for keys in ("2 z0 z1", "3 z0 s1 z2", "2 s0 s1", "4 z0 z1 z2 z3", "2 z3 s3", "2 s3 z3", "1 s2", "2 z0 z0"):
        script += [f"{command} {keys} WITHSCORES" for command in ("ZUNION", "ZINTER", "ZDIFF")]
        script += [
            f"ZINTERCARD {keys}",
            f"ZUNIONSTORE t {keys} WEIGHTS{' -1' * int(keys[0])}",
            "ZRANGE t 0 -1 WITHSCORES",
        ]
    pair.run(script)


def test_differences_of_unlike_sizes(pair: Pair):
    """ZDIFF answers alike whether the first operand is the small or the large one, or is named again."""
    sizes = {"tiny": 3, "some": 60, "many": 900, "more": 1500}
    chance = random.Random(8)
    script: list[object] = [
        ("ZADD", key, *(word for n in chance.sample(range(2000), size) for word in (n % 7, f"m{n}")))
        for key, size in sizes.items()
    ]
    script += table(["ZDIFF 4", "ZDIFFSTORE t 4"], sizes, sizes, "tiny some")
    script += [
        "ZDIFF 5 more tiny tiny tiny missing",
        "ZDIFF 2 many many",
        "ZDIFF 3 missing tiny some",
        "ZDIFF 1 more WITHSCORES",
    ]
    script += table(["ZINTERCARD 2", "ZINTERSTORE t 2"], sizes, sizes)
    pair.run([*script, *table("ZINTERCARD 2 many more LIMIT", ["1", "100", "5000"])])
