"""What a replica has and shows: after every kind of write the same as its primary, of every type, and it takes no writes of its own.

How a replica comes to have it, whatever happens on the way, is in `test_replication_syncs`.
"""

from __future__ import annotations

import contextlib
import random
import resource
from typing import TYPE_CHECKING

import pytest

from tests.crash import Workload
from tests.differential import line_words
from tests.replicas import Family, check_same, digest, info, wait_for
from tests.servers import skip_unless_known
from tests.several import _readable
from tests.test_digest import VALUES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.client import RawClient, Reply


@pytest.fixture(scope="module")
def together() -> Iterator[Family]:
    with Family(1) as family:
        yield family


@pytest.fixture
def family(together: Family) -> Iterator[Family]:
    """A primary and a replica, empty and in step; after the test both are in order and the same."""
    for server in together.servers:
        server.drop_clients()
    together.primary.client().call("FLUSHALL")
    together.wait()
    yield together
    together.mend()


def run(client: RawClient, script: str) -> list[Reply]:
    """Run the lines of a script; none of them may be refused."""
    lines = [line.strip() for line in script.splitlines() if line.strip()]
    replies = client.pipeline([line_words(line) for line in lines])
    for line, reply in zip(lines, replies, strict=True):
        assert not reply.is_error, (line, reply)
    return replies


def check_reads(family: Family, script: str) -> None:
    """Both answer the lines of a script with the same, and refuse none of them."""
    family.wait()
    primary, replica = (server.client() for server in family.servers)
    for line in filter(None, map(str.strip, script.splitlines())):
        expected, found = (client.call(*line_words(line)) for client in (primary, replica))
        assert not expected.is_error, line
        assert expected == found, line


# --- every type ---------------------------------------------------------------------------------------------------------------------

