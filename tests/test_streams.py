"""Streams against the oracle: XADD XLEN XRANGE XREVRANGE XREAD XDEL XTRIM XSETID and XINFO STREAM; `test_streams_groups` has groups.

Ids are given wherever replies are compared: those that the clock makes are looked at by `test_ids_by_the_clock` alone.
"""

from __future__ import annotations

import random
import re
import time
from typing import TYPE_CHECKING

import pytest

from tests.differential import INTEGERS, ODD_WORDS, STATES, from_each, line_words, table

if TYPE_CHECKING:
    from tests.differential import Pair

AFTER = "TYPE k\nXLEN k\nXRANGE k - +\nXINFO STREAM k\nTTL k"
SOME = "XADD k 1-1 a 1\nXADD k 1-2 b 2 c 3\nXADD k 5-0 a 4\nXADD k 7-18446744073709551615 a 5\nXADD k 9 a 6"
GAPS = f"{SOME}\nXADD k 11-1 z z\nXDEL k 1-1 5-0 11-1"
EMPTY = "XADD k 3-3 a b\nXDEL k 3-3"
FULL = "XADD k 18446744073709551615-18446744073709551615 a b"
STREAMS = {
    **STATES,
    "some": SOME,
    "gaps": GAPS,
    "empty": EMPTY,
    "new": "XGROUP CREATE k g 0 MKSTREAM",
    "full": FULL,
    "volatile": "XADD k 4-4 a b\nEXPIRE k 1000",
}
IDS = [
    "0-0", "0", "0-1", "1", "1-0", "1-1", "1-2", "1-3", "5", "5-1", "7-18446744073709551615", "9-0", "9-1", "10", "0-*", "1-*",
    "7-*", "9-*", "12-*", "18446744073709551615-18446744073709551615", "18446744073709551615-*", "18446744073709551615",
]  # fmt: skip
ODD_IDS = [
    *INTEGERS, *ODD_WORDS, "-", "+", "*", "-*", "*-1", "1-", "-1", "--", "1--1", "1-+1", "+1-1", '"\\x201-\\x201"', "1-1-1", "1-*1",
    "1-01", "01-1", "1--07", '"1\\x00-2"', '"1-1\\x00x"', '"*\\x00"', '"-\\x00"', '"1-*\\x00"', "1.5-1", "1e3", "(1-1", "(", "((1",
    "[1", "(-", "(+", "1-18446744073709551616", "$", ">", f"{'0' * 126}1", f"{'0' * 127}1",
]  # fmt: skip
MADE = {"*", '"*\\x00"'}  # by the clock
TRIMS = table(
    ["MAXLEN", "MINID", "maxlen"],
    ["", "=", "~"],
    ["0", "1", "3", "5", "100", "-1", "7", "9-1", "1-2", "a", "", "+", "18446744073709551615"],
    ["", "LIMIT 0", "LIMIT 1", "LIMIT 100", "LIMIT -1", "LIMIT a", "LIMIT"],
)
ODD_TRIMS = [
    "", "~", "=", "LIMIT 1", "LIMIT 0", "MAXLEN", "MAXLEN ~", "MAXLEN =", "MINID", "MINID ~", "MAXLEN 1 MINID 2", "MAXLEN 1 MAXLEN 1",
    "MINID 1 MAXLEN 1", "MAXLEN ~ ~ 1", "MAXLEN ~ = 1", "LIMIT 1 MAXLEN ~ 2", "LIMIT 0 MAXLEN 2", "MAXLEN 2 BOGUS", "NOMKSTREAM",
    "MAXLEN ~ 2 LIMIT 1 LIMIT 2",
]  # fmt: skip

SEVERAL = [
    "DEL a b c w",
    "XADD a 1-1 x 1",
    "XADD a 2-1 x 2",
    "XADD a 3-1 x 3",
    "XADD b 2-5 y 1",
    "XADD c 1 z z",
    "XDEL c 1",
    "SET w v",
]


