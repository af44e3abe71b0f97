"""Commands that wait for an element of a list or of a sorted set, against the oracle.

BLPOP BRPOP BLMOVE BRPOPLPUSH BLMPOP BZPOPMIN BZPOPMAX BZMPOP, and CLIENT UNBLOCK; test_blocking_streams has the rest.

Law: an element goes to whoever waits longest for the key, once; nobody who has gone away takes one with him.
"""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING

import pytest

from tests.client import pack
from tests.differential import FLOATS, INTEGERS, STATES, from_each, lines_of
from tests.servers import skip_unless_known
from tests.several import SIDES, Talk, converse, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.client import RawClient
    from tests.differential import Pair
    from tests.servers import Server

LISTS = lines_of("""
    BLPOP k 0
    BRPOP k 0
    BLMOVE k d LEFT RIGHT 0
    BLMOVE k d RIGHT LEFT 0
    BRPOPLPUSH k d 0
    BLMPOP 0 1 k LEFT
    BLMPOP 0 2 j k RIGHT COUNT 2
    BLPOP j k k 0
""")
ZSETS = lines_of("""
    BZPOPMIN k 0
    BZPOPMAX k 0
    BZMPOP 0 1 k MIN
    BZMPOP 0 2 j k MAX COUNT 2
    BZPOPMIN j k k 0
""")
# Each line is what another connection says; `;` separates commands.
LIST_WAKERS = lines_of("""
    RPUSH k 1
    RPUSH k 1 2 3
    LPUSH k 1 2 3
    RPUSHX k 1
    LINSERT k BEFORE 1 2
    RPUSH s 1 2; LMOVE s k LEFT RIGHT
    RPUSH s 1 2; RPOPLPUSH s k
    RPUSH s 1 2; BLMOVE s k LEFT LEFT 0
    RPUSH s 1 2; RENAME s k
    RPUSH s 1 2; RENAMENX s k
    RPUSH s 1 2; COPY s k
    RPUSH s 1 2; COPY s k REPLACE
    SELECT 1; RPUSH k 1 2; MOVE k 0; SELECT 0
    SELECT 1; RPUSH k 1 2; COPY k k DB 0; SELECT 0
    SELECT 1; RPUSH k 1 2; SWAPDB 0 1; SELECT 0
    SELECT 1; RPUSH k 1 2; SWAPDB 1 0; SELECT 0
    SELECT 1; RPUSH k 1 2; SELECT 0
    RPUSH j 1 2
    RPUSH other 1 2
    RPUSH d x; RPUSH k 1
    SET d v; RPUSH k 1
    SET d v; RPUSH k 1 2; LPUSH k 0
    SET k v; RPUSH k 1; DEL k; RPUSH k 2
    ZADD k 1 a
    ZADD k 1 a; DEL k; RPUSH k 1
    SADD k a
    HSET k f v
    SET j v; RPUSH k 1
    SET j v
    FLUSHALL; RPUSH k 1
""")
IN_TRANSACTIONS = lines_of("""
    MULTI; RPUSH k 1; RPUSH k 2; LPUSH k 0; EXEC
    MULTI; RPUSH k 1; LPOP k; EXEC
    MULTI; RPUSH k 1; DEL k; EXEC
    MULTI; RPUSH k 1; DEL k; RPUSH k 2; EXEC
    MULTI; RPUSH k 1; RENAME k j; EXEC
    MULTI; RPUSH j 1; RENAME j k; EXEC
    MULTI; RPUSH k 1; RPUSH j 2; EXEC
    MULTI; RPUSH j 2; RPUSH k 1; EXEC
    MULTI; RPUSH k 1; PEXPIRE k -1; EXEC
    MULTI; RPUSH k 1; FLUSHALL; EXEC
    MULTI; RPUSH k 1; SWAPDB 0 1; EXEC
    MULTI; RPUSH k 1; BLPOP k 0; BLPOP k 0; EXEC
    MULTI; RPUSH k 1; DEL k; SET k v; EXEC
    MULTI; SET k v; DEL k; RPUSH k 1; EXEC
    MULTI; RPUSH k 1; DISCARD
""")
ZSET_WAKERS = lines_of("""
    ZADD k 1 a
    ZADD k 1 a 2 b 3 c
    ZADD k XX 1 a
    ZADD k INCR 1 a
    ZINCRBY k 1 a
    ZADD s 1 a 2 b; ZUNIONSTORE k 1 s
    ZADD s 1 a 2 b; ZINTERSTORE k 1 s
    ZADD s 1 a 2 b; ZDIFFSTORE k 1 s
    ZADD s 1 a 2 b; ZRANGESTORE k s 0 -1
    ZRANGESTORE k s 0 -1
    ZUNIONSTORE k 1 s
    SADD s a b; ZUNIONSTORE k 1 s
    ZADD s 1 a 2 b; RENAME s k
    ZADD s 1 a 2 b; COPY s k
    SELECT 1; ZADD k 1 a 2 b; MOVE k 0; SELECT 0
    SELECT 1; ZADD k 1 a 2 b; SWAPDB 0 1; SELECT 0
    ZADD j 1 a 2 b
    MULTI; ZADD k 1 a; ZADD k 0 b; EXEC
    MULTI; ZADD k 1 a; ZPOPMIN k; EXEC
    MULTI; ZADD k 1 a; ZREM k a; ZADD k 2 b; EXEC
    MULTI; ZADD k 1 a; ZADD j 2 b; EXEC
    MULTI; ZADD k 1 a; BZPOPMIN k 0; BZPOPMIN k 0; EXEC
    MULTI; ZADD k 1 a; DEL k; SET k v; EXEC
    RPUSH k 1; DEL k; ZADD k 1 a
    SET k v; DEL k; ZADD k 1.5 a
    SADD k a
    ZADD k -inf a inf b
""")
# By commands of other rooms.
OTHER_WAKERS = {
    "SORT": (LISTS, ["RPUSH s 3 1 2; SORT s STORE k", "SORT s STORE k", "MULTI; RPUSH k x; SORT s STORE k; EXEC"]),
    "GEO": (
        ZSETS,
        [
            "GEOADD k 13.361389 38.115556 Palermo",
            "GEOADD s 13 38 a; GEOSEARCHSTORE k s FROMLONLAT 13 38 BYRADIUS 9 km ASC",
        ],
    ),
}
TAIL = ("b: LRANGE k 0 -1", "b: ZRANGE k 0 -1", "b: LRANGE j 0 -1", "b: LRANGE d 0 -1", "b: TYPE k")