# A type -> (what is written, what is read). In the middle of what is written, `---`: there it is read as well.
SCRIPTS = {
    "string": (
        """
        SET a 1
        SETEX b 1000 v
        APPEND a 23
        SET c <20000>
        ---
        INCRBY a 7
        INCRBYFLOAT f 1.25
        SETRANGE c 9000 hello
        APPEND c <9000z>
        SETRANGE b 100000 end
        MSET d 1 e 2 <600k> 3
        MSETNX x 1 y 2
        GETDEL d
        GETEX e EX 1000
        GETEX b PERSIST
        GETSET x 5
        SET y 5 KEEPTTL
        """,
        "GET a\nGET b\nGET c\nGETRANGE c 8990 9010\nSTRLEN c\nMGET a b d e x y <600k>\nEXISTS b\nKEYS *\nDBSIZE\nTYPE b",
    ),
    "hash": (
        """
        HSET h f v g w <600f> long
        HSET big """
        + " ".join(f"f{n} {n}" for n in range(700))
        + """
        ---
        HDEL h f
        HINCRBY h n 5
        HINCRBYFLOAT h x 2.5
        HSETNX h new 1
        HDEL big """
        + " ".join(f"f{n}" for n in range(0, 700, 3))
        + """
        HSET big f3 again
        EXPIRE h 1000
        """,
        "HGETALL h\nHLEN big\nHGETALL big\nHGET h <600f>\nHKEYS h\nHVALS h\nHSCAN big 0 COUNT 1000\nHSTRLEN h n\nHMGET big f1 f3 f6 none",
    ),
    "list": (
        """
        RPUSH l a b c d e
        RPUSH big """
        + " ".join(map(str, range(900)))
        + """
        ---
        LPUSH l z
        LINSERT big BEFORE 450 middle
        LINSERT big AFTER 20 <2000>
        LREM big 1 700
        LSET big 5 five
        LTRIM big 3 800
        LMOVE l other LEFT RIGHT
        RPOPLPUSH l other
        LMPOP 1 big LEFT COUNT 3
        LPOP big 2
        RPOP big
        LPUSHX l y
        """,
        "LRANGE l 0 -1\nLRANGE big 0 -1\nLLEN big\nLINDEX big 400\nLINDEX big -1\nLPOS big middle\nLRANGE other 0 -1\nLRANGE big 300 310",
    ),
    "set": (
        """
        SADD s a b c d <600m>
        SADD ints 1 2 3 4
        SADD big """
        + " ".join(f"m{n}" for n in range(900))
        + """
        ---
        SREM s a
        SPOP big 10
        SPOP big
        SMOVE s ints b
        SINTERSTORE both s ints
        SUNIONSTORE all s ints big
        SDIFFSTORE less big s
        """,
        "SMEMBERS s\nSCARD big\nSMEMBERS big\nSISMEMBER s <600m>\nSMISMEMBER s a b c\nSINTER all big\nSINTERCARD 2 all big\nSSCAN big 0 COUNT 1000\nSDIFF all big",
    ),
    "zset": (
        """
        ZADD z 1 a 2 b 3 c -inf low inf high 1.5 <600m>
        ZADD big """
        + " ".join(f"{n % 50} m{n}" for n in range(900))
        + """
        ---
        ZINCRBY z 5 a
        ZADD z GT CH 9 b
        ZREM z c
        ZADD big 17 m3 99 m900
        ZPOPMIN big 3
        ZPOPMAX big
        ZREMRANGEBYSCORE big 10 12
        ZREMRANGEBYRANK big 5 9
        ZUNIONSTORE sum 2 z big WEIGHTS 2 1
        ZRANGESTORE part big 10 50
        ZINTERSTORE none 2 z big
        ZADD lex 0 a 0 b 0 c 0 d
        ZREMRANGEBYLEX lex [b (d
        ZMPOP 1 big MAX COUNT 2
        """,
        "ZRANGE z 0 -1 WITHSCORES\nZRANGE big 0 -1 WITHSCORES\nZCARD big\nZRANK big m77 WITHSCORE\nZCOUNT big 20 30\nZSCORE z <600m>\nZRANGEBYLEX lex - +\nZRANGE big 5 25 BYSCORE LIMIT 3 9\nZREVRANGE sum 0 9\nZMSCORE z a b c\nZRANGE part 0 -1\nZSCAN big 0 COUNT 1000",
    ),
    "stream": (
        """
        XADD x 1-1 f v g w
        XADD x 1-2 f v
        XADD x 2-1 <600f> <600>
        XGROUP CREATE x g 0
        XGROUP CREATE x h 1-1
        XGROUP CREATE bare g $ MKSTREAM
        ---
        XREADGROUP GROUP g ann COUNT 2 STREAMS x >
        XREADGROUP GROUP h bob STREAMS x >
        XACK x g 1-1
        XCLAIM x g bob 0 1-2 IDLE 5
        XGROUP CREATECONSUMER x g carl
        XADD x 3-1 f v
        XADD x MAXLEN 4 4-1 f v
        XDEL x 2-1
        XTRIM x MINID 1-2
        XSETID x 9-9
        XGROUP SETID x h 3-1
        XGROUP DELCONSUMER x h bob
        XAUTOCLAIM x g dora 0 0
        """,
        "XRANGE x - +\nXREVRANGE x + - COUNT 2\nXLEN x\nXREAD STREAMS x 1-1\nXPENDING x g\nXINFO GROUPS x\nXINFO STREAM x\nXRANGE bare - +\nXINFO GROUPS bare",
    ),
}


@pytest.mark.parametrize("kind", SCRIPTS)
def test_each_type(kind: str, family: Family):
    """After every kind of write to a type the replica's reads say what the primary's say; what it had read before is not stale."""
    writes, reads = SCRIPTS[kind]
    first, second = writes.split("---")
    primary = family.primary.client()
    run(primary, first)
    known = [line for line in reads.splitlines() if not primary.call(*line_words(line)).is_error]
    check_reads(family, "\n".join(known))
    family.check()
    run(primary, second)
    check_reads(family, reads)
    run(
        primary,
        "MULTI\nCOPY " + " ".join(primary.call("KEYS", "*").items()[0].value.decode().split()) + " copied\nEXEC",
    )
    family.check()


def test_values_in_all_their_shapes(family: Family):
    """Short and long, packed and in rows, with an expiry and without: the digests of every single value agree."""
    for lines in VALUES.values():
        run(family.primary.client(), lines)
    check_reads(family, f"DEBUG DIGEST-VALUE {' '.join(VALUES)}")


def test_random_writes(family: Family):
    """Random writes, transactions and scripts in pipelines: the same digest at every stop."""
    workload = Workload(random.Random(5), able=frozenset({"XADD"}))
    for _ in range(5):
        family.primary.client().pipeline([workload.plain() for _ in range(200)])
        family.check()


