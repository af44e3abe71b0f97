"""The hash group against the oracle: every command, every option, every state of the key, odd numbers and words.

HSET HSETNX HMSET HGET HMGET HGETALL HKEYS HVALS HLEN HSTRLEN HEXISTS HDEL HINCRBY HINCRBYFLOAT HRANDFIELD HSCAN.
Field expiry is newer than Redis 7.2 and out.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.differential import FLOATS, INTEGERS, ODD_WORDS, STATES, from_each, table

if TYPE_CHECKING:
    from tests.differential import Pair
    from tests.servers import Server

AFTER = "TYPE k\nHLEN k\nHGETALL k\nTTL k"
HASHES = {**STATES, "volatile": "HSET k f v g w\nEXPIRE k 1000", "one": "HSET k f 10"}
SIZES = [1, 127, 128, 129, 255, 256, 257, 511, 512, 513, 3000]


def filled(size: int, key: str = "k") -> list[tuple[object, ...]]:
    """Return the commands that make a hash of `size` fields f0.. with values v0.., in an order that is not sorted."""
    order = random.Random(size).sample(range(size), size)
    return [
        ("HSET", key, *(word for n in order[start : start + 500] for word in (f"f{n}", f"v{n}")))
        for start in range(0, size, 500)
    ]


def test_fields_and_values_keep_words_whole(pair: Pair):
    """Any bytes, any length, as key, field and value, come back as they went in, and can be removed one by one."""
    script = []
    for word in ODD_WORDS:
        script += [f"HSET {word} f v", f"HGET {word} f", f"HSET k {word} {word}", f"HGET k {word}", f"HSTRLEN k {word}"]
        script += [f"HEXISTS k {word}", f"HSETNX k {word} new", "HLEN k"]
    script += ["HGETALL k", "HKEYS k", "HVALS k", "HSCAN k 0", "HMGET k " + " ".join(ODD_WORDS)]
    script += [line for word in ODD_WORDS[:-4] for line in (f"HDEL k {word}", f"HEXISTS k {word}", "HLEN k")]
    pair.run([*script, "HGETALL k"])


def test_writing_from_every_state(pair: Pair):
    """HSET, HMSET, HSETNX and HDEL count, refuse and leave alike from every state; odd word counts are refused."""
    commands = """
        HSET k f new
        HSET k f 1 f 2
        HSET k f 1 a 2 b 3
        HSET k f
        HSET k f 1 g
        HSET k
        HSET
        HMSET k f new
        HMSET k a 1 b 2
        HMSET k f
        HMSET k f 1 g
        HSETNX k f new
        HSETNX k a new
        HSETNX k f
        HSETNX k f 1 2
        HSET k "" ""
        HDEL k f
        HDEL k f f
        HDEL k f g
        HDEL k f g a b c EX
        HDEL k missing
        HDEL k
        HDEL
    """
    pair.run(from_each(HASHES.values(), commands, AFTER))


def test_reading_from_every_state(pair: Pair):
    """Every reading command answers alike from every state, with too few and too many words."""
    reads = """
        HGET k f
        HGET k missing
        HGET k
        HGET k f g
        HMGET k f
        HMGET k f missing f g
        HMGET k
        HGETALL k
        HGETALL
        HGETALL k k
        HKEYS k
        HKEYS
        HVALS k
        HVALS k k
        HLEN k
        HLEN
        HLEN k k
        HSTRLEN k f
        HSTRLEN k missing
        HSTRLEN k
        HEXISTS k f
        HEXISTS k missing
        HEXISTS k
        OBJECT ENCODING k
    """
    pair.run(from_each(HASHES.values(), reads))


def test_integer_increments(pair: Pair):
    """HINCRBY judges held values and increments alike, overflows alike, and creates alike."""
    pair.run(
        from_each(
            HASHES.values(), ["HINCRBY k f 5", "HINCRBY k a -5", "HINCRBY k f", "HINCRBY k f 1 2", "HINCRBY k"], AFTER
        )
    )
    held = [f"HSET k f {number}" for number in INTEGERS]
    pair.run(from_each(held, ["HINCRBY k f 1", "HINCRBY k f -1", "HINCRBY k f 9223372036854775807"], "HGET k f"))
    pair.run(from_each(["HSET k f 5", "HSET k f -5"], table("HINCRBY k f", INTEGERS), "HGET k f"))


def test_floating_increments(pair: Pair):
    """HINCRBYFLOAT reads, adds and prints alike: held values, increments, infinities, long fractions."""
    pair.run(
        from_each(
            HASHES.values(),
            ["HINCRBYFLOAT k f 1.5", "HINCRBYFLOAT k a -1.5", "HINCRBYFLOAT k f", "HINCRBYFLOAT k"],
            AFTER,
        )
    )
    held = [
        "0",
        "-0",
        "10.50",
        "5.0e3",
        "0.1",
        "-1.25",
        "1e17",
        "inf",
        "nan",
        "abc",
        '""',
        '" 1"',
        '"1 "',
        "1e-5",
        "0x10",
    ]
    pair.run(from_each([f"HSET k f {number}" for number in held], table("HINCRBYFLOAT k f", FLOATS), "HGET k f"))
    pair.run(
        [
            "HSET k f 0",
            *["HINCRBYFLOAT k f 0.1"] * 50,
            *["HINCRBYFLOAT k f -0.3"] * 20,
            *["HINCRBYFLOAT k f 1.23456789"] * 20,
        ]
    )


def test_random_fields_from_every_state(pair: Pair):
    """HRANDFIELD: counts of both signs, zero, past the end and absurd; WITHVALUES; words it does not know."""
    counts = [
        "",
        *INTEGERS[:10],
        *INTEGERS[11:20],
        "-4611686018427387905",
        "9223372036854775807",
        "-9223372036854775808",
        "-9223372036854775807",
        '""',
    ]
    absurd = {"9223372036854775807", "-4611686018427387905", "-9223372036854775807", "-9223372036854775808"}
    pair.run(
        from_each(HASHES.values(), table("HRANDFIELD k", [c for c in counts if c not in absurd], ["", "WITHVALUES"]))
    )
    pair.run(from_each(["HSET k f v"], table("HRANDFIELD k", ["9223372036854775807", "-9223372036854775808"])))
    pair.run(from_each(["HSET k f v"], table("HRANDFIELD k", absurd, "WITHVALUES")))
    pair.run(
        from_each(
            HASHES.values(),
            ["HRANDFIELD k 1 BOGUS", "HRANDFIELD k 1 WITHVALUES x", "HRANDFIELD k WITHVALUES", "HRANDFIELD"],
        )
    )


def test_scanning(pair: Pair):
    """HSCAN brings every field once or more, under any MATCH and COUNT; bad cursors, counts and words are refused."""
    options = [
        "",
        "COUNT 1",
        "COUNT 1000",
        "MATCH *",
        "MATCH f1*",
        "MATCH f?",
        "MATCH [^f]*",
        "MATCH f1* COUNT 3",
        "COUNT 2 MATCH *9",
    ]
    options += ["COUNT 0", "COUNT -1", "COUNT a", "COUNT", "MATCH", "BOGUS", "TYPE hash", "count 5 match f*"]
    pair.run([*filled(30), *filled(600, "big"), *table("HSCAN", ["k", "big", "missing"], "0", options)])
    pair.run(
        from_each(
            HASHES.values(),
            [
                "HSCAN k 0",
                "HSCAN k",
                "HSCAN",
                *table("HSCAN k", ["a", "-1", "1.5", '""', "18446744073709551616"]),
            ],
        )
    )


@pytest.mark.parametrize("size", SIZES)
def test_sizes_around_every_threshold(pair: Pair, size: int):
    """A hash of any size answers, samples, scans, shrinks and grows alike, and ends as nothing."""
    chance = random.Random(size)
    script: list[object] = [
        *filled(size),
        "HLEN k",
        "OBJECT ENCODING k",
        "HGETALL k",
        "HKEYS k",
        "HVALS k",
        "HSCAN k 0 COUNT 50",
    ]
    script += table("HRANDFIELD k", ["", "1", "10", "-10", str(size), str(size + 5), str(size // 2), str(-size)], "")
    script += table("HRANDFIELD k", ["10", "-10", str(size)], "WITHVALUES")
    for _ in range(40):
        n = chance.randrange(size * 2)
        script.append(
            chance.choice(
                (
                    (("HSET", "k", f"f{n}", f"w{n}")),
                    ("HDEL", "k", f"f{n}"),
                    ("HGET", "k", f"f{n}"),
                    ("HINCRBY", "k", f"n{n % 7}", n),
                )
            )
        )
        script.append("HLEN k")
    script += ["HSCAN k 0", "COPY k c", "RENAME k r", "HLEN r", "HLEN c"]
    fields = [f"f{n}" for n in range(size * 2)] + [f"n{n}" for n in range(7)]
    script += [("HDEL", "r", *fields[: size // 2]), "HLEN r", ("HDEL", "r", *fields[size // 2 :]), "EXISTS r", "HLEN c"]
    pair.run(script)


def test_encoding_names(pair: Pair):
    """OBJECT ENCODING turns from listpack to hashtable at the configured lengths, as Redis's does."""
    pair.run(from_each(["HSET k f <64>", "HSET k f <65>", "HSET k <64> v", "HSET k <65> v"], ["OBJECT ENCODING k"]))
    pair.run(
        [*filled(128), "OBJECT ENCODING k", "HSET k more v", "OBJECT ENCODING k", "HDEL k more", "OBJECT ENCODING k"]
    )
    pair.run(
        [
            "HSET k f v",
            "CONFIG SET hash-max-listpack-entries 2",
            "HSET k g v",
            "OBJECT ENCODING k",
            "HSET k h v",
            "OBJECT ENCODING k",
        ]
    )