def woken(blockers: Iterable[str], wakers: Iterable[str], waiting: int = 1) -> list[str]:
    """Return the script of every blocker, said by so many connections, met by every waker."""
    script = []
    for blocker in blockers:
        for waker in wakers:
            script += ["b: FLUSHALL", *(f"a{number}~ {blocker}" for number in range(waiting))]
            script += [f"b: {command.strip()}" for command in waker.split(";")]
            script += [*TAIL, *(f"* close a{number}" for number in range(waiting))]
    return script


@pytest.mark.parametrize("blocker", LISTS)
def test_woken_by_lists(pair: Pair, blocker: str):
    """Whatever brings a list to the key serves who waits there; whatever does not, does not."""
    converse(pair, woken([blocker], [*LIST_WAKERS, *IN_TRANSACTIONS]), databases=(0, 1))


@pytest.mark.parametrize("blocker", ZSETS)
def test_woken_by_zsets(pair: Pair, blocker: str):
    """Whatever brings a sorted set to the key serves who waits there; whatever does not, does not."""
    converse(pair, woken([blocker], ZSET_WAKERS), databases=(0, 1))


@pytest.mark.parametrize("room", OTHER_WAKERS)
def test_woken_by_others(pair: Pair, room: str):
    """A list or a sorted set that is a result serves as well."""
    skip_unless_known(pair.ours, OTHER_WAKERS[room][1][0].split("; ")[-1])
    converse(pair, woken(*OTHER_WAKERS[room]))


def test_several_wait(pair: Pair):
    """The first to come is the first to be served, and an element is served once."""
    converse(pair, woken(LISTS, [*LIST_WAKERS[:3], *IN_TRANSACTIONS[:4]], waiting=3))
    converse(pair, woken(ZSETS, [*ZSET_WAKERS[:2], *ZSET_WAKERS[17:21]], waiting=3))


# --- words -------------------------------------------------------------------------------------------------------------------------