def filled(size: int, key: str = "k") -> list[tuple[object, ...]]:
    """Return the commands that make a stream of `size` entries, several to a millisecond."""
    return [("XADD", key, f"{n // 7 + 1}-{n % 7}", "n", n) for n in range(size)]


def test_entries_keep_words_whole(pair: Pair):
    """Any bytes, any length, as key, field and value, come back as they went in, as often as they were said."""
    script: list[object] = []
    for n, word in enumerate(ODD_WORDS, 1):
        script += [
            f"XADD {word} 1-1 {word} {word}",
            f"XRANGE {word} - +",
            f"XADD k {n}-1 f {word} {word} g",
            f"XLEN {word}",
        ]
        script += [f"XREAD STREAMS {word} 0", f"XINFO STREAM {word}", f"XDEL {word} 1-1", f"XLEN {word}"]
    script += ["XRANGE k - +", "XREVRANGE k + - COUNT 3", "XADD k 999 a b a b a c", "XREVRANGE k + - COUNT 1"]
    pair.run(script)
    pair.run(
        [("XADD", "many", "1-1", *range(3000)), "XRANGE many - +", "XADD many 2 a", "XADD many 2 a b c", "XADD many 2"]
    )


def test_adding_by_id(pair: Pair):
    """XADD takes every id that is greater than the last, completes a partial one, and refuses the others, from every state."""
    pair.run(from_each(STREAMS.values(), table("XADD k", ["", "NOMKSTREAM"], IDS, "f v"), AFTER))
    pair.run(
        from_each(
            [SOME, STATES["nothing"]],
            table("XADD k", [word for word in ODD_IDS if word not in MADE], "f v"),
            "XRANGE k - +",
        )
    )
    pair.run(
        from_each(
            STREAMS.values(),
            [
                "XADD",
                "XADD k",
                "XADD k *",
                "XADD k 20",
                "XADD k 20 a",
                "XADD k 20 a b c",
                "XADD k * a b c",
                "XADD k NOMKSTREAM 20 a",
            ],
            "EXISTS k",
        )
    )
    pair.run(
        [
            "XADD k 1 a b",
            "XADD k 2-* a b",
            "XADD k 2-* a b",
            "XADD k 2-18446744073709551615 a b",
            "XADD k 2-* a b",
            "XADD k 3 a b",
        ]
    )


def test_adding_and_trimming(pair: Pair):
    """XADD and XTRIM with every strategy, exact and not, with and without LIMIT, in every order; odd ones are refused."""
    pair.run(from_each([GAPS], [f"XTRIM k {trim}" for trim in TRIMS if "~" not in trim], AFTER))  # the rest knows gaps
    pair.run(from_each([SOME], [f"XTRIM k {trim}" for trim in TRIMS], AFTER))
    pair.run(from_each([SOME, STATES["nothing"]], [f"XADD k {trim} 30-* a b" for trim in TRIMS], AFTER))
    pair.run(
        from_each(
            STREAMS.values(), [f"XTRIM k {trim}" for trim in (*ODD_TRIMS, "MAXLEN 2", "MINID 5", "MINID ~ 5")], AFTER
        )
    )
    pair.run(from_each([SOME, STATES["string"]], [f"XADD k {trim} 30-1 a b" for trim in ODD_TRIMS], AFTER))
    pair.run(
        from_each(
            [SOME],
            [
                *table("XTRIM k MAXLEN", INTEGERS),
                *table("XTRIM k MINID", ODD_IDS),
                *table("XTRIM k MAXLEN ~ 2 LIMIT", INTEGERS),
            ],
            "XLEN k",
        )
    )
    pair.run(
        [
            "XADD",
            "XTRIM",
            "XTRIM k",
            "XTRIM k MAXLEN",
            "XADD k MAXLEN 2 LIMIT 1 5 a b",
            "XADD k NOMKSTREAM MAXLEN 2 5 a b",
            "EXISTS k",
        ]
    )


