"""The set group against the oracle: every command, every option, every state of the key, odd numbers and words.

SADD SREM SCARD SISMEMBER SMISMEMBER SMEMBERS SMOVE SPOP SRANDMEMBER SSCAN, and the algebra: SUNION SINTER SDIFF with
their STORE forms, SINTERCARD.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.differential import INTEGERS, ODD_WORDS, STATES, from_each, table

if TYPE_CHECKING:
    from tests.differential import Pair
    from tests.servers import Server

AFTER = "TYPE k\nSCARD k\nSMEMBERS k\nTTL k"
SETS = {**STATES, "integers": "SADD k 1 2 3 40", "one": "SADD k a", "mixed": "SADD k 1 a 2 b"}
SIZES = [1, 127, 128, 129, 255, 256, 257, 511, 512, 513, 3000]


def filled(size: int, key: str = "k", prefix: str = "m") -> list[tuple[object, ...]]:
    """Return the commands that make a set of `size` members, added in an order that is not sorted."""
    order = random.Random(size).sample(range(size), size)
    return [("SADD", key, *(f"{prefix}{n}" for n in order[start : start + 500])) for start in range(0, size, 500)]


def test_members_keep_words_whole(pair: Pair):
    """Any bytes, any length, as key and member, come back as they went in, and can be removed one by one."""
    script = []
    for word in ODD_WORDS:
        script += [
            f"SADD {word} m",
            f"SMEMBERS {word}",
            f"SADD k {word}",
            f"SADD k {word}",
            f"SISMEMBER k {word}",
            "SCARD k",
        ]
    script += ["SMEMBERS k", "SSCAN k 0", "SMISMEMBER k " + " ".join(ODD_WORDS), "SUNIONSTORE u k", "SMEMBERS u"]
    script += [line for word in ODD_WORDS for line in (f"SMOVE k v {word}", f"SREM u {word}", "SCARD u", "SCARD v")]
    pair.run([*script, "EXISTS k u v", "SMEMBERS v"])


def test_writing_and_reading_from_every_state(pair: Pair):
    """Every command that takes one set answers and leaves alike from every state, with wrong arities refused."""
    commands = """
        SADD k a
        SADD k a a d
        SADD k 1 2 3 -1
        SADD k ""
        SADD k
        SADD
        SREM k a
        SREM k a a b
        SREM k a b c 1 2 3 40
        SREM k missing
        SREM k
        SREM
        SCARD k
        SCARD
        SCARD k k
        SISMEMBER k a
        SISMEMBER k 1
        SISMEMBER k missing
        SISMEMBER k
        SMISMEMBER k a
        SMISMEMBER k a missing a 1
        SMISMEMBER k
        SMEMBERS k
        SMEMBERS
        SMEMBERS k k
        OBJECT ENCODING k
        SPOP
        SPOP k 1 2
        SRANDMEMBER
        SRANDMEMBER k 1 2
    """
    pair.run(from_each(SETS.values(), commands, AFTER))


def test_moving(pair: Pair):
    """SMOVE between every pair of states, to itself, of what is there and what is not."""
    states = [state.replace("k ", "{} ", 1) for state in SETS.values() if " k" in state] + ["EXISTS {}"]
    script = []
    for source in states:
        for target in states:
            for member in ("a", "missing", "1"):
                script += ["DEL s t", source.format("s"), target.format("t"), f"SMOVE s t {member}", "TYPE s", "TYPE t"]
    script += ["DEL s", "SADD s a b", "SMOVE s s a", "SMOVE s s z", "SMEMBERS s", "SMOVE s t", "SMOVE s t a b", "SMOVE"]
    pair.run([line.replace(" k", " s") if line.startswith("EXISTS k") else line for line in script])


def test_popping(pair: Pair):
    """SPOP takes only what is there, never twice, as many as asked; odd counts are refused alike."""
    pair.run(from_each(SETS.values(), ["SPOP k", *table("SPOP k", [*INTEGERS])], AFTER))
    pair.run(
        [*filled(40), *["SPOP k"] * 10, *["SPOP k 3"] * 5, "SCARD k", "SPOP k 15", "SPOP k 1", "SPOP k", "EXISTS k"]
    )
    pair.run(
        ["SADD k a b c", "EXPIRE k 1000", "SPOP k", "TTL k", "SPOP k 2", "EXISTS k", "SPOP k", "SPOP k 5", "SPOP k 0"]
    )


def test_random_members(pair: Pair):
    """SRANDMEMBER: counts of both signs, zero, past the end and absurd, leave the set as it was."""
    counts = [number for number in INTEGERS if not number.startswith(("-2147483649", "-9223"))]
    pair.run(from_each(SETS.values(), ["SRANDMEMBER k", *table("SRANDMEMBER k", counts)], "SCARD k"))
    pair.run(
        [
            "SRANDMEMBER k -9223372036854775808",
            "SADD k a",
            "SRANDMEMBER k -9223372036854775808",
            "SRANDMEMBER k -9223372036854775809",
        ]
    )


ALGEBRA = [
    "s a",
    "a s",
    "s",
    "s missing",
    "missing s",
    "missing",
    "missing gone",
    "s b c",
    "c b s",
    "s s",
    "s a b c i big",
    "big s",
    "i s",
    "s i",
    "w",
    "s w",
    "w s",
    "missing w",
    "big half",
    "half big",
]


def algebra_setup() -> list[object]:
    """Return the commands that make small, large, integer, equal, disjoint and wrong operands."""
    script: list[object] = [
        "SADD s a b c 1 2",
        "SADD a a b c d",
        "SADD b b c z 1",
        "SADD c x y z",
        "SADD i 1 2 3 4",
        "SET w v",
    ]
    return [*script, *filled(700, "big"), *filled(350, "half"), "SADD big a b 1", "SADD half a q"]


def test_algebra_reads(pair: Pair):
    """SUNION, SINTER and SDIFF of every kind of operands, in every order."""
    pair.run([*algebra_setup(), *table(["SUNION", "SINTER", "SDIFF"], ALGEBRA), "SUNION", "SINTER", "SDIFF"])


def test_algebra_stores(pair: Pair):
    """The STORE forms replace whatever the target was, drop it for an empty result, and may name a source."""
    targets = ["EXISTS k", "SET k v EX 1000", "SADD k old", "RPUSH k a"]
    stores = table(["SUNIONSTORE", "SINTERSTORE", "SDIFFSTORE"], "k", ALGEBRA)
    pair.run([*algebra_setup(), *from_each(targets, stores, AFTER + "\nOBJECT ENCODING k")])
    for command in ("SUNIONSTORE", "SINTERSTORE", "SDIFFSTORE"):
        pair.run(
            [
                "DEL s a b",
                *algebra_setup(),
                f"{command} s s a",
                f"{command} a s a b",
                f"{command} k",
                command,
                f"{command} w s",
                f"{command} b w",
            ]
        )


def test_intersection_cardinality(pair: Pair):
    """SINTERCARD with and without LIMIT, its key count in every wrong form."""
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
    operands = [f"{len(words.split())} {words}" for words in ALGEBRA]
    pair.run([*algebra_setup(), *table("SINTERCARD", operands, limits)])
    pair.run(
        [*table("SINTERCARD", INTEGERS, ["s", "s a", "s a LIMIT 1"]), "SINTERCARD", "SINTERCARD 1", "SINTERCARD s a"]
    )


def test_scanning(pair: Pair):
    """SSCAN brings every member once or more, under any MATCH and COUNT; bad cursors, counts and words are refused."""
    options = [
        "",
        "COUNT 1",
        "COUNT 1000",
        "MATCH *",
        "MATCH m1*",
        "MATCH m?",
        "MATCH [^m]*",
        "MATCH m1* COUNT 3",
        "COUNT 2 MATCH *9",
    ]
    options += ["COUNT 0", "COUNT -1", "COUNT a", "COUNT", "MATCH", "BOGUS", "TYPE set", "count 5 match m*"]
    pair.run(
        [*filled(30), *filled(600, "big"), "SADD i 1 2 3", *table("SSCAN", ["k", "big", "i", "missing"], "0", options)]
    )
    pair.run(
        from_each(
            SETS.values(),
            [
                "SSCAN k 0",
                "SSCAN k",
                "SSCAN",
                *table("SSCAN k", ["a", "-1", "1.5", '""', "18446744073709551616"]),
            ],
        )
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("prefix", ["m", ""], ids=["words", "integers"])
def test_sizes_around_every_threshold(pair: Pair, size: int, prefix: str):
    """A set of any size answers, samples, pops, scans and shrinks alike, and ends as nothing."""
    chance = random.Random(size)
    script: list[object] = [
        *filled(size, prefix=prefix),
        "SCARD k",
        "OBJECT ENCODING k",
        "SMEMBERS k",
        "SSCAN k 0 COUNT 50",
    ]
    script += table("SRANDMEMBER k", ["", "1", "10", "-10", str(size), str(size + 5), str(size // 2), str(-size)])
    for _ in range(40):
        member = f"{prefix}{chance.randrange(size * 2)}"
        script.append((chance.choice(("SADD", "SREM", "SISMEMBER")), "k", member))
        script.append("SCARD k")
    script += [
        "SPOP k",
        "SPOP k 3",
        "SCARD k",
        "COPY k c",
        "RENAMENX k r",
        "SSCAN r 0",
        "SINTERCARD 2 r c",
        "SDIFF r c",
        "SUNIONSTORE u r c",
        "SCARD u",
    ]
    script += [f"SPOP u {size // 2}", f"SPOP u {size // 3}", "SCARD u", "SMEMBERS u", f"SPOP u {size}", "EXISTS u"]
    script += [("SREM", "c", *(f"{prefix}{n}" for n in range(size * 2))), "EXISTS c"]
    pair.run(script)


def test_encoding_names(pair: Pair):
    """OBJECT ENCODING turns from intset or listpack to hashtable at the configured lengths, as Redis's does."""
    pair.run(
        from_each(
            [
                "SADD k 1",
                "SADD k a",
                "SADD k <64>",
                "SADD k <65>",
                "SADD k 9223372036854775808",
                "SADD k 01",
                "SADD k -0",
            ],
            ["OBJECT ENCODING k", "SADD k 2", "SADD k z"],
            "OBJECT ENCODING k",
        )
    )
    pair.run(
        [
            *filled(512, prefix=""),
            "OBJECT ENCODING k",
            "SADD k 9999",
            "OBJECT ENCODING k",
            "SREM k 9999",
            "OBJECT ENCODING k",
        ]
    )
    pair.run(
        [
            "DEL k",
            *filled(128),
            "OBJECT ENCODING k",
            "SADD k z",
            "OBJECT ENCODING k",
            "SUNIONSTORE u k",
            "OBJECT ENCODING u",
        ]
    )


