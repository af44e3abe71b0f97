"""The list group (without its blocking forms) against the oracle: every command, option, state and odd number.

LPUSH RPUSH LPUSHX RPUSHX LPOP RPOP LLEN LINDEX LRANGE LSET LINSERT LREM LTRIM LPOS LMOVE RPOPLPUSH LMPOP.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.client import Reply
from tests.differential import INTEGERS, ODD_WORDS, STATES, from_each, table

if TYPE_CHECKING:
    from tests.differential import Pair
    from tests.servers import Server

AFTER = "TYPE k\nLLEN k\nLRANGE k 0 -1\nTTL k"
LISTS = {**STATES, "repeats": "RPUSH k a b a c a b", "volatile": "RPUSH k a b\nEXPIRE k 1000", "one": "RPUSH k a"}
SIZES = [1, 127, 128, 129, 255, 256, 257, 511, 512, 513, 3000]
OFFSETS = [str(n) for n in range(-8, 9)]
# Redis keeps 32 bits of LSET's index, so these name the elements 0, -1 and 0 there; here they name none.
TRUNCATED = ["4294967296", "9223372036854775807", "-9223372036854775808"]
SANE = [number for number in INTEGERS if number not in TRUNCATED]


def filled(size: int, key: str = "k") -> list[tuple[object, ...]]:
    """Return the commands that make a list of `size` elements e0.., pushed to its end."""
    return [("RPUSH", key, *(f"e{n}" for n in range(start, min(start + 500, size)))) for start in range(0, size, 500)]


def test_elements_keep_words_whole(pair: Pair):
    """Any bytes, any length, as key and element, come back as they went in, from both ends and the middle."""
    script = []
    for word in ODD_WORDS:
        script += [
            f"RPUSH {word} e",
            f"LRANGE {word} 0 -1",
            f"RPUSH k {word}",
            f"LPUSH k {word}",
            f"LPOS k {word}",
            "LINDEX k -1",
        ]
        script += [f"LSET k 0 {word}", f"LINSERT k AFTER {word} {word}", f"LREM k 1 {word}", "LLEN k"]
    script += [
        "LRANGE k 0 -1",
        *(f"LREM k -1 {word}" for word in ODD_WORDS),
        "LLEN k",
        *["LPOP k", "RPOP k"] * len(ODD_WORDS),
    ]
    pair.run([*script, "EXISTS k"])


def test_writing_and_reading_from_every_state(pair: Pair):
    """Every command that takes one list answers and leaves alike from every state, with wrong arities refused."""
    commands = """
        LPUSH k x
        LPUSH k x y z
        LPUSH k
        LPUSH
        RPUSH k x
        RPUSH k x y z
        RPUSH k ""
        RPUSH k
        LPUSHX k x
        LPUSHX k x y
        LPUSHX k
        RPUSHX k x
        RPUSHX k x y
        RPUSHX k
        LPOP k
        RPOP k
        LPOP
        RPOP
        LPOP k 1 2
        RPOP k 1 2
        LLEN k
        LLEN
        LLEN k k
        LINDEX k
        LINDEX k 0 1
        LRANGE k 0
        LRANGE k 0 1 2
        LSET k 0
        LSET k 0 x y
        LINSERT k BEFORE a
        LINSERT k BEFORE a x y
        LREM k 0
        LREM k 0 a b
        LTRIM k 0
        LTRIM k 0 1 2
        OBJECT ENCODING k
    """
    pair.run(from_each(LISTS.values(), commands, AFTER))


def test_pops_with_counts(pair: Pair):
    """LPOP and RPOP with a count: none, some, all, more; odd counts refused; the key goes with its last element."""
    pair.run(from_each(LISTS.values(), table(["LPOP k", "RPOP k"], INTEGERS), AFTER))
    pair.run(
        [
            *filled(1000),
            "LPOP k 300",
            "RPOP k 300",
            "LLEN k",
            "LRANGE k 0 -1",
            "LPOP k 0",
            "RPOP k 5000",
            "EXISTS k",
            "LPOP k 0",
        ]
    )


def test_every_pair_of_offsets(pair: Pair):
    """LRANGE and LTRIM cut alike for every pair of offsets in and around a list; LINDEX and LSET for every one."""
    made = "RPUSH k a b c d e f"
    pair.run(["DEL k", made, *table("LRANGE k", OFFSETS, OFFSETS), *table("LINDEX k", [*OFFSETS, *INTEGERS])])
    pair.run(
        from_each([made], [*table("LTRIM k", OFFSETS, OFFSETS), *table("LSET k", [*OFFSETS, *SANE], "new")], AFTER)
    )
    pair.run(from_each(LISTS.values(), table(["LRANGE k", "LTRIM k"], INTEGERS, ["0", "-1", "a"]), AFTER))
    pair.run(from_each(LISTS.values(), table(["LRANGE k", "LTRIM k"], ["0", "-1", "a"], INTEGERS), AFTER))
    pair.run(
        from_each(LISTS.values(), [*table("LSET k", ["0", "-1", "9", "a"], "new"), "LINDEX k 0", "LINDEX k a"], AFTER)
    )


def test_inserting_and_removing(pair: Pair):
    """LINSERT finds the first pivot; LREM removes from the side its count says; from every state."""
    inserts = table(
        "LINSERT k", ["BEFORE", "AFTER", "before", "BETWEEN", '""'], ["a", "b", "c", "missing", '""'], "new"
    )
    removes = table("LREM k", INTEGERS, ["a", "b", "missing"])
    pair.run(from_each(LISTS.values(), [*inserts, *removes], AFTER))


def test_positions(pair: Pair):
    """LPOS with every combination of RANK, COUNT and MAXLEN, in and out of range, and words it does not know."""
    ranks = [
        "",
        "RANK 1",
        "RANK 2",
        "RANK -1",
        "RANK -2",
        "RANK 9",
        "RANK 0",
        "RANK a",
        "RANK -9223372036854775808",
        "RANK",
    ]
    counts = ["", "COUNT 0", "COUNT 1", "COUNT 2", "COUNT 99", "COUNT -1", "COUNT a", "COUNT"]
    lengths = ["", "MAXLEN 0", "MAXLEN 1", "MAXLEN 3", "MAXLEN 99", "MAXLEN -1", "MAXLEN a"]
    lines = table("LPOS k", ["a", "c", "missing"], ranks, counts, lengths)
    pair.run(["RPUSH k a b a c a b 1 2 3 a", *lines])
    pair.run(
        from_each(
            LISTS.values(),
            [
                "LPOS k a",
                "LPOS k a COUNT 0",
                "LPOS k a RANK -1 COUNT 2",
                "LPOS k a BOGUS 1",
                "LPOS k",
                "LPOS",
                "LPOS k a RANK 0",
            ],
        )
    )


def test_moving(pair: Pair):
    """LMOVE and RPOPLPUSH between every pair of states, every pair of sides, and within one list."""
    states = [state for state in LISTS.values() if " k" in state]
    moves = table("LMOVE s t", ["LEFT", "RIGHT", "left"], ["LEFT", "RIGHT"])
    script = []
    for source in states:
        for target in states:
            for move in [*moves, "RPOPLPUSH s t"]:
                made = [*source.replace(" k", " s").splitlines(), *target.replace(" k", " t").splitlines()]
                script += [
                    "DEL s t",
                    *made,
                    move,
                    "TYPE s",
                    "TYPE t",
                    "TTL s",
                    "TTL t",
                    "LRANGE s 0 -1",
                    "LRANGE t 0 -1",
                ]
    pair.run(script)
    within = [*table("LMOVE k k", ["LEFT", "RIGHT"], ["LEFT", "RIGHT"]), "RPOPLPUSH k k"]
    wrong = [
        "LMOVE k t UP LEFT",
        "LMOVE k t LEFT DOWN",
        "LMOVE k t LEFT",
        "LMOVE k t LEFT LEFT LEFT",
        "RPOPLPUSH k",
        "RPOPLPUSH k a b",
        "LMOVE",
    ]
    pair.run(from_each(LISTS.values(), [*within, *wrong], AFTER))


def test_popping_from_the_first_of_many(pair: Pair):
    """LMPOP takes from the first list that is there, as many as there are; key counts and words in every wrong form."""
    setup = ["DEL a b w", "RPUSH a 1 2 3", "RPUSH b x y", "SET w v"]
    keys = ["1 a", "2 a b", "2 missing b", "1 missing", "2 w a", "2 a w", "2 missing w", "3 missing missing a", "1 w"]
    options = [
        "",
        "COUNT 1",
        "COUNT 2",
        "COUNT 99",
        "COUNT 0",
        "COUNT -1",
        "COUNT a",
        "COUNT",
        "BOGUS",
        "COUNT 1 COUNT 2",
        "count 1",
    ]
    script = []
    for line in table("LMPOP", keys, ["LEFT", "RIGHT", "left", "UP", ""], options):
        script += [*setup, line, "LRANGE a 0 -1", "LRANGE b 0 -1"]
    pair.run(
        [
            *script,
            *table("LMPOP", INTEGERS, ["a LEFT", "a b RIGHT", "LEFT"]),
            "LMPOP",
            "LMPOP 1",
            "LMPOP 1 a",
            "LMPOP 2 a b",
        ]
    )


@pytest.mark.parametrize("size", SIZES)
def test_sizes_around_every_threshold(pair: Pair, size: int):
    """A list of any size answers by index and range, takes insertions and removals anywhere, and ends as nothing."""
    chance = random.Random(size)
    script: list[object] = [
        *filled(size),
        "LLEN k",
        "OBJECT ENCODING k",
        "LRANGE k 0 -1",
        *table("LINDEX k", [str(size // 2), str(-size), str(size), "-1"]),
    ]
    for n in range(120):
        at = chance.randrange(size)
        where = chance.choice(("BEFORE", "AFTER"))
        script.append(
            chance.choice(
                (
                    ("LINSERT", "k", where, f"e{at}", f"new{n}"),
                    ("LINSERT", "k", where, f"e{size // 2}", f"mid{n}"),  # many in one place split its block
                    ("LREM", "k", chance.choice((0, 1, -1)), f"e{at}"),
                    ("LSET", "k", chance.choice((at, -at - 1)), f"set{n}"),
                    ("LPOS", "k", f"e{at}", "RANK", chance.choice((1, -1))),
                    ("LPUSH", "k", f"left{n}"),
                    ("RPOP", "k"),
                )
            )
        )
        script += [("LLEN", "k"), ("LINDEX", "k", chance.randrange(-size, size)), ("LRANGE", "k", at, at + 20)]
    script += [
        "LRANGE k 0 -1",
        "COPY k c",
        "RENAME k r",
        f"LTRIM r {size // 4} {-size // 4}",
        "LRANGE r 0 -1",
        "LRANGE c 0 -1",
    ]
    script += [
        *["LMOVE c r LEFT RIGHT", "LMOVE r c LEFT LEFT"] * 5,
        f"LPOP c {size // 2}",
        "LRANGE c 0 -1",
        "LMPOP 2 missing r LEFT COUNT 100",
    ]
    pair.run([*script, f"RPOP c {size * 3}", "EXISTS c", "LTRIM r 1 0", "EXISTS r"])


def test_one_gap_filled_very_often(pair: Pair):
    """A thousand insertions between the same two neighbours keep their order, from either side."""
    script: list[object] = ["RPUSH k first last"]
    script += [("LINSERT", "k", "AFTER", "first", n) for n in range(1000)]
    script += [("LINSERT", "k", "BEFORE", "last", -n) for n in range(1000)]
    pair.run([*script, "LLEN k", "LRANGE k 0 -1", "LINDEX k 1000", "LPOS k 500", "LPOS k -999"])


def test_repeats_removed_in_the_middle(pair: Pair):
    """LREM over a long list of few distinct elements removes the right ones from either side."""
    chance = random.Random(5)
    script: list[object] = [("RPUSH", "k", *chance.choices("abcde", k=2000))]
    for count in (0, 1, -1, 7, -7, 100, -100):
        for word in "abc":
            script += [
                ("LREM", "k", count, word),
                "LLEN k",
                ("LPOS", "k", word),
                ("LPOS", "k", word, "RANK", -3, "COUNT", 4),
            ]
    pair.run([*script, "LRANGE k 0 -1", "LREM k 0 d", "LREM k 0 e", "EXISTS k"])


def test_index_beyond_32_bits_names_no_element(ours: Server):
    """LSET refuses an index that only means an element when its upper half is lost."""
    client = ours.client()
    client.call("RPUSH", "k", "a", "b")
    for index in TRUNCATED:
        assert client.call("LSET", "k", index, "new") == Reply("-", b"ERR index out of range")

    assert client.call("LRANGE", "k", 0, -1).plain() == [b"a", b"b"]


@pytest.mark.parametrize("uneven", [False, True])
def test_a_large_list(pair: Pair, uneven: bool):
    """Forty thousand elements: by index from both ends, ranges, moves, pops with counts, cuts to much and to little."""
    size = 40_000
    script: list[object] = [*filled(size)]
    if uneven:
        script += ["LINSERT k AFTER e20000 in", "LREM k 1 e10", f"LREM k -1 e{size - 10}", "LINSERT k BEFORE e30000 in"]
    places = [0, 1, 127, 128, 129, 255, 256, 9999, 20_000, 20_001, size - 2, size - 1, size, size + 1]
    script += table("LINDEX k", [str(place) for place in places] + [str(-place) for place in places])
    script += [f"LRANGE k {place} {place + width}" for place in places for width in (0, 1, 9, 300)]
    script += [f"LRANGE k {-place} {-place + width}" for place in places for width in (0, 1, 9, 300)]
    script += [
        "LRANGE k 0 -1",
        "LPOS k e39000",
        "LPOS k e39000 RANK -1",
        "LPOS k e39000 MAXLEN 39000",
        "LPOS k in COUNT 0",
    ]
    script += ["LPOP k 3000", "RPOP k 3000", "LPUSH k x y z", "RPUSH k x y z", "LREM k 0 x", "LREM k 0 nothing"]
    script += ["LSET k 5000 set", "LINDEX k 5000", "LSET k -5000 set", "LRANGE k 4990 5010", "COPY k c", "LLEN k"]
    script += [*["LMOVE k k LEFT RIGHT", "LMOVE k c RIGHT LEFT", "RPOPLPUSH c k"] * 30, "LTRIM k 100 -100", "LLEN k"]
    script += ["LRANGE k 0 50", "LTRIM k 15000 15020", "LRANGE k 0 -1", "LPUSH k l", "RPUSH k r", "LINDEX k 10"]
    pair.run([*script, "LTRIM c 10 -30000", "LRANGE c 0 -1", "LPOP c 100000", "EXISTS c"])


def test_a_queue_stays_itself(pair: Pair):
    """A capped list, a queue with a list of work under way, and a ring: the ways lists are used, for a while."""
    script: list[object] = ["RPUSH ring a b c", "EXPIRE ring 1000"]
    for n in range(600):
        script += [("LPUSH", "log", f"line{n}"), "LTRIM log 0 49"]
        script += [("LPUSH", "todo", n), ("LPUSH", "todo", n, -n)]
        script += ["LMOVE todo doing RIGHT LEFT", "RPOPLPUSH todo doing", ("LREM", "doing", -1, n // 3)]
        script += ["LMOVE ring ring LEFT RIGHT", "LINDEX ring 0"]
    script += ["LRANGE log 0 -1", "LRANGE todo 0 -1", "LRANGE doing 0 -1", "TTL ring"]
    pair.run([*script, *["LPOP doing", "RPOP doing", "LINDEX doing 3", "LINDEX doing -3"] * 100, "LLEN doing"])


def test_one_request_may_push_and_pop_very_much(pair: Pair):
    """Thousands of elements in one request, onto an even list and onto an uneven one, from either side."""
    many = [f"e{n}" for n in range(5000)]
    script: list[object] = []
    for made in ("EXISTS k", "RPUSH k a b c", "RPUSH k a b c d\nLREM k 1 b"):
        for push, pop in (("LPUSH", "RPOP"), ("RPUSH", "LPOP")):
            script += ["DEL k", *made.splitlines(), (push, "k", *many), ("LPUSHX", "k", *many), "LINDEX k 7000"]
            script += [f"{pop} k 4000", "LINDEX k 2000", "LREM k 0 e1", "LRANGE k 0 -1", f"{pop} k 100000", "EXISTS k"]
    pair.run(script)


def test_encoding_names(pair: Pair):
    """OBJECT ENCODING turns from listpack to quicklist at the configured size, as Redis's does."""
    pair.run(
        from_each(
            ["RPUSH k a", "RPUSH k <8000>", "RPUSH k <9000>", "RPUSH k <4000> <4000>", "RPUSH k <4000> <5000>"],
            ["OBJECT ENCODING k"],
        )
    )
    pair.run(
        ["CONFIG SET list-max-listpack-size 3", "RPUSH k a b c", "OBJECT ENCODING k", "RPUSH k d", "OBJECT ENCODING k"]
    )