@pytest.mark.parametrize("size", [99, 100, 101, 250, 1000, 3500])
def test_approximate_trimming_of_untouched_streams(pair: Pair, size: int):
    """What was only added to is trimmed by whole hundreds, exactly as Redis does, which keeps a hundred entries in a node."""
    script: list[object] = filled(size, "full")
    for words in (
        "MAXLEN ~ 0",
        "MAXLEN ~ 1",
        "MAXLEN ~ 99",
        "MAXLEN ~ 100",
        "MAXLEN ~ 150",
        f"MAXLEN ~ {size}",
        f"MINID ~ {size // 14}",
    ):
        for limit in ("", "LIMIT 1", "LIMIT 100", "LIMIT 199", "LIMIT 0"):
            script += [
                "COPY full k REPLACE",
                f"XTRIM k {words} {limit}",
                "XLEN k",
                "XRANGE k - + COUNT 2",
                "XINFO STREAM k",
            ]
    pair.run([*script, f"XTRIM k MINID ~ {size}", "XLEN k", "XADD k MAXLEN ~ 100 9999-1 a b", "XLEN k"])


def test_deleting(pair: Pair):
    """XDEL removes the entries that are there, keeps what the head remembers, and leaves an empty stream behind."""
    ids = [
        "1-1",
        "1-2 5-0",
        "1-1 1-1",
        "9",
        "9-0 7-18446744073709551615",
        "3-3",
        "1-1 1-2 5-0 7-18446744073709551615 9-0",
        "4-4",
        "99",
        "0",
    ]
    pair.run(from_each(STREAMS.values(), table("XDEL k", ids), AFTER))
    pair.run(
        from_each(
            [SOME, STATES["nothing"], STATES["hash"]],
            [*table("XDEL k", ODD_IDS), *table("XDEL k 1-1", ODD_IDS), "XDEL k", "XDEL"],
            "XLEN k",
        )
    )


def test_setting_what_a_stream_remembers(pair: Pair):
    """XSETID with every option, below and above what is there, from every state."""
    options = table(
        ["", "ENTRIESADDED 3", "ENTRIESADDED 5", "ENTRIESADDED 100"],
        ["", "MAXDELETEDID 0-0", "MAXDELETEDID 2-2", "MAXDELETEDID 12-0"],
    )
    pair.run(
        from_each(
            STREAMS.values(),
            table("XSETID k", ["0-0", "3-3", "5", "9", "11-1", "12", "18446744073709551615"], options),
            AFTER,
        )
    )
    odd = [
        *table("XSETID k", ODD_IDS),
        *table("XSETID k 20 ENTRIESADDED", INTEGERS),
        *table("XSETID k 20 MAXDELETEDID", ODD_IDS),
    ]
    wrong = ["XSETID k 20 ENTRIESADDED", "XSETID k 20 BOGUS 1", "XSETID k 20 MAXDELETEDID", "XSETID", "XSETID k"]
    pair.run(from_each([SOME, STATES["nothing"], STATES["list"]], [*odd, *wrong], "XINFO STREAM k"))
    end = ["XADD k 1-1 f v", "XSETID k 1-1 ENTRIESADDED 9223372036854775807", "XADD k 2-1 f v", "XINFO STREAM k"]
    pair.run(
        [
            *end,
            "XGROUP CREATE k g 0 ENTRIESREAD 9223372036854775807",
            "XREADGROUP GROUP g c STREAMS k >",
            "XINFO GROUPS k",
        ]
    )