def test_transactions_and_scripts(family: Family):
    """What a transaction or a script wrote is there as a whole; chance and time are what they were on the primary."""
    primary = family.primary.client()
    run(primary, "MULTI\nSET a 1\nRPUSH l 1 2 3\nINCR a\nEXEC")
    script = "redis.call('SADD','s',unpack(ARGV)) local t = redis.call('TIME') redis.call('SET','t',t[1]..t[2]) return redis.call('SPOP','s',3)"
    primary.call("EVAL", script, 0, *range(20))
    check_reads(family, "GET a\nLRANGE l 0 -1\nSMEMBERS s\nGET t")


LIBRARY = "#!lua name=lib\nredis.register_function{function_name='f', callback=function(k,a) return redis.call('GET',k[1]) end, flags={'no-writes'}}"


def test_functions(family: Family):
    """A library that is loaded, replaced or deleted on the primary is so on the replica, also for one that has called it before."""
    skip_unless_known(family.primary, "FUNCTION")
    primary, replica = (server.client() for server in family.servers)
    run(primary, "SET k v")
    assert primary.call("FUNCTION", "LOAD", LIBRARY).value == b"lib"
    check_reads(family, "FCALL_RO f 1 k\nFUNCTION LIST")
    assert primary.call("FUNCTION", "LOAD", "REPLACE", LIBRARY.replace("GET", "STRLEN")).value == b"lib"
    check_reads(family, "FCALL_RO f 1 k\nFUNCTION LIST")
    assert replica.call("FCALL_RO", "f", 1, "k").value == 1
    run(primary, "FUNCTION FLUSH")
    family.wait()

    assert replica.call("FCALL_RO", "f", 1, "k").is_error
    assert replica.call("FUNCTION", "LOAD", LIBRARY).value.startswith(b"READONLY")


# --- databases ------------------------------------------------------------------------------------------------------------------------


def test_many_databases(family: Family):
    """FLUSHDB, FLUSHALL, SWAPDB, RENAME and MOVE over databases are the same there at once."""
    primary = family.primary.client()
    for number in (0, 1, 7, 15):
        run(primary, f"SELECT {number}\nSET k {number}\nRPUSH l {number}\nSADD own{number} a b")
    reads = "SELECT 0\nKEYS *\nGET k\nSELECT 1\nDBSIZE\nGET k\nSELECT 7\nKEYS *\nGET k\nLRANGE l 0 -1\nSELECT 15\nGET k\nKEYS *\nSELECT 0"
    for script in (
        "PING",
        "SWAPDB 0 7",
        "SELECT 0\nMOVE own7 1\nRENAME k j\nRENAME j l",
        "SELECT 1\nFLUSHDB",
        "SELECT 1\nSET k new\nSWAPDB 1 15",
        "SELECT 7\nCOPY k k2 DB 15\nSWAPDB 7 7",
        "FLUSHALL",
        "SELECT 0\nSET k again\nSELECT 7\nSET k other",
    ):
        run(primary, script)
        check_reads(family, reads)
        family.check()


@pytest.mark.parametrize(("of_primary", "of_replica"), [(16, 4), (4, 16)])
def test_other_number_of_databases(of_primary: int, of_replica: int):
    """A replica keeps what it cannot reach, and has more databases than it needs: when it is the primary, it uses them."""
    with Family(1, of_primary=("--databases", str(of_primary)), of_replicas=("--databases", str(of_replica))) as family:
        primary, replica = (server.client() for server in family.servers)
        for number in (0, 3, of_primary - 1):
            run(primary, f"SELECT {number}\nSET k {number}\nHSET h f {number}\nPEXPIRE k 100000")
        run(primary, "SWAPDB 3 0")
        family.check()
        run(primary, f"SELECT {of_primary - 1}\nFLUSHDB\nSET k new")
        family.check()
        assert replica.call("SELECT", of_replica - 1).value == b"OK"
        assert replica.call("SELECT", of_replica).is_error
        run(replica, f"SELECT {of_replica - 1}\nDBSIZE\nKEYS *\nSELECT 0")
        before = digest(family.replica)
        run(replica, "REPLICAOF NO ONE")
        assert before == digest(family.replica)
        run(replica, f"SELECT {of_replica - 1}\nSET own 1\nSELECT 1\nSET own 2\nFLUSHDB\nSELECT 0")
        assert replica.call("DEBUG", "CHECK").value == b"OK"
        before = digest(family.replica)
        family.replica.kill9()
        family.replica.options = family.replica.options[:-2]  # a primary from now on
        family.replica.start()
        assert before == digest(family.replica)
        assert family.replica.client().call("DEBUG", "CHECK").value == b"OK"