def test_refusals_come_in_order(pair: Pair):
    """Of several reasons to refuse, the one is given that Redis finds first."""
    refused = """
        HINCRBY k f abc
        HINCRBYFLOAT k f nan
        HINCRBYFLOAT k f inf
        HINCRBYFLOAT k f abc
        HINCRBYFLOAT k f 1e400
        HINCRBYFLOAT k f 1e4932
        HINCRBYFLOAT k f 1.19e4932
        HINCRBYFLOAT k f 1e5000
        HINCRBYFLOAT k f -1e99999
        HINCRBYFLOAT k f 1e-4950
        HINCRBYFLOAT k f 1e-4951
        HINCRBYFLOAT k f 0e99999
        HINCRBYFLOAT k g 1
        HINCRBYFLOAT k long 1e4000
        HINCRBYFLOAT k long 0.1
        HINCRBYFLOAT k long inf
        HINCRBYFLOAT k long -1e4000
        HRANDFIELD k abc BOGUS
        HRANDFIELD k 1 BOGUS
        HRANDFIELD k -9223372036854775808 BOGUS
        HRANDFIELD k 9223372036854775807 WITHVALUES
        HRANDFIELD k 4611686018427387903 withvalues
        HRANDFIELD k 4611686018427387904 WITHVALUES
        HRANDFIELD k 0 WITHVALUES
        HSCAN k abc BOGUS
        HSCAN k 0 BOGUS
        HSCAN k 0 COUNT 0
        HSCAN k 0 COUNT 9223372036854775807
        HSCAN k 0 COUNT 9223372036854775808
    """
    pair.run(from_each(HASHES.values(), refused, AFTER))