POPS = lines_of("""
    BLPOP k j {t}
    BRPOP k {t}
    BLMOVE k d LEFT RIGHT {t}
    BLMOVE k k RIGHT LEFT {t}
    BRPOPLPUSH k d {t}
    BRPOPLPUSH k k {t}
    BLMPOP {t} 2 j k LEFT
    BLMPOP {t} 1 k RIGHT COUNT 10
    BZPOPMIN k j {t}
    BZPOPMAX k {t}
    BZMPOP {t} 2 j k MIN
    BZMPOP {t} 1 k MAX COUNT 10
""")
SYNTAX = lines_of("""
    BLPOP
    BLPOP k
    BLMOVE k d LEFT 0
    BLMOVE k d LEFT UP 0
    BLMOVE k d UP LEFT 0
    BLMOVE k d left right 0
    BLMOVE k d LEFT RIGHT 0 x
    BRPOPLPUSH k 0
    BRPOPLPUSH k d 0 x
    BLMPOP 0 1 k
    BLMPOP 0 1 k UP
    BLMPOP 0 2 k LEFT
    BLMPOP 0 0 k LEFT
    BLMPOP 0 -1 k LEFT
    BLMPOP 0 a k LEFT
    BLMPOP 0 1 k LEFT COUNT
    BLMPOP 0 1 k LEFT COUNT 0
    BLMPOP 0 1 k LEFT COUNT a
    BLMPOP 0 1 k LEFT COUNT 1 COUNT 1
    BLMPOP 0 1 k LEFT MORE 1
    BLMPOP a 0 k UP
    BLMPOP -1 0 k UP
    BZPOPMIN k
    BZMPOP 0 1 k
    BZMPOP 0 1 k LEFT
    BZMPOP 0 2 k MIN
    BZMPOP 0 0 k MIN
    BZMPOP 0 a k MIN
    BZMPOP 0 1 k MIN COUNT 0
    BZMPOP 0 1 k MIN COUNT 1 COUNT 1
    BZMPOP a 0 k UP
""")


def test_nothing_to_wait_for(pair: Pair):
    """From every type at the key: an element, WRONGTYPE, or a null once the time is up."""
    commands = [pop.replace("{t}", "0.001") for pop in POPS]
    pair.run(
        from_each([*STATES.values(), "SET d v\nRPUSH k a b", "SET j v", "RPUSH j x\nSET k v"], commands, "DEL j d")
    )


def test_syntax(pair: Pair):
    """The words, in the order they are judged."""
    pair.run(from_each(["RPUSH k a b c", "ZADD k 1 a 2 b", "SET k v"], SYNTAX))


@pytest.mark.parametrize("pop", POPS)
def test_timeouts(pair: Pair, pop: str):
    """What a timeout may look like; it is judged before the key is looked at."""
    words = [word for word in (*FLOATS, *INTEGERS) if word not in ("1e-5", "5e-324")]
    commands = [pop.replace("{t}", word) for word in [*words, "9223372036854775.8", "9223372036854775", "-1e-9"]]
    pair.run(from_each(["RPUSH k a b", "ZADD k 1 a"], commands, "DEL d"))


def test_time_is_up(pair: Pair):
    """A null after the time, whatever the unit of the smallest part; zero in any spelling is for ever."""
    script = []
    for pop in POPS:
        script += [f"a: {pop.replace('{t}', word)}" for word in ("0.001", "1e-5", "5e-324")]
        for word in ("0", "-0", "0.0", "1000000", "9223372036854.7"):
            script += [f"a~ {pop.replace('{t}', word)}", "b: CLIENT UNBLOCK {a}"]
    converse(pair, script)


# --- one conversation each -----------------------------------------------------------------------------------------------------

