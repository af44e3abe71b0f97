"""The string group against the oracle: every command, every option, every state of the key, odd numbers and words.

SET GET GETSET SETNX SETEX PSETEX GETEX GETDEL MSET MSETNX MGET APPEND STRLEN SETRANGE GETRANGE SUBSTR LCS
INCR INCRBY INCRBYFLOAT DECR DECRBY. What is newer than Redis 7.2 is out.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.differential import FLOATS, INTEGERS, ODD_WORDS, STATES, from_each, table

if TYPE_CHECKING:
    from tests.differential import Pair
    from tests.servers import Server

AFTER = "TYPE k\nGET k\nTTL k"
VOLATILE = {**STATES, "volatile": "SET k v EX 1000", "number": "SET k 10"}
FAR_SECONDS = "4102444800"  # the year 2100
FAR_MS = "4102444800000"


def test_get_and_set_keep_words_whole(pair: Pair):
    """Any bytes, any length, as key and as value, come back as they went in."""
    lines = [
        line for word in ODD_WORDS for line in (f"SET {word} v", f"GET {word}", f"SET k {word}", "GET k", "STRLEN k")
    ]
    pair.run(lines)


def test_set_options_from_every_state(pair: Pair):
    """SET answers and leaves the same for every combination of NX, XX, GET and an expiry, from every state."""
    conditions = ["", "NX", "XX", "nx", "NX XX", "XX NX"]
    expiries = ["", "EX 100", "PX 100000", f"EXAT {FAR_SECONDS}", f"PXAT {FAR_MS}", "KEEPTTL"]
    pair.run(from_each(VOLATILE.values(), table(["SET k new"], conditions, ["", "GET"], expiries), AFTER))
    pair.run(from_each(VOLATILE.values(), table(["SET k new"], expiries, ["GET", "get NX"]), AFTER))


def test_set_refuses_conflicting_and_unknown_options(pair: Pair):
    """Two expiries, an expiry without its number, an option twice and unknown words are answered alike."""
    words = [
        "EX 10",
        "PX 10000",
        f"EXAT {FAR_SECONDS}",
        f"PXAT {FAR_MS}",
        "KEEPTTL",
        "NX",
        "XX",
        "GET",
        "BOGUS",
        "EX",
        "PX",
    ]
    pair.run(from_each(["SET k v"], table(["SET k new"], words, words), AFTER))
    pair.run(from_each(["SET k v"], ["SET k", "SET", "GET", "GET k k", "SET k new EX 10 NX GET bogus"], AFTER))


def test_set_expiry_numbers(pair: Pair):
    """Each expiry option takes and refuses the same numbers, with the same text."""
    times = [*INTEGERS, "9223372036854775", "9223372036854776", "100000000000000"]
    pair.run(from_each(["SET k v"], table(["SET k new"], ["EX", "PX", "EXAT", "PXAT"], times), AFTER))
    pair.run(from_each(["SET k v"], table(["SETEX k", "PSETEX k"], times, ["new"]), AFTER))
    pair.run(from_each(["SET k v"], table(["GETEX k"], ["EX", "PX", "EXAT", "PXAT"], times), AFTER))


def test_set_in_the_past_removes(pair: Pair):
    """An expiry that has passed leaves no key, whatever the option."""
    pair.run(
        from_each(STATES.values(), table(["SET k new"], ["EXAT 1", "PXAT 1", "PXAT 1000 GET"]), "EXISTS k\nKEYS *")
    )
    pair.run(from_each(STATES.values(), table(["GETEX k"], ["EXAT 1", "PXAT 1"]), "EXISTS k\nKEYS *"))


def test_set_relatives(pair: Pair):
    """SETNX, SETEX, PSETEX, GETSET, GETDEL and GETEX from every state, with wrong arities."""
    commands = ["SETNX k new", "SETEX k 100 new", "PSETEX k 100000 new", "GETSET k new", "GETDEL k", "GETEX k"]
    expiries = ["", "EX 100", "PX 100000", f"EXAT {FAR_SECONDS}", f"PXAT {FAR_MS}", "PERSIST", "persist", "KEEPTTL"]
    commands += table(["GETEX k"], expiries, ["", "PERSIST", "EX 5", "BOGUS", "NX"])
    commands += [
        "SETNX k",
        "SETNX k v w",
        "SETEX k 1",
        "PSETEX k 1",
        "GETSET k",
        "GETDEL",
        "GETDEL k k",
        "GETEX",
        "GETEX k EX",
    ]
    pair.run(from_each(VOLATILE.values(), commands, AFTER))


def test_many_keys_at_once(pair: Pair):
    """MSET, MSETNX and MGET: all or none, last word wins, wrong types read as null, odd word counts refused."""
    commands = [
        *("MSET k 1", "MSET k 1 a 2", "MSET k 1 k 2", "MSET k 1 a", "MSET", "MSET k"),
        *(
            "MSETNX k 1",
            "MSETNX k 1 a 2",
            "MSETNX a 1 b 2",
            "MSETNX a 1 a 2",
            "MSETNX a 1 k 2",
            "MSETNX a",
            "MSETNX a 1 b",
        ),
        *("MGET k", "MGET k k a", "MGET missing", "MGET"),
    ]
    pair.run(from_each(VOLATILE.values(), commands, "MGET k a b\nTYPE k\nTTL k\nDEL a b"))
    pair.run(
        [("MSET", *(word for n in range(3000) for word in (f"k{n}", n))), ("MGET", *(f"k{n}" for n in range(3001)))]
    )


def test_append_and_ranges_from_every_state(pair: Pair):
    """APPEND, STRLEN, GETRANGE, SUBSTR and SETRANGE from every state, keeping the expiry."""
    commands = [
        *("APPEND k xyz", 'APPEND k ""', "APPEND k", "APPEND k a b", "STRLEN k", "STRLEN", "STRLEN k k"),
        *("SETRANGE k 0 xyz", "SETRANGE k 1 xyz", "SETRANGE k 10 xyz", 'SETRANGE k 0 ""', 'SETRANGE k 10 ""'),
        *(
            "SETRANGE k -1 x",
            "SETRANGE k 536870912 x",
            'SETRANGE k -1 ""',
            "SETRANGE k a x",
            "SETRANGE k 0",
            "SETRANGE k 0 x y",
        ),
        *(
            "GETRANGE k 0 -1",
            "GETRANGE k a 1",
            "GETRANGE k 0 a",
            "GETRANGE k 0",
            "GETRANGE k 0 1 2",
            "SUBSTR k 0 -1",
            "SUBSTR k 0",
        ),
    ]
    pair.run(from_each(VOLATILE.values(), commands, AFTER + "\nSTRLEN k"))


def test_ranges_with_every_pair_of_offsets(pair: Pair):
    """GETRANGE and SUBSTR cut alike for every pair of offsets in and around a string, and for odd numbers."""
    offsets = [str(n) for n in range(-7, 8)]
    pair.run(["SET k hello", *table(["GETRANGE k", "SUBSTR k"], offsets, offsets), "SET e 12345"])
    pair.run(table(["GETRANGE k", "GETRANGE missing"], INTEGERS, ["0", "-1", *INTEGERS]))
    pair.run(
        ["SET k hello", *table(["SETRANGE k"], INTEGERS[:10], ["ab"]), *table(["SETRANGE k"], INTEGERS[-12:], ["ab"])]
    )


def test_long_strings_in_pieces(pair: Pair):
    """Writes and reads across the borders of any chunking agree: 300 KB grown, overwritten and cut at many places."""
    chance = random.Random(7)
    script: list[tuple[object, ...]] = []
    for n in range(60):
        script.append(("APPEND", "k", bytes([65 + n % 26]) * chance.choice((1, 100, 4095, 4096, 5000, 16384))))
        at = chance.randrange(300_000)
        script.append(("SETRANGE", "k", at, b"@" * chance.choice((1, 2, 500, 4096, 9000))))
        script.append(("GETRANGE", "k", at - 3, at + chance.choice((2, 600, 10_000))))
        script.append(("GETRANGE", "k", -chance.randrange(1, 20_000), -chance.randrange(1, 2_000)))
        script.append(("STRLEN", "k"))
    script += [
        ("GET", "k"),
        ("COPY", "k", "k2"),
        ("APPEND", "k2", "tail"),
        ("GETDEL", "k"),
        ("STRLEN", "k2"),
        ("SET", "k2", "short"),
    ]
    script += [("SETRANGE", "gap", 200_000, "end"), ("GET", "gap"), ("STRLEN", "gap"), ("GETRANGE", "gap", 199_990, -1)]
    pair.run(script)


def test_counting_from_every_state(pair: Pair):
    """INCR, DECR, INCRBY, DECRBY and INCRBYFLOAT from every state, keeping the expiry; wrong arities refused."""
    states = {**VOLATILE, "volatile number": "SET k 10 EX 1000", "float": "SET k 10.5"}
    commands = ["INCR k", "DECR k", "INCRBY k 5", "DECRBY k 5"]
    commands += ["INCR", "INCR k k", "DECR", "INCRBY k", "DECRBY k", "INCRBYFLOAT k", "INCRBY k 1 2"]
    pair.run(from_each(states.values(), commands, AFTER + "\nOBJECT ENCODING k"))
    pair.run(from_each(states.values(), ["INCRBYFLOAT k 1.5", "INCRBYFLOAT k -10"], AFTER))


def test_counting_with_odd_numbers(pair: Pair):
    """What is a number, as the value held and as the increment, and where it overflows, is judged alike."""
    holding = [f"SET k {number}" for number in INTEGERS]
    pair.run(
        from_each(
            holding, ["INCR k", "DECR k", "INCRBY k 9223372036854775807", "DECRBY k 9223372036854775807"], "GET k"
        )
    )
    pair.run(from_each(["SET k 5", "SET k -5"], table(["INCRBY k", "DECRBY k"], INTEGERS), "GET k"))


def test_floating_increments(pair: Pair):
    """INCRBYFLOAT reads, adds and prints alike: held values, increments, infinities, long fractions."""
    held = ["0", "-0", "10.50", "5.0e3", "0.1", "-1.25", "3", "1e17", "inf", "nan", "abc", '""', '" 1"', "1e-5", "0x10"]
    pair.run(from_each([f"SET k {number}" for number in held], table(["INCRBYFLOAT k"], FLOATS), "GET k"))
    pair.run(["SET k 0", *["INCRBYFLOAT k 0.1"] * 50, *["INCRBYFLOAT k -0.3"] * 20, *["INCRBYFLOAT k 1.23456789"] * 20])


LONG_NUMBERS = [
    "1e256", "1e300", "-1e4000", "1e4932", "1.18973149535723176502e4932", "1.18973149535723176509e4932", "1e-4950", "1e-4952",
    "0." + "0" * 5090 + "17e9900", "1" + "0" * 5000 + "e-4990", "9" * 4400, "-0." + "3" * 4500, "0." + "0" * 4960 + "1", "." + "7" * 5118,
    "." + "7" * 5119, "1" * 5120, "1e" + "0" * 5000 + "1", "1e-" + "0" * 4500 + "2", "1e" + "9" * 5000, "1e-" + "9" * 5000, "0e" + "9" * 5000,
    "0x" + "f" * 5000, "0x1p16383", "0x1p16384", "0x1p-2000", "0x1p-16500", "0x." + "0" * 300 + "18p1200", "-0x1p" + "9" * 5000,
    "18446744073709551615.5", "36893488147419103231", "36893488147419103233.5", "inf", "-inf", "1e1", "0.1", "9.5e-1",
]  # fmt: skip


def test_long_floating_numbers(pair: Pair):
    """Numbers of any length, held and added, as far as a long double goes and its text has room."""
    held = [f"SET k {number}" for number in LONG_NUMBERS]
    pair.run(from_each(held, table(["INCRBYFLOAT k"], LONG_NUMBERS)))
    pair.run(
        from_each(
            ["SET k 1"], table(["INCRBYFLOAT k"], LONG_NUMBERS), "INCRBYFLOAT k 1\nINCRBYFLOAT k inf\nINCRBYFLOAT k 0.1"
        )
    )


def test_longest_common_subsequence(pair: Pair):
    """LCS with LEN, IDX, MINMATCHLEN and WITHMATCHLEN, over equal, disjoint, empty, missing and wrong keys."""
    setup = [
        "SET a ohmytext",
        "SET b mynewtext",
        'SET e ""',
        "SET d zzz",
        "SET n 12345",
        "RPUSH w x",
        "SET r rnjfjkiou",
        "SET s jdfjuokkk",
    ]
    options = [
        "",
        "LEN",
        "IDX",
        "IDX WITHMATCHLEN",
        "IDX MINMATCHLEN 4",
        "IDX MINMATCHLEN 4 WITHMATCHLEN",
        "MINMATCHLEN 2",
    ]
    options += [
        "IDX LEN",
        "LEN IDX",
        "WITHMATCHLEN",
        "IDX MINMATCHLEN -1",
        "IDX MINMATCHLEN a",
        "MINMATCHLEN",
        "BOGUS",
        "idx len",
    ]
    pair.run(
        [*setup, *table(["LCS"], ["a", "b", "e", "d", "missing", "w", "n", "r"], ["a", "b", "missing", "s"], options)]
    )
    pair.run(["LCS a", "LCS", "LCS a b IDX MINMATCHLEN 2 WITHMATCHLEN LEN"])
    chance = random.Random(3)
    texts = ["".join(chance.choices("abc", k=80)) for _ in range(6)]
    pair.run(
        [
            line
            for n, text in enumerate(texts)
            for line in (f"SET t{n} {text}", f"LCS t0 t{n}", f"LCS t{n} t1 IDX WITHMATCHLEN", f"LCS t2 t{n} LEN")
        ]
    )


def test_longest_common_subsequence_of_unlike_lengths(pair: Pair):
    """Of many longest ones the same is chosen, whichever key holds the longer string."""
    chance = random.Random(5)
    lengths = [1, 2, 7, 31, 64, 300]
    pair.run([("SET", f"t{length}", "".join(chance.choices("abc", k=length))) for length in lengths])
    names = [f"t{length}" for length in lengths]
    pair.run(table("LCS", names, names, ["", "LEN", "IDX", "IDX MINMATCHLEN 3", "IDX MINMATCHLEN 2 WITHMATCHLEN"]))


def test_longest_common_subsequence_of_too_long_strings(pair: Pair):
    """LCS is refused where Redis's table would be longer than proto-max-bulk-len, after its options have been read."""
    pair.run(["CONFIG SET proto-max-bulk-len 1048576"])
    pair.run(
        [
            line
            for one, other in ((511, 511), (511, 512), (512, 511), (512, 512), (1, 131071), (131072, 1), (600000, 0))
            for line in (
                f"SET a <{one}>",
                f"SET b <{other}a>" if other else 'SET b ""',
                *table("LCS a b", ["", "LEN", "IDX", "LEN IDX", "BOGUS", "IDX MINMATCHLEN 2 WITHMATCHLEN"]),
            )
        ]
    )