def test_refusals_come_in_order(pair: Pair):
    """Of several reasons to refuse, the one is given that Redis finds first."""
    refused = """
        SMOVE k w a
        SMOVE w k a
        SMOVE missing w a
        SPOP k abc
        SPOP k -1 2
        SRANDMEMBER k abc
        SRANDMEMBER k 1 2
        SRANDMEMBER k -9223372036854775808
        SSCAN k abc BOGUS
        SSCAN k 0 BOGUS
        SSCAN k 0 COUNT 9223372036854775807
        SINTERCARD 2 k
        SINTERCARD 2 k w
        SINTERCARD 1 k LIMIT
        SINTERCARD 1 k LIMIT abc LIMIT 1
        SINTERCARD 1 missing LIMIT abc
        SINTERCARD 2 missing w
        SINTER missing w
        SINTERSTORE k missing w
        SUNIONSTORE k w
        SDIFFSTORE k missing w
        SDIFFSTORE k k w
    """
    pair.run(["SET w v", *from_each(SETS.values(), refused, AFTER)])


def test_long_members_that_begin_alike(pair: Pair):
    """Members that differ only after hundreds of bytes are different members, in every command, small sets and large ones."""
    prefix = "p" * 470
    many = [f"{prefix}{n}" for n in range(300)]
    script: list[object] = [("SADD", "k", *(f"<{n}long>" for n in range(478, 486)), *many, "a", "b")]
    script += [("SADD", "o", *many[100:200], "b", "c"), "SCARD k", "SMEMBERS k"]
    script += ["SINTER k o", "SUNION k o", "SDIFF k o", "SDIFF o k", "SINTERCARD 2 k o", "SINTERCARD 2 k o LIMIT 30"]
    script += ["SINTERSTORE i k o", "SUNIONSTORE u k o", "SDIFFSTORE d k o", "SUNIONSTORE k k d", "SDIFFSTORE o o d"]
    script += [
        "SMEMBERS i",
        "SMEMBERS u",
        "SMEMBERS d",
        "COPY u c",
        "SMEMBERS c",
        "SRANDMEMBER c 30",
        "SRANDMEMBER c -30",
    ]
    script += [("SSCAN", "c", 0, "MATCH", f"{prefix}{end}", "COUNT", 7) for end in ("*", "1*", "29?", "")]
    script += [("SMISMEMBER", "c", *many[::9]), *[("SMOVE", "c", "m", member) for member in many[::11]], "SMEMBERS m"]
    script += [*["SPOP c"] * 40, "SPOP c 100", "SCARD c", ("SREM", "u", *many), "SMEMBERS u", "SPOP u 100", "EXISTS u"]
    pair.run(script)