KEY_ORDER = """
    a~ BLPOP k1 k2 k3 0
    b: MULTI
    b: RPUSH k3 three
    b: RPUSH k1 one
    b: RPUSH k2 two
    b: EXEC
    a: BLPOP k1 k2 k3 0
    a~ BLMPOP 0 3 k4 k5 k6 LEFT
    b: RPUSH k6 six
    b: RPUSH k5 five
    a: BRPOP k4 k5 0
    a~ BZPOPMAX z1 z2 0
    b: MULTI
    b: ZADD z2 2 two
    b: ZADD z1 1 one
    b: EXEC
    a: BZPOPMAX z1 z2 0
"""
FAIRNESS = """
    a~ BLPOP x y 0
    b~ BLPOP y x 0
    c~ BLPOP x 0
    d~ BLMPOP 0 2 y x RIGHT COUNT 3
    e~ BRPOP z 0
    w: MULTI
    w: RPUSH y 1
    w: RPUSH x 1 2
    w: RPUSH y 2
    w: EXEC
    w: RPUSH x 3 4 5 6
    w: RPUSH z 1 2
    w: LRANGE x 0 -1
    w: LRANGE y 0 -1
    w: LRANGE z 0 -1
"""
WRONG_TARGETS = """
    w: SET d v
    a~ BLMOVE k d LEFT RIGHT 0
    b~ BRPOPLPUSH k d 0
    c~ BLPOP k 0
    w: RPUSH k 1
    w: EXISTS k
    a~ BLMOVE k d LEFT RIGHT 0
    b~ BLPOP k 0
    w: MULTI
    w: RPUSH k 1
    w: DEL d
    w: EXEC
    w: LRANGE d 0 -1
"""
CHAINS = """
    a~ BLMOVE x y LEFT RIGHT 0
    b~ BLMOVE y z LEFT RIGHT 0
    c~ BLPOP z 0
    d~ BLPOP y 0
    w: RPUSH x 1
    w: RPUSH x 2
    w: RPUSH x 3
    w: RPUSH y 4
    w: LRANGE x 0 -1
    w: EXISTS y z
    w: DEL x
    a~ BRPOPLPUSH x y 0
    b~ BRPOPLPUSH y x 0
    w: RPUSH x foo
    w: LRANGE x 0 -1
    w: LRANGE y 0 -1
    w: DEL x y
    a~ BRPOPLPUSH x x 0
    b~ BLMOVE x x LEFT RIGHT 0
    c~ BLPOP x 0
    w: RPUSH x 1 2 3
    w: LRANGE x 0 -1
    w: DEL x
    a~ BLPOP x x x 0
    w: RPUSH x 1 2
    w: DEL x
    c~ BLPOP x 0
    a~ BLMOVE y x LEFT LEFT 0
    w: MULTI
    w: RPUSH y one
    w: RPUSH x two
    w: EXEC
    w: LRANGE x 0 -1
    w: DEL x
    a~ BLPOP x 0
    b~ BZPOPMIN x 0
    c~ BLPOP x 0
    w: ZADD x 1 m 2 n
    w: DEL x
    w: RPUSH x 1
    w: MULTI
    w: ZADD x 1 m
    w: DEL x
    w: RPUSH x 2
    w: EXEC
"""
PIPELINES = """
    a~ BLPOP k 0
    a! ECHO behind
    a! SET j 1
    a! BLPOP k 0
    a! ECHO last
    b: GET j
    b: RPUSH k 1
    b: GET j
    b: RPUSH k 2
    a: ECHO after
    a~ BLPOP k 0
    a! INCR j
    b: CLIENT UNBLOCK {a}
    b: GET j
    a~ BLPOP k 0
    a! INCR j
    a! INCR j
    * close a
    b: GET j
    b: RPUSH k 3
    b: LLEN k
    c~ BLPOP k2 0.05
    c! INCR j
    * free c
    b: GET j
    c~ BLPOP k2 0
    c! MULTI
    c! INCR j
    c! EXEC
    b: RPUSH k2 x
    b: GET j
"""
UNBLOCKED = """
    a~ {pop}
    b: CLIENT UNBLOCK {a}
    a~ {pop}
    b: CLIENT UNBLOCK {a} TIMEOUT
    a~ {pop}
    b: CLIENT UNBLOCK {a} ERROR
    a~ {pop}
    b: CLIENT UNBLOCK {a} error
    a~ {pop}
    b: CLIENT UNBLOCK {a} FOO
    b: CLIENT UNBLOCK {a} TIMEOUT ERROR
    b: CLIENT UNBLOCK abc
    b: CLIENT UNBLOCK
    b: CLIENT UNBLOCK -1
    b: CLIENT UNBLOCK 0
    b: CLIENT UNBLOCK 18446744073709551616
    b: CLIENT UNBLOCK 1000000
    b: CLIENT UNBLOCK {b}
    b: MULTI
    b: CLIENT UNBLOCK {a}
    b: CLIENT UNBLOCK {a}
    b: EXEC
    a: PING
    b: CLIENT UNBLOCK {a}
"""
KILLED = """
    a~ BLPOP k 0
    b~ BLPOP k 0
    c~ BLMOVE k d LEFT RIGHT 0
    d~ BZPOPMIN z 0
    w: CLIENT KILL ID {a}
    * close b
    w: CLIENT KILL {d.address}
    w: RPUSH k 1
    w: RPUSH k 2
    w: ZADD z 1 m
    w: LRANGE k 0 -1
    w: LRANGE d 0 -1
    w: ZCARD z
    e~ BLPOP none 0
    f~ BLPOP none 0
    w: CLIENT KILL TYPE normal SKIPME yes ID {e}
    w: MULTI
    w: RPUSH none 1
    w: CLIENT KILL ID {f}
    w: EXEC
    w: LRANGE none 0 -1
"""
DATABASES = """
    a: SELECT 1
    a~ BLPOP k 0
    b~ BLPOP k 0
    w: SELECT 1
    w: RPUSH k one
    w: SELECT 0
    w: RPUSH k zero
    a~ BLPOP k 0
    b~ BLPOP k 0
    w: SELECT 2
    w: RPUSH k two
    w: SWAPDB 2 3
    w: SWAPDB 3 1
    w: SWAPDB 1 0
    w: RPUSH k three
    w: SWAPDB 2 0
    c: SELECT 9
    c~ BLPOP k 0
    w: SWAPDB 9 9
    w: FLUSHALL
    w: FLUSHDB
    w: SELECT 9
    w: MULTI
    w: RPUSH k x
    w: FLUSHDB
    w: EXEC
    w: RPUSH k x
"""
EXPIRY = """
    w: SET k v PX 30
    * until EXISTS k is 0
    a~ BLPOP k 0
    w: RPUSH k x
    a~ BLPOP k 0
    w: SET k v PX 30
    * until EXISTS k is 0
    w: RPUSH k x
    a~ BLMOVE k d LEFT RIGHT 0
    w: SET d v PX 30
    * until EXISTS d is 0
    w: RPUSH k x
    w: LRANGE d 0 -1
    w: RPUSH k a b c
    w: EXPIRE k 100
    a: BLPOP k 0
    w: TTL k
    w: PEXPIREAT k 1
    a~ BLPOP k 0
    w: RPUSH k x
    w: TTL k
"""
IN_MULTI = """
    a: MULTI
    a: BLPOP k 0
    a: BRPOP k 0
    a: BLMOVE k d LEFT RIGHT 0
    a: BRPOPLPUSH k d 0
    a: BLMPOP 0 1 k LEFT
    a: BZPOPMIN k 0
    a: BZPOPMAX k 0
    a: BZMPOP 0 1 k MIN
    a: RPUSH k 1 2
    a: BLPOP k 0
    a: BLMOVE k d LEFT RIGHT 0
    a: BLPOP k abc
    a: BLPOP k -1
    a: EXEC
    a: LRANGE d 0 -1
"""
SILENT = """
    a! CLIENT REPLY OFF
    a! BLPOP k 0
    a! SET seen 1
    b: RPUSH k 1
    * until EXISTS seen is 1
    b: EXISTS k
    a! BLPOP k 0.01
    a! DEL seen
    * until EXISTS seen is 0
    a: CLIENT REPLY ON
    a! CLIENT REPLY SKIP
    a! BLPOP k 0.01
    a: ECHO after
    a! CLIENT REPLY SKIP
    a! BLPOP k 0
    b: RPUSH k 1
    * until EXISTS k is 0
    a: ECHO after
    a~ BLPOP k 0
    b: RPUSH k 1
"""
WATCHED = """
    a: WATCH k
    b~ BLPOP k 0
    w: RPUSH k 1
    a: MULTI
    a: PING
    a: EXEC
    a: WATCH d
    b~ BLMOVE k d LEFT RIGHT 0
    w: RPUSH k 1
    a: MULTI
    a: PING
    a: EXEC
    b: WATCH w
    w: RPUSH w 1
    b~ BLPOP k 0
    w: RPUSH k 1
    b: MULTI
    b: PING
    b: EXEC
"""
CONVERSATIONS = {
    "key order": KEY_ORDER,
    "fairness": FAIRNESS,
    "wrong targets": WRONG_TARGETS,
    "chains": CHAINS,
    "pipelines": PIPELINES,
    "killed": KILLED,
    "databases": DATABASES,
    "expiry": EXPIRY,
    "in MULTI": IN_MULTI,
    "silent": SILENT,
    "watched": WATCHED,
    "swapped": "a~ BLPOP k 0\nb~ BLMOVE d k LEFT LEFT 0\nw: MULTI\nw: SWAPDB 0 1\nw: RPUSH d x\nw: RPUSH k y\nw: EXEC",
}