def test_a_primary_for_a_moment():
    """Who becomes a primary and a replica again before anything is logged has made no databases of its own."""
    with Family(1, of_primary=("--databases", "4"), of_replicas=("--databases", "16")) as family:
        run(family.primary.client(), "SET k v")
        family.wait()
        proxy = family.proxy.port
        run(family.replica.client(), f"MULTI\nREPLICAOF NO ONE\nREPLICAOF 127.0.0.1 {proxy}\nEXEC")
        run(family.primary.client(), "SET k w")
        family.check()
        assert family.replica.client().call("GET", "k").value == b"w"


# --- time -------------------------------------------------------------------------------------------------------------------------------


def test_expired_keys(family: Family):
    """A replica hides a key whose time has come at once, deletes nothing by itself, and deletes when its primary says so."""
    primary, replica = (server.client() for server in family.servers)
    primary.call("DEBUG", "SET-ACTIVE-EXPIRE", 0)
    try:
        run(primary, "SET k v PX 1000\nRPUSH l a b\nPEXPIRE l 1000\nSET kept v EX 1000\nSET other v")
        family.wait()
        assert replica.call("PTTL", "k").value > 0
        wait_for(lambda: replica.call("GET", "k").value is None, "the key to be hidden")
        log_end = replica.call("ROLE").plain()[4]
        assert replica.call("EXISTS", "k", "l", "kept").value == 1
        assert replica.call("LRANGE", "l", 0, -1).value == ()
        assert replica.call("TTL", "k").value == -2
        assert sorted(replica.call("KEYS", "*").plain()) == [b"kept", b"other"]
        assert sorted(replica.call("SCAN", 0).plain()[1]) == [b"kept", b"other"]
        assert {replica.call("RANDOMKEY").value for _ in range(30)} == {b"kept", b"other"}
        assert replica.call("EVAL_RO", "return redis.call('EXISTS','k')", 0).value == 0
        assert replica.call("DBSIZE").value == 4, "the rows are still there"
        assert info(replica, "keyspace")["db0"].startswith("keys=4,expires=3")
        assert info(replica, "stats")["expired_keys"] == "0"
        assert log_end <= replica.call("ROLE").plain()[4]
        assert primary.call("GET", "k").value is None  # which deletes it
        family.wait()
        assert replica.call("DBSIZE").value == 3
    finally:
        primary.call("DEBUG", "SET-ACTIVE-EXPIRE", 1)
    wait_for(lambda: replica.call("DBSIZE").value == 2, "the primary to delete the other one, and the replica with it")


def test_expiry_of_a_promoted_replica():
    """A replica that becomes a primary deletes what has expired meanwhile, and what expires from now on."""
    with Family(1) as family:
        primary, replica = (server.client() for server in family.servers)
        primary.call("DEBUG", "SET-ACTIVE-EXPIRE", 0)
        run(primary, "SET k v PX 50\nSET l v PX 100\nSET m v PX 800\nSET n v")
        family.wait()
        wait_for(lambda: replica.call("EXISTS", "k", "l").value == 0, "two keys to be hidden")
        assert replica.call("DBSIZE").value == 4
        run(replica, "REPLICAOF NO ONE")
        wait_for(lambda: replica.call("DBSIZE").value == 1, "all three to be deleted")
        assert info(replica, "stats")["expired_keys"] == "3"
        assert replica.call("DEBUG", "CHECK").value == b"OK"


# --- a replica takes no writes ------------------------------------------------------------------------------------------------------------

READONLY = b"READONLY You can't write against a read only replica."