def test_ranges(pair: Pair):
    """XRANGE and XREVRANGE between every two ids, open and closed, whole and partial, with every COUNT."""
    bounds = [
        "-",
        "+",
        "0",
        "1",
        "1-1",
        "(1-1",
        "1-2",
        "(1-2",
        "5",
        "(5",
        "5-1",
        "7",
        "(7-18446744073709551615",
        "9",
        "10",
        "(0-0",
        "(0",
    ]
    bounds.append("(18446744073709551615-18446744073709551615")
    pair.run([*SOME.splitlines(), *table(["XRANGE k", "XREVRANGE k"], bounds, bounds)])
    counts = [
        "",
        "COUNT 1",
        "COUNT 2",
        "COUNT 99",
        "COUNT 0",
        "COUNT -1",
        "COUNT -9",
        "COUNT a",
        "COUNT",
        "BOGUS",
        "COUNT 1 COUNT 2",
        "count 1",
    ]
    counts += ["COUNT 9223372036854775807", "COUNT 1 x"]
    pair.run(
        from_each(
            STREAMS.values(), table(["XRANGE k - +", "XREVRANGE k + -", "XRANGE k 1-2 (9", "XRANGE k + -"], counts)
        )
    )
    pair.run(
        [
            *GAPS.splitlines(),
            *table("XRANGE k", ODD_IDS, "+"),
            *table("XRANGE k -", ODD_IDS),
            *table("XREVRANGE k", ODD_IDS, "-"),
            "XRANGE k",
            "XRANGE",
            "XREVRANGE k -",
        ]
    )
    pair.run(
        from_each(
            STREAMS.values(),
            ["XLEN k", "XLEN", "XLEN k k", "XRANGE k - + COUNT 1", "TYPE k", "OBJECT ENCODING k", "EXISTS k"],
        )
    )


def test_reading(pair: Pair):
    """XREAD of one and several streams after every id, with COUNT, BLOCK where there is something, and words out of place."""
    streams = [
        "a 0", "a 1-1", "a 3-1", "a $", "a +", "b +", "c +", "missing +", "c 0", "missing 0", "w 0", "a b 0 0", "a b 3 0", "a b c 3 9 0",
        "a a 0 2", "a b $ 0", "missing a 0 0", "a w 0 0", "w a 0 0", "a >", "a b 0 >", "a", "a b 0", "a b c 0 0", "a -", "a b 1-1 x",
        "a 18446744073709551615-18446744073709551615", "a 2", "a 1-18446744073709551615",
    ]  # fmt: skip
    options = [
        "",
        "COUNT 1",
        "COUNT 0",
        "COUNT -1",
        "COUNT 2",
        "COUNT a",
        "COUNT",
        "BOGUS",
        "NOACK",
        "GROUP g c",
        "GROUP g",
        "count 1",
    ]
    pair.run(
        [
            *SEVERAL,
            *table("XREAD", options, [f"STREAMS {words}" for words in streams]),
            *table("XREAD STREAMS a", ODD_IDS),
            *table("XREAD STREAMS a", ['"$\\x00"', '">\\x00"', '"+\\x00"', '"+\\x00a"', '"\\x00$"', '"$$\\x00"']),
            "xinfo stream a FOO",
            "Xinfo Stream a FULL COUNT",
        ]
    )


def test_reading_that_might_wait(pair: Pair):
    """BLOCK makes no difference where there is something; a timeout that is none is refused before anything is read."""
    blocking = [
        "BLOCK 0",
        "BLOCK 5",
        "block 1 COUNT 1",
        "BLOCK -1",
        "BLOCK a",
        "BLOCK 9223372036854775807",
        "BLOCK 1.5",
        "BLOCK",
    ]
    pair.run(
        [
            *SEVERAL,
            *table(
                "XREAD", blocking, ["STREAMS a 0", "STREAMS b a 0 3", "STREAMS w 0", "STREAMS a b 0", "STREAMS a >"]
            ),
        ]
    )
    pair.run(
        [
            *SEVERAL,
            "XREAD",
            "XREAD COUNT 1",
            "XREAD STREAMS",
            "XREAD STREAMS a",
            "XREAD COUNT 1 STREAMS",
            "XREAD a 0 0",
            "XREAD streams a 0",
        ]
    )
    pair.run(
        [
            *SEVERAL,
            "XDEL a 3-1",
            "XREAD STREAMS a +",
            "XREAD STREAMS a $",
            "XREAD STREAMS a 2-1",
            "XSETID a 9-9",
            "XREAD STREAMS a $",
            "XREAD STREAMS a +",
        ]
    )
    pair.run(from_each(STREAMS.values(), ["XREAD STREAMS k 0", "XREAD STREAMS k $", "XREAD COUNT 1 STREAMS k 1-1"]))