@pytest.mark.parametrize("script", CONVERSATIONS.values(), ids=list(CONVERSATIONS))
def test_conversations(pair: Pair, script: str):
    """Everybody gets the oracle's replies: who is served, by which element, and who waits on."""
    converse(pair, script, databases=(0, 1, 2, 3, 9))


@pytest.mark.parametrize("pop", POPS)
def test_unblocked(pair: Pair, pop: str):
    """CLIENT UNBLOCK ends the waiting of one client with a null or an error, and says whether it did."""
    converse(pair, UNBLOCKED.replace("{pop}", pop.replace("{t}", "0")))


@pytest.mark.parametrize("seed", range(3))
def test_fairness_by_chance(pair: Pair, seed: int):
    """Many clients, each waiting for some keys, many pushes, alone and in transactions: everybody gets what is his."""
    chance = random.Random(seed)
    keys, clients = ["k1", "k2", "k3", "k4"], [f"a{number}" for number in range(8)]
    pops = ["BLPOP {} 0", "BRPOP {} 0", "BLMPOP 0 {n} {} LEFT COUNT 2", "BLMOVE {one} {two} LEFT RIGHT 0"]
    script = []
    for round_ in range(25):
        for client in chance.sample(clients, 4):
            some = chance.sample(keys, chance.randint(1, 3))
            pop = chance.choice(pops).format(" ".join(some), n=len(some), one=some[0], two=chance.choice(keys))
            script += [f"b: CLIENT UNBLOCK {{{client}}}", f"{client}? {pop}"]
        pushes = [
            f"b: {chance.choice(['LPUSH', 'RPUSH'])} {chance.choice(keys)} {' '.join(f'{round_}.{n}' for n in range(chance.randint(1, 3)))}"
            for _ in range(chance.randint(1, 4))
        ]
        script += ["b: MULTI", *pushes, "b: EXEC"] if chance.random() < 0.5 else pushes
    converse(pair, script)


