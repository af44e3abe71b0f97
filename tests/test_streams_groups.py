"""Consumer groups against the oracle: XGROUP XREADGROUP XACK XPENDING XCLAIM XAUTOCLAIM, and XINFO of groups and consumers.

Who is idle how long is compared with a tolerance (`differential`), so idle times that decide something are 0, or hours.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.differential import INTEGERS, ODD_WORDS, STATES, from_each, table

if TYPE_CHECKING:
    from tests.differential import Pair

AFTER = "XINFO STREAM k FULL\nXINFO GROUPS k\nXPENDING k g\nXPENDING k g - + 99\nXINFO CONSUMERS k g"
ENTRIES = "XADD k 1-1 a 1\nXADD k 1-2 b 2\nXADD k 3-0 c 3\nXADD k 4-0 d 4\nXADD k 9-9 e 5"
NEW = f"{ENTRIES}\nXGROUP CREATE k g 0"
READ = f"{NEW}\nXREADGROUP GROUP g ann COUNT 2 STREAMS k >\nXREADGROUP GROUP g bob COUNT 2 STREAMS k >"
GONE = f"{READ}\nXDEL k 1-2 3-0"
TRIMMED = f"{READ}\nXTRIM k MAXLEN 1"
BACK = f"{READ}\nXGROUP SETID k g 1-1"
LATE = f"{ENTRIES}\nXGROUP CREATE k g $"
GROUPS = {
    **STATES,
    "new": NEW,
    "read": READ,
    "gone": GONE,
    "trimmed": TRIMMED,
    "back": BACK,
    "late": LATE,
    "empty": "XGROUP CREATE k g $ MKSTREAM",
    "no group": ENTRIES,
    "counted": f"{ENTRIES}\nXGROUP CREATE k g 0 ENTRIESREAD 0",
    "middle": f"{ENTRIES}\nXGROUP CREATE k g 1-2",
}
ODD_IDS = [
    *INTEGERS,
    "-",
    "+",
    "*",
    "$",
    ">",
    "1-*",
    "1-",
    "-1",
    "(1-1",
    '"1-1\\x00"',
    *('"$\\x00"', '">\\x00"', '"+\\x00"', '"-\\x00"', '"$\\x00a"', '"\\x00$"', '"$$"'),
    "1--1",
    "1-18446744073709551616",
]
# Idle times that two servers see alike: not a few ms, by which one may be later than the other.
IDLE_TIMES = [word for word in INTEGERS if word not in {"1", "2", "3", "10", "100"}]


def test_making_and_changing_groups(pair: Pair):
    """XGROUP CREATE and SETID with every id and option, from every state; a name is taken once."""
    options = [
        "",
        "MKSTREAM",
        "ENTRIESREAD 2",
        "ENTRIESREAD -1",
        "MKSTREAM ENTRIESREAD 2",
        "ENTRIESREAD 0 MKSTREAM",
        "mkstream",
    ]
    ids = ["0", "$", "1-2", "3", "9-9", "99"]
    pair.run(from_each(GROUPS.values(), table("XGROUP CREATE k g", ids, options), AFTER))
    pair.run(
        from_each(
            GROUPS.values(),
            table("XGROUP SETID k g", [*ids, "-", "+"], ["", "ENTRIESREAD 2", "ENTRIESREAD 99", "ENTRIESREAD -1"]),
            AFTER,
        )
    )
    odd = [
        "ENTRIESREAD",
        "BOGUS",
        "ENTRIESREAD -2",
        "MKSTREAM MKSTREAM MKSTREAM MKSTREAM",
        "ENTRIESREAD 1 ENTRIESREAD 2",
        "MKSTREAM 1",
    ]
    pair.run(
        from_each([NEW], table(["xgroup create k h 0", "Xgroup setId k g 0"], ["FOO", "MKSTREAM 1 2 3", "ENTRIESREAD"]))
    )
    script = [
        *table(["XGROUP CREATE k h", "XGROUP SETID k g"], "0", odd),
        *table(["XGROUP CREATE k h", "XGROUP SETID k g"], ODD_IDS),
    ]
    script += table(["XGROUP CREATE k h 0 ENTRIESREAD", "XGROUP SETID k g 0 ENTRIESREAD"], INTEGERS)
    script += [
        "XGROUP",
        "XGROUP CREATE",
        "XGROUP CREATE k",
        "XGROUP CREATE k h",
        "XGROUP BOGUS k g",
        "XGROUP SETID k no 0",
        "XGROUP HELP",
        "XGROUP HELP x",
    ]
    pair.run(from_each([NEW, STATES["nothing"], STATES["set"]], script, "XINFO GROUPS k"))


def test_removing_groups_and_consumers(pair: Pair):
    """DESTROY and DELCONSUMER take what is pending with them; CREATECONSUMER makes what is not there; all from every state."""
    lines = table(["XGROUP DESTROY k"], ["g", "no", "g x", ""])
    lines += table(["XGROUP CREATECONSUMER k", "XGROUP DELCONSUMER k"], ["g", "no"], ["ann", "new", "", "ann x"])
    pair.run(from_each(GROUPS.values(), lines, AFTER))
    again = "XGROUP DESTROY k g\nXGROUP CREATE k g 0\nXINFO STREAM k FULL\nXREADGROUP GROUP g ann STREAMS k >\nXGROUP DELCONSUMER k g ann"
    pair.run(
        from_each([READ, GONE, TRIMMED], ["XACK k g 1-1", "XGROUP DELCONSUMER k g bob"], f"{AFTER}\n{again}\n{AFTER}")
    )


def test_reading_for_a_group(pair: Pair):
    """XREADGROUP of what is new and of what is pending, with every option, from every state."""
    ids = [">", "0", "1-1", "3", "9-9", "99", "18446744073709551615-18446744073709551615"]
    options = ["", "COUNT 1", "COUNT 2 NOACK", "NOACK", "COUNT 0", "COUNT -3", "noack count 1"]
    lines = table("XREADGROUP GROUP g", ["ann", "new"], options, "STREAMS k", ids)
    pair.run(from_each(GROUPS.values(), lines, AFTER))
    odd = [
        "XREADGROUP GROUP g c STREAMS k", "XREADGROUP GROUP g c STREAMS k > >", "XREADGROUP GROUP g c COUNT a STREAMS k >",
        "XREADGROUP COUNT 1 STREAMS k k > >", "XREADGROUP GROUP g c NOACK NOACK STREAMS k >", "XREADGROUP GROUP g c BOGUS STREAMS k >",
        "XREADGROUP NOACK GROUP g c STREAMS k >", "XREADGROUP GROUP no c STREAMS k >", "XREADGROUP GROUP g c COUNT 1 k > x x",
        "XREADGROUP GROUP g c BLOCK 0 STREAMS k 0", "XREADGROUP GROUP g c BLOCK a STREAMS k 0", "XREADGROUP GROUP g c BLOCK -1 STREAMS k 0",
        "XREADGROUP GROUP a b GROUP g c STREAMS k >", "XREADGROUP STREAMS k > GROUP g c x", "XREADGROUP", 'XREADGROUP GROUP "g\\r\\n" c STREAMS k >',
    ]  # fmt: skip
    pair.run(
        from_each(
            [READ, STATES["nothing"], STATES["string"]],
            [*odd, *table("XREADGROUP GROUP g c STREAMS k", ODD_IDS)],
            "XINFO GROUPS k",
        )
    )


def test_reading_several_streams(pair: Pair):
    """Of several streams those with something new are told; one without the group, or no stream, refuses all of them."""
    setup = [
        "DEL a b w",
        "XADD a 1-1 x 1",
        "XADD a 2-1 x 2",
        "XADD b 2-5 y 1",
        "XGROUP CREATE a g 0",
        "XGROUP CREATE b g 0",
        "SET w v",
    ]
    script: list[object] = []
    for words in (
        "a b > >",
        "a b 0 >",
        "a b > 0",
        "b a 0 0",
        "a a > >",
        "a a > 0",
        "a missing > >",
        "w a > >",
        "a w > 0",
        "a b c > > >",
        "a b $ >",
        "a b > x",
    ):
        script += [
            *setup,
            f"XREADGROUP GROUP g c STREAMS {words}",
            f"XREADGROUP GROUP g c COUNT 1 STREAMS {words}",
            f"XREADGROUP GROUP g c BLOCK 1 STREAMS {words}" if "0" in words else "PING",
        ]
        script += ["XINFO STREAM a FULL", "XINFO STREAM b FULL"]
    pair.run(script)


def test_acknowledging(pair: Pair):
    """XACK counts what was pending, once; what is deleted or trimmed may be acknowledged as well."""
    ids = ["1-1", "1-1 1-1", "1-2 3-0", "1-1 1-2 3-0 4-0 9-9", "9-9", "77", "1", "3"]
    pair.run(from_each(GROUPS.values(), [*table("XACK k g", ids), "XACK k no 1-1"], AFTER))
    pair.run(
        from_each(
            [READ, STATES["nothing"], STATES["zset"]],
            [*table("XACK k g", ODD_IDS), *table("XACK k g 1-1", ODD_IDS), "XACK k g", "XACK"],
            "XPENDING k g",
        )
    )


def test_what_is_pending(pair: Pair):
    """XPENDING in sum and by range, of all and of one consumer, with IDLE, from every state."""
    ranges = ["- + 9", "- + 1", "- + 0", "- + -1", "1-2 3 9", "(1-1 (4 9", "3 1 9", "+ - 9", "1 1 9"]
    lines = table("XPENDING k g", ["", "IDLE 0", "IDLE 3600000", "idle -5"], ranges, ["", "ann", "bob", "no"])
    pair.run(from_each(GROUPS.values(), [*lines, "XPENDING k g", "XPENDING k no", "XPENDING k no - + 1"]))
    odd = [
        "-",
        "- +",
        "- + a",
        "- + 1 ann x",
        "IDLE",
        "IDLE 1",
        "IDLE a - + 1",
        "IDLE 1 - +",
        "IDLE 1 -",
        "IDLE 1 - + 1 ann x",
        "BOGUS 1 - + 1",
        "(+ - 1",
        "- (0-0 1",
    ]
    odd += [
        *table(ODD_IDS, "+ 1"),
        *table("-", ODD_IDS, "1"),
        *table("- +", INTEGERS),
        *table("IDLE", IDLE_TIMES, "- + 9"),
    ]
    pair.run(
        from_each([READ, STATES["nothing"], STATES["hash"]], [*table("XPENDING k g", odd), "XPENDING", "XPENDING k"])
    )


def test_claiming(pair: Pair):
    """XCLAIM with every option, alone and together, of what is pending, is not, is deleted, and is the claimer's own."""
    options = [
        "", "JUSTID", "FORCE", "FORCE JUSTID", "IDLE 1000", "TIME 1000", "RETRYCOUNT 7", "RETRYCOUNT 7 JUSTID", "LASTID 99", "LASTID 1",
        "RETRYCOUNT -1", "IDLE -1", "TIME 99999999999999", "force justid retrycount 0 idle 5000 lastid 7", "FORCE RETRYCOUNT 3",
    ]  # fmt: skip
    ids = ["1-1", "1-1 1-2 3-0 4-0 9-9", "9-9", "3", "77-7", "4-0 1-1 4-0"]
    lines = [*table("XCLAIM k g ann 0", ids[1], options), *table("XCLAIM k g new 0", ids, ["", "JUSTID", "FORCE"])]
    pair.run(from_each(GROUPS.values(), lines, AFTER))
    pair.run(from_each([GONE], table("XCLAIM k g", ["bob", "new"], "0", ids, options), AFTER))
    pair.run(from_each([READ, GONE], table("XCLAIM k g bob", ["3600000", "-5"], "1-1 1-2 9-9", ["", "FORCE"]), AFTER))
    old = "XCLAIM k g ann 0 1-1 1-2 3-0 4-0 TIME 1000 JUSTID"
    pair.run(
        from_each(
            [f"{READ}\n{old}"],
            table(
                ["XCLAIM k g new 3600000 1-1 1-2", "XPENDING k g IDLE 3600000 - + 9", "XAUTOCLAIM k g new 3600000 0"]
            ),
            AFTER,
        )
    )