def test_encoding_names(pair: Pair):
    """OBJECT ENCODING tells int, embstr and raw apart where Redis does."""
    values = [*INTEGERS, "<44>", "<45>", "hello", "3.14"]
    pair.run(from_each([f"SET k {value}" for value in values], ["OBJECT ENCODING k", "STRLEN k"]))
    changes = [
        "INCR k",
        "GETSET k 7",
        "GETRANGE k 0 1",
        "COPY k c",
        "RENAME k k2",
    ]
    pair.run(
        from_each(
            ["SET k 10", "SET k 10.5", "SET k 9223372036854775806"],
            changes,
            "OBJECT ENCODING k\nOBJECT ENCODING c\nOBJECT ENCODING k2\nDEL c k2",
        )
    )


def test_an_encoding_is_told_by_the_value_alone(ours: Server):
    """A number made by APPEND, SETRANGE or INCRBYFLOAT is int, where Redis remembers how it was made and says raw."""
    client = ours.client()
    for change in (("APPEND", "k", "1"), ("SETRANGE", "k", "0", "5"), ("INCRBYFLOAT", "k", "5")):
        client.call("SET", "k", "10")
        client.call(*change)

        assert client.call("OBJECT", "ENCODING", "k").value == b"int"


def test_embedded_strings_end_at_44_bytes(pair: Pair):
    """A string of 44 bytes is embstr and one of 45 is raw, as in Redis 7.2; valkey 9 embeds longer ones."""
    if pair.ours.name == "valkey":
        pytest.skip("the oracle in our place")
    for length, encoding in ((0, b"embstr"), (1, b"embstr"), (44, b"embstr"), (45, b"raw"), (70, b"raw")):
        client = pair.clients()[0]
        client.call("SET", "k", "x" * length)

        assert client.call("OBJECT", "ENCODING", "k").value == encoding