def test_writes_are_refused(family: Family):
    """READONLY for every write, also in MULTI, in scripts and from one who waits; reads go on, and nothing has changed."""
    run(family.primary.client(), "SET k v\nRPUSH l a\nXADD x 1-1 f v\nXGROUP CREATE x g 0")
    family.wait()
    replica = family.replica.client()
    before = digest(family.replica)
    for line in (
        "SET k w", "set k w", "DEL k", "LPOP l", "BLPOP l 1", "EXPIRE k 10", "FLUSHALL", "FLUSHDB", "SWAPDB 0 1", "MOVE k 1", "RENAME k j",
        "COPY k j", "XADD x * f v", "XREADGROUP GROUP g c STREAMS x >", "SORT l STORE m", "GETEX k EX 10", "PFADD h a", "SPOP s", "GETDEL none",
        "GEOADD g 1 1 a", "MSET a 1 b 2", "XGROUP DESTROY x g", "UNLINK none", "FUNCTION FLUSH",
    ):  # fmt: skip
        reply = replica.call(*line_words(line))
        if not reply.value.startswith(b"ERR unknown command"):
            assert reply.value == READONLY, line
    assert run(replica, "MULTI\nGET k\nEXEC")[-1].plain() == [b"v"]
    assert replica.call("MULTI").value == b"OK"
    assert replica.call("SET", "k", "w").value == READONLY
    assert replica.call("EXEC").value.startswith(b"EXECABORT")
    reply = replica.call("EVAL", "return redis.call('SET','k','w')", 0)
    assert reply.value.startswith(READONLY)
    assert b"script" in reply.value
    assert replica.call("EVAL", "return redis.pcall('SET','k','w').err", 0).value.startswith(READONLY)
    assert replica.call("EVAL", "return redis.call('GET','k')", 0).value == b"v"
    assert replica.call("EVAL_RO", "return redis.call('GET','k')", 0).value == b"v"
    assert replica.call("PUBLISH", "c", "m").value == 0
    assert before == digest(family.replica)


# --- who waits, watches or listens on a replica -----------------------------------------------------------------------------------------------


def test_stream_readers_are_woken(family: Family):
    """XREAD BLOCK on a replica gets what is added to the stream on the primary, once."""
    primary = family.primary.client()
    run(primary, "XADD x 1-1 f v")
    family.wait()
    with family.replica.connect() as one, family.replica.connect() as other:
        for client in (one, other):
            client.send(b"XREAD BLOCK 0 STREAMS x y $ $\r\n")
        wait_for(lambda: info(family.replica.client(), "clients")["blocked_clients"] == "2", "both to wait")
        run(primary, "SET x2 v\nXADD x 2-1 f w")
        for client in (one, other):
            assert [[b"x", [[b"2-1", [b"f", b"w"]]]]] == client.read()[0].plain()
            client.send(b"XREAD BLOCK 0 STREAMS y 0\r\n")
        wait_for(lambda: info(family.replica.client(), "clients")["blocked_clients"] == "2", "both to wait again")
        run(primary, "MULTI\nXADD z 1-1 f v\nRENAME z y\nEXEC")
        for client in (one, other):
            assert [[b"y", [[b"1-1", [b"f", b"v"]]]]] == client.read()[0].plain()
        one.send(b"XREAD BLOCK 0 STREAMS w 0\r\n")
        wait_for(lambda: info(family.replica.client(), "clients")["blocked_clients"] == "1", "one to wait")
        run(primary, "SELECT 1\nXADD w 1-1 f v\nSELECT 0")
        family.wait()
        assert not _readable(one, 0)
        run(primary, "SWAPDB 0 1")
        assert [[b"w", [[b"1-1", [b"f", b"v"]]]]] == one.read()[0].plain()
        run(primary, "SWAPDB 0 1")


def test_nothing_is_missed_of_what_comes_together(family: Family):
    """Who waits or watches at a replica sees each write, though many come at once, and some take back what others brought."""
    primary, replica = (server.client() for server in family.servers)
    run(primary, "SET k v")
    family.wait()
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(family.replica.connect()) for _ in range(3)]
        for reader, stream in zip(readers, "abc", strict=True):
            reader.send(b"XREAD BLOCK 0 STREAMS %b 0\r\n" % stream.encode())
        wait_for(lambda: info(replica, "clients")["blocked_clients"] == "3", "all to wait")
        run(replica, "WATCH k")
        family.proxy.stall()
        for line in (
            "XADD a 1-1 f v", "DEL a", "XADD b MAXLEN 1 1-1 f v", "XADD b MAXLEN 1 2-1 f v", "XADD c 1-1 f v", "RENAME c d",
            "SWAPDB 0 1", "SWAPDB 0 1",
        ):  # fmt: skip
            run(primary, line)
        family.proxy.heal()
        for reader, stream in zip(readers, "abc", strict=True):
            assert [[stream.encode(), [[b"1-1", [b"f", b"v"]]]]] == reader.read()[0].plain()
        family.wait()
        run(replica, "MULTI\nGET k")
        assert replica.call("EXEC").plain() is None