def test_claiming_wrongly(pair: Pair):
    """XCLAIM refuses words it does not know and numbers that are none, before it has changed anything."""
    odd = [
        "BOGUS",
        "IDLE",
        "TIME",
        "RETRYCOUNT",
        "LASTID",
        "IDLE a",
        "TIME a",
        "RETRYCOUNT a",
        "LASTID a",
        "LASTID -",
        "FORCE BOGUS",
        "FORCE 1-1",
    ]
    odd += table(["IDLE", "TIME", "RETRYCOUNT"], [one for one in INTEGERS if one[:5] not in {"-9223", "92233"}])
    lines = [
        *table("XCLAIM k g ann 0 1-1", odd),
        *table("XCLAIM k g ann", IDLE_TIMES, "1-1"),
        *table("XCLAIM k g ann 0", ODD_IDS),
        *table("XCLAIM k g ann 0 1-1", ODD_WORDS[:9]),
    ]
    lines += [
        "XCLAIM k g ann 0",
        "XCLAIM",
        "XCLAIM k no ann a 1-1",
        "XCLAIM k g ann 0 FORCE",
        "XCLAIM k g new 0 JUSTID",
    ]
    pair.run(from_each([READ, STATES["nothing"], STATES["list"]], lines, AFTER.partition("\n")[0]))