def test_words_that_are_cursors(pair: Pair):
    """What is a cursor and what is not is judged alike, down to blanks, signs and zeros; all are in order for a small hash."""
    words = [*INTEGERS, "18446744073709551615", "-05", "-18446744073709551615", '"\\t1"', '"\\x0b\\x0c1"']
    pair.run(["HSET k f v", *table("HSCAN k", [word for word in words if word != "0"])])


def test_long_fields_that_begin_alike(pair: Pair):
    """Fields that differ only after hundreds of bytes are different fields, in small hashes and in large ones."""
    fields = [f"<{n}long>" for n in range(478, 486)]
    prefix = "p" * 470
    many = [f"{prefix}{n}" for n in range(300)]
    script: list[object] = [("HSET", "k", *(word for field in fields for word in (field, "v")))]
    script += [("HSET", "k", *(word for field in many for word in (field, field[-3:])))]
    script += [
        "HLEN k",
        "HKEYS k",
        "HVALS k",
        "HGETALL k",
        "HRANDFIELD k 20 WITHVALUES",
        "HRANDFIELD k -20",
        "HRANDFIELD k 400",
    ]
    script += [("HSCAN", "k", 0, "MATCH", f"{prefix}{end}", "COUNT", 7) for end in ("*", "1*", "29?", "")]
    script += [("HSCAN", "k", 0, "COUNT", 7), "HSCAN k 0 MATCH xxxxx* COUNT 3", "COPY k c", "HGETALL c"]
    script += [("HGET", "c", field) for field in many[::7]] + [
        ("HSTRLEN", "k", many[250]),
        ("HINCRBY", "k", many[9], 5),
    ]
    script += [("HDEL", "k", *many[:290]), "HGETALL k", "HLEN c", "HRANDFIELD k", ("HDEL", "c", *many), "HGETALL c"]
    pair.run(script)


def test_no_more_repeats_than_memory_holds(ours: Server):
    """A count that asks for billions of repeats is refused, and nothing is drawn; from nothing, nothing is drawn anyway."""
    client = ours.client()
    client.pipeline([("HSET", "h", "f", "v"), ("SADD", "s", "m"), ("ZADD", "z", "1", "m")])

    assert client.call("HRANDFIELD", "h", -(2**62)).value == b"ERR value is out of range"
    assert client.call("SRANDMEMBER", "s", -(2**63) + 1).value == b"ERR value is out of range"
    assert client.call("ZRANDMEMBER", "z", -(2**62)).value == b"ERR value is out of range"
    assert client.call("SRANDMEMBER", "missing", -(2**63) + 1).plain() == []
    assert len(client.call("HRANDFIELD", "h", -100_000).items()) == 100_000


def test_a_scan_brings_what_stays(ours: Server):
    """Fields that are there from a scan's first step to its last come at least once, whatever comes and goes meanwhile."""
    client = ours.client()
    chance = random.Random(5)
    for round_ in range(6):
        client.call("DEL", "k")
        staying = {b"stay%d" % n for n in range(400)}
        client.pipeline([("HSET", "k", field, "v") for field in staying])
        seen: set[bytes] = set()
        cursor, steps = b"0", 0
        while cursor != b"0" or not steps:
            reply = client.call("HSCAN", "k", cursor, "COUNT", chance.randrange(1, 40)).items()
            cursor, steps = reply[0].value, steps + 1
            seen.update(item.value for item in reply[1].items()[::2])
            n = chance.randrange(1000)
            client.call("HSET", "k", *(word for x in range(n, n + 50) for word in (f"go{x}", "v")))
            client.call("HDEL", "k", *(f"go{x}" for x in range(1000) if chance.random() < 0.3))
            if round_ == 5 and steps == 4:
                ours.restart()  # its tokens are forgotten: the scan begins anew
                client = ours.client()

        assert staying <= seen
        assert steps < 1000