def test_pops_amid_other_writes(pair: Pair):
    """Members popped one by one, while others come and go, are members, and none comes twice: the deck is kept in order."""
    chance = random.Random(3)
    script: list[object] = [*filled(700), *filled(20, "small")]
    for _ in range(250):
        n = chance.randrange(900)
        script.append(chance.choice((("SADD", "k", f"m{n}"), ("SREM", "k", f"m{n}"), ("SMOVE", "k", "small", f"m{n}"))))
        script.append(chance.choice(("SPOP k", "SPOP k", "SPOP small", "SMOVE small k m3", "SCARD k")))
    pair.run([*script, "SPOP k 50", *["SPOP k"] * 20, "DEL k", "SADD k m1 m2 m3", *["SPOP k"] * 4, "EXISTS k"])


def test_operands_of_unlike_sizes(pair: Pair):
    """Intersections and differences agree whether the operands are of like size or one is far larger, dense or sparse."""
    script: list[object] = [*filled(3000, "big"), *filled(2900, "like"), *filled(40, "few"), "SADD few m2999 m1500 zzz"]
    script += [("SADD", "dense", *(f"m15{n:03}" for n in range(1000)), "m0"), ("SADD", "ends", "a", "m1501", "z")]
    pairs = [
        f"{a} {b}" for a in ("big", "like", "few", "dense", "ends") for b in ("big", "like", "few", "dense", "ends")
    ]
    script += [f"SINTERCARD 2 {words}" for words in pairs] + table(["SDIFF", "SINTER"], pairs)
    script += table("SINTERCARD", [f"3 {words} few" for words in pairs], ["", "LIMIT 2"])
    script += ["SUNIONSTORE u big like few dense ends", "SCARD u", "SDIFFSTORE u u big", "SMEMBERS u"]
    pair.run(script)


def test_a_scan_brings_what_stays(ours: Server):
    """Members that are there from a scan's first step to its last come at least once, whatever comes and goes meanwhile."""
    client = ours.client()
    chance = random.Random(6)
    client.pipeline([("SADD", "k", f"stay{n}") for n in range(600)])
    seen: set[bytes] = set()
    cursor, steps = b"0", 0
    while cursor != b"0" or not steps:
        reply = client.call("SSCAN", "k", cursor, "COUNT", chance.randrange(1, 40)).items()
        cursor, steps = reply[0].value, steps + 1
        seen.update(item.value for item in reply[1].items())
        client.call("SADD", "k", *(f"go{chance.randrange(1000)}" for _ in range(50)))
        client.call("SREM", "k", *(f"go{x}" for x in range(1000) if chance.random() < 0.3))
        client.call("SMEMBERS", "k")

    assert {b"stay%d" % n for n in range(600)} <= seen
    assert steps < 1000