def test_claiming_in_a_row(pair: Pair):
    """XAUTOCLAIM claims from an id on, says where to go on, and which entries are gone; with every option, from every state."""
    lines = table(
        "XAUTOCLAIM k g",
        ["ann", "new"],
        "0",
        ["0", "-", "1-2", "(1-2", "4", "99", "+"],
        ["", "COUNT 1", "COUNT 2 JUSTID", "justid", "COUNT 99"],
    )
    pair.run(from_each(GROUPS.values(), lines, AFTER))
    pair.run(
        from_each([READ, GONE, TRIMMED], table("XAUTOCLAIM k g bob", ["3600000", "-5"], "0", ["", "COUNT 1"]), AFTER)
    )
    odd = [
        "COUNT 0",
        "COUNT -1",
        "COUNT",
        "COUNT 576460752303423487",
        "COUNT 576460752303423488",
        "BOGUS",
        "JUSTID JUSTID",
        "COUNT 1 COUNT 2",
    ]
    counts = [
        one for one in INTEGERS if one not in {"2147483647", "2147483648", "4294967296"}
    ]  # how much memory there is decides
    lines = [
        *table("XAUTOCLAIM k g ann 0 0", odd),
        *table("XAUTOCLAIM k g ann 0", ODD_IDS),
        *table("XAUTOCLAIM k g ann", IDLE_TIMES, "0"),
    ]
    lines += [
        *table("XAUTOCLAIM k g ann 0 0 COUNT", counts),
        "XAUTOCLAIM k g ann 0",
        "XAUTOCLAIM k no ann 0 0",
        "XAUTOCLAIM",
    ]
    pair.run(from_each([READ, STATES["nothing"], STATES["set"]], lines, "XPENDING k g"))