def test_watch_of_what_is_not_there(family: Family):
    """What a replica watches is followed where FLUSHDB leads its name."""
    primary, replica = (server.client() for server in family.servers)
    run(primary, "SET k v")
    family.wait()
    run(replica, "WATCH gone")
    for line in ("FLUSHDB", "SET gone v", "DEL gone"):
        run(primary, line)
        family.wait()
    run(replica, "MULTI\nGET k")
    assert replica.call("EXEC").plain() is None


def test_what_came_before_the_disk_was_full():
    """Of records that come together a replica tells those that its disk had room for, and the others when there is room again."""
    count = 1000
    with Family(1) as family, family.replica.connect() as listener:
        replica = family.replica
        listener.call("SUBSCRIBE", "room")
        family.proxy.stall()
        for number in range(count):
            family.primary.client().call("PUBLISH", "room", number)
        resource.prlimit(replica.pid, resource.RLIMIT_FSIZE, (40_000, resource.RLIM_INFINITY))
        family.proxy.heal()
        wait_for(lambda: "The disk is full" in replica.log_tail(), "the disk to be full")
        resource.prlimit(replica.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        family.check()
        assert [listener.read()[0].plain()[2] for _ in range(count)] == [b"%d" % number for number in range(count)]


@pytest.mark.parametrize(
    ("write", "touches"),
    [
        ("SET k new", True), ("DEL k", True), ("FLUSHALL", True), ("FLUSHDB", True), ("RENAME other k", True), ("RENAME k gone", True),
        ("SWAPDB 0 1", True), ("EXPIRE k 1000", True), ("SET other new", False), ("PUBLISH k v", False), ("MOVE k 2", True),
    ],
)  # fmt: skip
def test_watch(write: str, touches: bool, family: Family):
    """A transaction on a replica fails if a write on the primary touched what it watches, and only then."""
    primary, replica = (server.client() for server in family.servers)
    run(primary, "SET k v\nSET other v\nSELECT 1\nSET k one\nSELECT 0")
    family.wait()
    run(replica, "WATCH k\nMULTI\nGET k")
    run(primary, write)
    family.wait()
    assert replica.call("EXEC").plain() == (None if touches else [b"v"])


def test_key_cache_is_not_stale(family: Family):
    """What the replica keeps decoded of hot keys is dropped when their rows come: read, written, read, many times."""
    primary, replica = (server.client() for server in family.servers)
    for number in range(40):
        run(
            primary,
            f"SET s {number}\nHSET h f {number} g{number} 1\nRPUSH l {number}\nZADD z {number} m\nSADD set m{number}\nXADD x {number + 1}-1 f {number}",
        )
        check_reads(family, "GET s\nHGETALL h\nLRANGE l 0 -1\nZSCORE z m\nSMEMBERS set\nXLEN x\nLLEN l")
    assert replica.call("DEBUG", "CHECK").value == b"OK"
    check_same(*family.servers)


@pytest.mark.parametrize("change", ["SELECT 5\nSET k v\nFLUSHDB\nSELECT 0", "SWAPDB 0 1\nSWAPDB 0 1", "FLUSHALL", ""])
def test_ranks_are_not_stale(change: str, family: Family):
    """The directories that a replica has open are opened anew when their rows come, also in one record with a change of the databases."""
    primary, replica = (server.client() for server in family.servers)
    even, odd = (" ".join(f"{number} m{number:04d}" for number in range(first, 1000, 2)) for first in (0, 1))
    run(primary, f"ZADD z {even}\nSADD set {even}\nZADD y 1 a")
    reads = "ZRANK z m0998\nZCOUNT z 100 800\nZRANGE z 490 499\nSRANDMEMBER set -1\nDBSIZE"
    family.wait()
    for line in reads.splitlines():
        replica.call(*line_words(line))
    run(primary, f"MULTI\n{change}\nZADD z {odd} 1000 m1000\nSADD set {odd}\n{change}\nZADD z 1001 m1001 1 m0\nEXEC")
    run(primary, f"ZADD z {even}\nSADD set {even}")
    check_reads(family, reads.replace("SRANDMEMBER set -1", "SCARD set"))
    assert replica.call("DEBUG", "CHECK").value == b"OK"