def test_telling_about_streams(pair: Pair):
    """XINFO STREAM, plain and FULL with every COUNT, from every state; what it does not know is refused."""
    forms = ["", "FULL", "full", "FULL COUNT 1", "FULL COUNT 0", "FULL COUNT -5", "full count 2"]
    odd = ["BOGUS", "FULL COUNT", "FULL COUNT a", "FULL BOGUS 1", "FULL COUNT 1 2", "COUNT 1", "FULL COUNT 1 COUNT"]
    pair.run(from_each(STREAMS.values(), table("XINFO STREAM k", [*forms, *odd])))
    pair.run(
        [
            *filled(30),
            "XINFO STREAM k FULL",
            "XINFO STREAM k FULL COUNT 20",
            "XINFO",
            "XINFO STREAM",
            "XINFO BOGUS k",
            "XINFO HELP",
            "XINFO HELP x",
        ]
    )


def test_streams_are_keys_as_others(pair: Pair):
    """RENAME, COPY, MOVE, EXPIRE, DEL, SCAN by type and MULTI treat a stream as any key, the empty one too."""
    script: list[object] = []
    for state in (SOME, GAPS, EMPTY, "XGROUP CREATE k g 0 MKSTREAM\nXADD k 1 a b\nXREADGROUP GROUP g c STREAMS k >"):
        script += [
            "FLUSHALL", *state.splitlines(), "COPY k c", "COPY k c", "COPY k c REPLACE", "XADD c 50 a b", "XINFO STREAM c FULL",
            "XINFO STREAM k FULL", "RENAME k r", "XINFO STREAM r FULL", "XADD r 51 a b", "EXPIRE r 1000", "MOVE r 1", "SELECT 1",
            "XINFO STREAM r FULL", "PERSIST r", "COPY r c DB 0 REPLACE", "SELECT 0", "XINFO STREAM c FULL", "SCAN 0 TYPE stream",
            "SCAN 0 TYPE STREAM", "MULTI", "XADD m 1 a b", "XADD m 1 a b", "XLEN m", "XREAD STREAMS m 0", "EXEC", "OBJECT ENCODING m",
            "OBJECT REFCOUNT m", "MEMORY USAGE m", "SET m v", "DEL m c", "XADD m 1-1 a b", "UNLINK m", "XADD m 1-1 a b", "PEXPIREAT m 1",
            "XADD m 1-1 a b", "RENAME m c",
        ]  # fmt: skip
    pair.run(script, databases=(0, 1))


def test_watching_streams(pair: Pair):
    """A stream that was added to, or trimmed, has changed for whoever watches it; one that was only read has not."""
    for change in (
        "XADD k 50 a b",
        "XDEL k 1-1",
        "XTRIM k MAXLEN 1",
        "DEL k",
        "XRANGE k - +",
        "XDEL k 99",
        "XTRIM k MAXLEN 99",
        "XREAD STREAMS k 0",
    ):
        pair.run([*SOME.splitlines(), "WATCH k", change, "MULTI", "XLEN k", "EXEC", "UNWATCH", "DEL k"])