def test_going_on_where_claims_ended(pair: Pair):
    """XAUTOCLAIM, called with what it returned, goes through everything pending, looking at ten for each it may claim."""
    script: list[object] = [("XADD", "k", f"{n}-1", "n", n) for n in range(1, 301)]
    script += [
        "XGROUP CREATE k g 0",
        "XREADGROUP GROUP g ann COUNT 200 STREAMS k >",
        "XCLAIM k g bob 0 77-1 88-1 150-1 TIME 1000 JUSTID",
    ]
    script += [("XDEL", "k", *(f"{n}-1" for n in range(20, 60)))]
    for start in ("0", "5-1", "11-1", "31-1", "70-1", "81-1", "149-1", "151-1", "190-1"):
        script += [f"XAUTOCLAIM k g new 3600000 {start} COUNT 1 JUSTID", "XPENDING k g"]
    script += [
        "XAUTOCLAIM k g new 0 0 COUNT 7",
        "XAUTOCLAIM k g new 0 8 COUNT 30 JUSTID",
        "XINFO CONSUMERS k g",
        "XINFO STREAM k FULL COUNT 0",
    ]
    pair.run(
        [*script, "XAUTOCLAIM k g new 0 0 COUNT 500 JUSTID", "XINFO CONSUMERS k g", "XACK k g 1-1 2-1", "XPENDING k g"]
    )


def test_names_are_kept_whole(pair: Pair):
    """Any bytes, any length, name a group and a consumer, and lists of them are in the order of their bytes."""
    script: list[object] = ["XADD k 1-1 a 1", "XADD k 2-1 a 1", "XADD k 3-1 a 1"]
    for word in ODD_WORDS:
        script += [
            f"XGROUP CREATE k {word} 0",
            f"XREADGROUP GROUP {word} {word} COUNT 2 STREAMS k >",
            f"XREADGROUP GROUP {word} other COUNT 2 STREAMS k >",
        ]
        script += [
            f"XGROUP CREATECONSUMER k g {word}",
            f"XPENDING k {word}",
            f"XPENDING k {word} - + 9 {word}",
            f"XINFO CONSUMERS k {word}",
        ]
        script += [
            f"XREADGROUP GROUP {word} {word} STREAMS k 0",
            f"XPENDING missing {word}",
            f"XINFO CONSUMERS k {word}x",
            f"XGROUP DELCONSUMER {word} {word} x",
        ]
    script += ["XGROUP CREATE k g 0"]
    script += [f"XREADGROUP GROUP g {word} COUNT 1 STREAMS k >" for word in ODD_WORDS]
    script += [
        "XINFO GROUPS k",
        "XINFO CONSUMERS k g",
        "XPENDING k g",
        "XINFO STREAM k FULL",
        "COPY k c",
        "XINFO STREAM c FULL",
    ]
    for word in ODD_WORDS:
        script += [
            f"XCLAIM k g {word} 0 1-1",
            "XPENDING k g - + 9",
            f"XGROUP DELCONSUMER k {word} {word}",
            f"XGROUP DESTROY k {word}",
        ]
    pair.run([*script, "XINFO STREAM k FULL"])