# --- what the server says of who waits ----------------------------------------------------------------------------------------


def fields(client: RawClient, *command: str) -> dict[bytes, bytes]:
    """Return the fields of an INFO section."""
    lines = client.call(*command).value.split(b"\r\n")
    return dict(line.partition(b":")[::2] for line in lines if b":" in line)


def test_counts(pair: Pair):
    """INFO counts who waits and for how many keys, CLIENT LIST shows the command; afterwards nobody is left."""
    names = (b"blocked_clients", b"total_blocking_keys", b"clients_in_timeout_table")
    seen: list[list[list[bytes]]] = [[], []]
    script = [
        "a~ BLPOP k j 0", "b~ BLPOP k 100", "c~ BZPOPMIN k z 100", "w: RPUSH k 1", "w: CLIENT UNBLOCK {b}", "* close c",
    ]  # fmt: skip
    with Talk(pair) as talk:
        for line in script:
            talk.run([line])
            for side in SIDES:
                found = fields(pair.clients()[side], "INFO", "clients")
                seen[side].append([found[name] for name in names])
        talk.run(["a~ BLMOVE k j LEFT RIGHT 0"])
        for side in SIDES:
            lines = pair.clients()[side].call("CLIENT", "LIST").value.splitlines()
            (line,) = [line for line in lines if b"id=%d " % talk.voice("a").ids[side] in line]
            assert b" flags=b " in line
            assert b" cmd=blmove " in line
    assert seen[1] == seen[0]


def test_a_thousand_wait(ours: Server):
    """A thousand clients wait for one key and are served in the order in which they came."""
    count = 1000
    control = ours.client()
    with contextlib.ExitStack() as stack:
        clients = []
        for number in range(count):
            client = stack.enter_context(ours.connect())
            client.send(pack(("BLPOP", "k", 0)))
            wait_until(lambda number=number: int(fields(control, "INFO", "clients")[b"blocked_clients"]) > number)
            clients.append(client)
        control.call("RPUSH", "k", *range(count // 2))
        for number in range(count // 2, count):
            control.call("RPUSH", "k", number)

        assert [b"%d" % number for number in range(count)] == [client.read()[0].plain()[1] for client in clients]
        assert control.call("EXISTS", "k").value == 0
    wait_until(lambda: fields(control, "INFO", "clients")[b"blocked_clients"] == b"0")