@pytest.mark.parametrize("size", [63, 64, 65, 200, 1500])
def test_sizes_around_every_step(pair: Pair, size: int):
    """Ranges, deletions and trims of a stream of any size, longer than any one walk; then it grows again."""
    chance = random.Random(size)
    script: list[object] = [*filled(size), "XLEN k", "XRANGE k - +", "XREVRANGE k + -", "XINFO STREAM k"]
    for _ in range(20):
        low, high = chance.randrange(size // 7 + 2), chance.randrange(size // 7 + 2)
        count = chance.choice(("1", "63", "64", "65", "500", str(size)))
        script += [
            f"XRANGE k {low}-3 {high} COUNT {count}", f"XREVRANGE k {high} ({low}-2 COUNT {count}", f"XRANGE k {low} +",
            f"XREAD COUNT {count} STREAMS k {low}-1", f"XDEL k {low}-{chance.randrange(8)} {high}-{chance.randrange(8)}", "XLEN k",
        ]  # fmt: skip
    script += [
        "XINFO STREAM k",
        f"XTRIM k MINID {size // 20}",
        "XLEN k",
        f"XTRIM k MAXLEN {size // 2}",
        "XINFO STREAM k",
    ]
    script += [
        "XGROUP CREATE k g 0",
        f"XREADGROUP GROUP g c COUNT {size // 4} STREAMS k >",
        f"XTRIM k MAXLEN {size // 20}",
    ]
    script += [
        "XRANGE k - +",
        "XINFO STREAM k",
        "XADD k 9999-1 a b",
        "XREADGROUP GROUP g c STREAMS k >",
        "XREADGROUP GROUP g c STREAMS k 0",
    ]
    pair.run(
        [
            *script,
            "XTRIM k MAXLEN 0",
            "XINFO STREAM k",
            "XADD k 9999-2 a b",
            "XRANGE k - +",
            "XREADGROUP GROUP g c STREAMS k >",
        ]
    )


def test_ids_by_the_clock(pair: Pair):
    """An id that is made has the time of the command, and is one more than the last if that is not over yet."""
    for client in pair.clients():
        before = time.time() * 1000 - 1
        ids = [client.call("XADD", "clock", "*", "a", n).value for n in range(200)]
        after = time.time() * 1000 + 1
        numbers = [tuple(map(int, one.split(b"-"))) for one in ids]

        assert numbers == sorted(set(numbers))
        assert all(before <= ms <= after for ms, _ in numbers)
        assert all(seq == 0 or (ms, seq - 1) in numbers for ms, seq in numbers)
        client.call("DEL", "clock")
    pair.run(
        [
            "XADD k 99999999999999-5 a b",
            "XADD k * a b",
            "XADD k * a b",
            "XADD k NOMKSTREAM MAXLEN 2 * a b",
            "XADD k MAXLEN ~ 2 * a b",
        ]
    )
    pair.run(
        [
            "XADD k 99999999999999-18446744073709551615 a b",
            "XADD k * a b",
            'XADD k "*\\x00" a b',
            f"XADD k {2**64 - 1}-{2**64 - 1} a b",
            "XADD k * a b",
        ]
    )


def test_hits_and_misses(pair: Pair):
    """Reads of streams count as often as the oracle's."""
    pair.run(["XADD k 1-1 f v", "XADD k 1-2 f v", "XGROUP CREATE k g 0"], databases=())
    counts = []
    for client in pair.clients():
        client.call("CONFIG", "RESETSTAT")
        for line in (
            "XREAD STREAMS k 0", "XREAD STREAMS none 0", "XREAD STREAMS k none 1-1 $", "XREAD STREAMS k 9-9", "XREADGROUP GROUP g c STREAMS k >",
            "XREADGROUP GROUP g c STREAMS k >", "XREADGROUP GROUP g c STREAMS k 0", "XREADGROUP GROUP no c STREAMS k >", "XREADGROUP GROUP g c STREAMS none >",
            "XRANGE k - +", "XLEN none",
        ):  # fmt: skip
            client.call(*line_words(line))
        counts.append(re.findall(rb"keyspace_(?:hits|misses):\d+", client.call("INFO", "stats").value))

    assert counts[0] == counts[1]