def test_lag(pair: Pair):
    """What a group has read and has still to read is known and unknown as in Redis, whatever is added, deleted and trimmed."""
    script: list[object] = []
    for seed in range(12):
        chance = random.Random(seed)
        script += ["DEL k", "XGROUP CREATE k g 0 MKSTREAM" + chance.choice(("", " ENTRIESREAD 0", " ENTRIESREAD 3"))]
        last = 0
        for _ in range(60):
            last += chance.choice((0, 0, 1))
            at = chance.randrange(last + 2)
            script.append(
                chance.choice(
                    (
                        f"XADD k {last + 1}-1 a b", f"XADD k {last + 2}-1 a b", f"XADD k {last + 1}-1 a b", f"XDEL k {at}-1",
                        f"XREADGROUP GROUP g c COUNT {chance.choice((1, 1, 2, 9))} STREAMS k >", f"XGROUP SETID k g {chance.choice((f'{at}-1', '$', '0'))}",
                        f"XTRIM k MAXLEN {chance.randrange(4)}", f"XTRIM k MINID {at}", f"XGROUP SETID k g {at}-1 ENTRIESREAD {chance.randrange(9)}",
                        "XREADGROUP GROUP g c NOACK STREAMS k >", f"XSETID k {last + 9}-1 ENTRIESADDED {chance.randrange(40)}",
                        f"XCLAIM k g c 0 {at}-1 LASTID {at}-1", f"XGROUP CREATE k g{at} {at}-1",
                    )
                )
            )  # fmt: skip
            script.append("XINFO GROUPS k")
    pair.run(script)


@pytest.mark.parametrize("seed", range(6))
def test_everything_at_random(pair: Pair, seed: int):
    """Groups that read, acknowledge, claim, set back and are destroyed, beside additions, deletions and trims, stay the same."""
    chance = random.Random(seed)
    script: list[object] = ["XGROUP CREATE k g 0 MKSTREAM", "XGROUP CREATE k h 0"]
    for last in range(1, 251):
        group, consumer = chance.choice("ggh"), chance.choice(("ann", "bob", "cid", "x" * 600))
        at, other = chance.randrange(1, last + 1), chance.randrange(1, last + 1)
        script += [
            f"XADD k {last}-1 n {last}",
            chance.choice(
                (
                    f"XREADGROUP GROUP {group} {consumer} COUNT 3 STREAMS k >", f"XREADGROUP GROUP {group} {consumer} COUNT 3 STREAMS k >",
                    f"XREADGROUP GROUP {group} {consumer} COUNT 4 STREAMS k {at}", f"XACK k {group} {at}-1 {other}-1", f"XACK k {group} {at}-1",
                    f"XCLAIM k {group} {consumer} 0 {at}-1 {other}-1", f"XCLAIM k {group} {consumer} 0 {at}-1 FORCE RETRYCOUNT 4",
                    f"XAUTOCLAIM k {group} {consumer} 0 {at} COUNT 3", f"XDEL k {at}-1 {other}-1", f"XTRIM k MAXLEN {chance.choice((5, 50))}",
                    f"XGROUP SETID k {group} {at}-1", f"XGROUP DELCONSUMER k {group} {consumer}", f"XPENDING k {group} {at} + 5 {consumer}",
                    f"XPENDING k {group} - + 20", f"XPENDING k {group}", f"XINFO CONSUMERS k {group}", "XINFO GROUPS k",
                    f"XGROUP DESTROY k {chance.choice('gh')}", f"XGROUP CREATE k {group} {at}", f"XGROUP CREATE k {group} $", "COPY k c REPLACE",
                    f"XGROUP CREATECONSUMER k {group} {consumer}", "RENAME k r", "RENAME r k", "RENAME c k",
                )
            ),
        ]  # fmt: skip
    pair.run([*script, "XINFO STREAM k FULL COUNT 0"])
