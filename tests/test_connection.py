"""The connection group and the shape of every command, against the oracle.

PING ECHO SELECT AUTH HELLO QUIT RESET CLIENT, inline commands, pipelines; wrong arity, unknown commands and subcommands.
Hostile bytes belong to the parser's own tests; here are only requests that a person or a client may send.
"""

from __future__ import annotations

import re
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.client import Disconnected, RawClient, pack
from tests.comparison import equal
from tests.differential import INTEGERS, ODD_WORDS, commands_of, compare, show, spaced, table
from tests.several import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.differential import Pair

# Every command of Redis 7.2 in the groups of this suite, and those of the server group that answer without effects.
COMMANDS = spaced("""
    APPEND DECR DECRBY GET GETDEL GETEX GETRANGE GETSET INCR INCRBY INCRBYFLOAT LCS MGET MSET MSETNX PSETEX SET SETEX
    SETNX SETRANGE STRLEN SUBSTR
    HDEL HEXISTS HGET HGETALL HINCRBY HINCRBYFLOAT HKEYS HLEN HMGET HMSET HRANDFIELD HSCAN HSET HSETNX HSTRLEN HVALS
    LINDEX LINSERT LLEN LMOVE LMPOP LPOP LPOS LPUSH LPUSHX LRANGE LREM LSET LTRIM RPOP RPOPLPUSH RPUSH RPUSHX
    SADD SCARD SDIFF SDIFFSTORE SINTER SINTERCARD SINTERSTORE SISMEMBER SMEMBERS SMISMEMBER SMOVE SPOP SRANDMEMBER SREM
    SSCAN SUNION SUNIONSTORE
    ZADD ZCARD ZCOUNT ZDIFF ZDIFFSTORE ZINCRBY ZINTER ZINTERCARD ZINTERSTORE ZLEXCOUNT ZMPOP ZMSCORE ZPOPMAX ZPOPMIN
    ZRANDMEMBER ZRANGE ZRANGEBYLEX ZRANGEBYSCORE ZRANGESTORE ZRANK ZREM ZREMRANGEBYLEX ZREMRANGEBYRANK ZREMRANGEBYSCORE
    ZREVRANGE ZREVRANGEBYLEX ZREVRANGEBYSCORE ZREVRANK ZSCAN ZSCORE ZUNION ZUNIONSTORE
    COPY DEL EXISTS EXPIRE EXPIREAT EXPIRETIME KEYS MOVE OBJECT PERSIST PEXPIRE PEXPIREAT PEXPIRETIME PTTL RANDOMKEY
    RENAME RENAMENX SCAN TOUCH TTL TYPE UNLINK
    AUTH CLIENT ECHO HELLO PING QUIT RESET SELECT
    COMMAND CONFIG DBSIZE FLUSHALL FLUSHDB INFO LASTSAVE LOLWUT MEMORY SWAPDB TIME
""")
CONTAINERS = {
    # CACHING GETREDIR PAUSE TRACKING TRACKINGINFO UNBLOCK UNPAUSE come with tracking, pausing and blocking.
    "CLIENT": spaced("GETNAME ID INFO KILL LIST NO-EVICT NO-TOUCH REPLY SETINFO SETNAME"),
    "OBJECT": spaced("ENCODING FREQ IDLETIME REFCOUNT"),
    "CONFIG": spaced("GET SET RESETSTAT REWRITE"),
    "COMMAND": spaced("COUNT GETKEYS GETKEYSANDFLAGS INFO LIST DOCS"),
    "MEMORY": spaced("DOCTOR STATS USAGE"),
}
# Too many words are refused only where the oracle's arity is exact; these would act if they were not refused.
UNTRIED = {"QUIT", "RESET"}
CLIENT_TEXTS = """
    CLIENT GETNAME
    CLIENT SETNAME me
    CLIENT GETNAME
    CLIENT SETNAME "a b"
    CLIENT SETNAME "a\\n"
    CLIENT SETNAME "\\xff"
    CLIENT GETNAME
    CLIENT SETNAME ""
    CLIENT GETNAME
    CLIENT SETINFO LIB-NAME mine
    CLIENT SETINFO lib-ver 1.2
    CLIENT SETINFO LIB-NAME "a b"
    CLIENT SETINFO LIB-VER "a\\nb"
    CLIENT SETINFO LIB-NAME ""
    CLIENT SETINFO BOGUS x
    CLIENT ID
    CLIENT INFO
    CLIENT LIST
    CLIENT LIST TYPE normal
    CLIENT LIST TYPE pubsub
    CLIENT LIST TYPE bogus
    CLIENT LIST TYPE <200>
    CLIENT SETINFO <200> x
    CLIENT LIST ID 123456789
    CLIENT LIST ID a
    CLIENT LIST ID
    CLIENT NO-EVICT on
    CLIENT NO-EVICT OFF
    CLIENT NO-EVICT maybe
    CLIENT NO-TOUCH on
    CLIENT NO-TOUCH off
    CLIENT NO-TOUCH maybe
    CLIENT REPLY ON
    CLIENT REPLY maybe
    CLIENT KILL ID 123456789
    CLIENT KILL ID a
    CLIENT KILL ID 0
    CLIENT KILL 127.0.0.1:1
    CLIENT KILL TYPE bogus
    CLIENT KILL ADDR 127.0.0.1:1
    CLIENT KILL LADDR 127.0.0.1:1
    CLIENT KILL USER bogus
    CLIENT KILL SKIPME maybe ID 5
    CLIENT KILL ID
    CLIENT KILL BOGUS x
    CLIENT KILL ID 123456789 ADDR
    CLIENT HELP
"""


@pytest.fixture
def fresh(pair: Pair) -> Iterator[tuple[RawClient, RawClient]]:
    """New connections to both, for tests that leave them in a state of their own."""
    ours, oracle = pair.fresh()
    with closing(ours), closing(oracle):
        yield ours, oracle


def test_small_talk(pair: Pair):
    """PING and ECHO give back what they are given, whole."""
    pair.run(
        [
            "PING",
            "ping",
            "PiNg hello",
            "PING a b",
            'PING ""',
            "ECHO hello",
            "ECHO",
            "ECHO a b",
            *table(["PING", "ECHO"], ODD_WORDS),
        ]
    )


def test_select(pair: Pair, fresh: tuple[RawClient, RawClient]):
    """SELECT takes what is a database and refuses the rest; a refused SELECT changes nothing."""
    script = [line for number in INTEGERS for line in (f"SELECT {number}", "DBSIZE", "INCR here")]
    compare(pair, script, clients=fresh, databases=range(16))


def test_wrong_arity_of_every_command(pair: Pair):
    """No command takes fewer words than it needs, nor more where the number is fixed: the same text for each."""
    script: list[object] = []
    info = pair.oracle.client(2).pipeline([("COMMAND", "INFO", name) for name in COMMANDS])
    for name, reply in zip(COMMANDS, info, strict=True):
        arity = reply.items()[0].items()[1].value
        counts = set(range(1, abs(arity))) | ({abs(arity) + 1, abs(arity) + 5} if arity > 0 else set())
        script += [(case(name), *["x"] * (count - 1)) for count in sorted(counts) for case in (str.upper, str.lower)]
    pair.run([words for words in script if words[0].upper() not in UNTRIED])


def test_wrong_arity_of_every_subcommand(pair: Pair):
    """Subcommands are refused with their own full name, `client|setname`, and unknown ones with the way to HELP."""
    script: list[object] = []
    for name, subcommands in CONTAINERS.items():
        info = pair.oracle.client(2).pipeline([("COMMAND", "INFO", f"{name}|{sub}") for sub in subcommands])
        for sub, reply in zip(subcommands, info, strict=True):
            arity = reply.items()[0].items()[1].value
            counts = set(range(2, abs(arity))) | ({abs(arity) + 1} if arity > 0 else set())
            script += [(name, sub, *["x"] * (count - 2)) for count in sorted(counts)]
        script += [
            (name,),
            (name, "BOGUS"),
            (name.lower(), "bogus", "x", "y"),
            (name, "HELP"),
            (name, "help"),
            (name, "HELP", "x"),
            (name, ""),
            (name, "b" * 200),
            (name, "a\r\nb"),
        ]
    pair.run(script)


def test_unknown_commands(pair: Pair):
    """An unknown command is named with the first of its arguments, cut where Redis cuts them."""
    pair.run(
        [
            ("BOGUS",),
            ("bogus", "a"),
            ("BOGUS", "a", "b", "c"),
            ("",),
            ("GE",),
            ("GETT", "k"),
            ("a" * 200, "b" * 200),
            ("x", "y" * 100, "z" * 100),
            ("BOGUS", "a\r\nb"),
            ("new\nline",),
            ("BOGUS", "'quoted'", '"double"'),
            ("BOGUS", b"\x00\xff"),
            ("BOGUS", *"abcdefghijklmnopqrstuvwxyz" * 6),
            ("get|x", "k"),
            ("client|id",),
        ]
    )


def test_client(pair: Pair, fresh: tuple[RawClient, RawClient]):
    """CLIENT's subcommands, their words and their refusals."""
    compare(pair, CLIENT_TEXTS, clients=fresh)


def test_client_info_names_the_same_fields(pair: Pair, fresh: tuple[RawClient, RawClient]):
    """CLIENT INFO and LIST are lines of field=value with every field of Redis 7.2, in its order."""
    fields = spaced(
        "id addr laddr fd name age idle flags db sub psub ssub multi qbuf qbuf-free argv-mem multi-mem rbs rbp obl oll omem tot-mem events cmd user redir resp lib-name lib-ver"
    )
    ours = fresh[0]
    ours.pipeline([("CLIENT", "SETNAME", "me"), ("CLIENT", "SETINFO", "LIB-NAME", "mine"), ("SELECT", 3)])
    for command in ("INFO", "LIST"):
        text = ours.call("CLIENT", command).value.removeprefix(b"txt:").decode()
        lines = [dict(word.split("=", 1) for word in line.split(" ")) for line in text.splitlines()]
        line = next(line for line in lines if line["name"] == "me")

        assert [field for field in line if field in fields] == list(fields)
        assert (line["db"], line["resp"], line["lib-name"], line["cmd"]) == (
            "3",
            str(pair.protocol),
            "mine",
            f"client|{command.lower()}",
        )


def test_client_reply(pair: Pair, fresh: tuple[RawClient, RawClient]):
    """CLIENT REPLY SKIP and OFF silence exactly the replies they should."""
    script = [
        ("CLIENT", "REPLY", "SKIP"),
        ("SET", "a", 1),
        ("GET", "a"),
        ("CLIENT", "REPLY", "OFF"),
        ("INCR", "a"),
        ("BOGUS",),
        ("CLIENT", "REPLY", "SKIP"),
        ("INCR", "a"),
        ("CLIENT", "REPLY", "ON"),
        ("GET", "a"),
    ]
    for client in fresh:
        client.send(b"".join(map(pack, script)))
    replies = [[client.read_raw_reply() for _ in range(3)] for client in fresh]

    assert replies[0] == replies[1] == [b"$1\r\n1\r\n", b"+OK\r\n", b"$1\r\n3\r\n"]


@pytest.mark.parametrize(
    "lines",
    [
        "CLIENT REPLY SKIP; CLIENT REPLY ON",
        "CLIENT REPLY SKIP; CLIENT REPLY BOGUS",
        "CLIENT REPLY OFF; CLIENT REPLY BOGUS; CLIENT REPLY ON; CLIENT REPLY ON",
        "CLIENT REPLY OFF; SUBSCRIBE a b; PSUBSCRIBE c*; SSUBSCRIBE d; UNSUBSCRIBE; PUNSUBSCRIBE c*; SUNSUBSCRIBE; CLIENT REPLY ON",
        "CLIENT REPLY SKIP; SUBSCRIBE a; UNSUBSCRIBE a",
        "CLIENT REPLY OFF; SUBSCRIBE; CLIENT REPLY ON",
        "CLIENT REPLY SKIP; RESET",
        "CLIENT REPLY OFF; RESET",
    ],
)
def test_what_is_told_all_the_same(pair: Pair, lines: str, fresh: tuple[RawClient, RawClient]):
    """Who wants no replies is told when he gets them again, and to what he listens."""
    said = []
    for client in fresh:
        client.send(b"".join(pack(line.split()) for line in [*lines.split("; "), "ECHO end"]))
        said.append([client.read_raw_reply()])
        while b"end" not in said[-1][-1]:
            said[-1].append(client.read_raw_reply())
    assert said[0] == said[1]


def test_a_monitor_that_wants_no_replies(pair: Pair):
    """Who monitors after CLIENT REPLY OFF is shown nothing."""
    for server in (pair.ours, pair.oracle):
        with server.connect(pair.protocol) as monitor, server.connect(pair.protocol) as other:
            monitor.send(pack(("CLIENT", "REPLY", "OFF")) + pack(("MONITOR",)))
            wait_until(lambda other=other: b" flags=O" in other.call("CLIENT", "LIST").value)
            other.call("ECHO", "x")
            monitor.send(pack(("RESET",)))
            assert monitor.read_raw_reply() == b"+RESET\r\n"


def test_client_kill(pair: Pair):
    """CLIENT KILL closes the connections it names, by id, by address and by type, and counts them."""
    for words in (("ID", "{id}"), ("ADDR", "{addr}"), ("ID", "{id}", "SKIPME", "no")):
        for server in (pair.ours, pair.oracle):
            with server.connect(pair.protocol) as victim, server.connect(pair.protocol) as killer:
                names = {"id": victim.call("CLIENT", "ID").value, "addr": "{}:{}".format(*victim.socket.getsockname())}

                assert killer.call("CLIENT", "KILL", *(word.format(**names) for word in words)).value == 1
                assert victim.read_until_closed() == b""
    for server in (pair.ours, pair.oracle):
        with server.connect(pair.protocol) as suicide:
            answer = suicide.call("CLIENT", "KILL", "ID", suicide.call("CLIENT", "ID").value, "SKIPME", "no")

            assert answer.value == 1, "a client that kills itself still gets its answer"
            assert suicide.read_until_closed() == b""


def test_who_monitors_is_no_replica(pair: Pair):
    """A client that shows what others ask counts as a normal one, though its line says so."""
    for server in (pair.ours, pair.oracle):
        with server.connect(pair.protocol) as monitor, server.connect(pair.protocol) as other:
            assert monitor.call("MONITOR").value == b"OK"
            assert b" flags=O" in other.call("CLIENT", "LIST", "TYPE", "normal").value
            assert other.call("CLIENT", "KILL", "TYPE", "replica").value == 0


def test_hello(pair: Pair):
    """HELLO switches protocols, authenticates and names, refuses what it does not know, and lists the same fields."""
    script = """
        HELLO
        HELLO 3
        HELLO
        HGETALL missing
        HELLO 2
        HELLO 3 SETNAME me
        CLIENT GETNAME
        HELLO 2 SETNAME "a b"
        CLIENT GETNAME
        HELLO 3 AUTH default x
        HELLO 3 AUTH bogus x
        HELLO 3 AUTH default
        HELLO 3 SETNAME
        HELLO 3 BOGUS
        HELLO 3 <200>
        HELLO 4
        HELLO 1
        HELLO a
        HELLO ""
        HELLO -2
        HELLO 2 SETNAME x AUTH default y SETNAME z
        CLIENT GETNAME
    """
    ours, oracle = pair.fresh()
    with closing(ours), closing(oracle):
        compare(pair, script, clients=(ours, oracle))


def test_passwords(pair: Pair):
    """With a password set, nothing but AUTH, HELLO, QUIT and RESET is answered before it is given."""
    script = """
        PING
        GET k
        BOGUS
        GET
        ECHO a
        EXEC
        EXEC a
        DISCARD
        CLIENT ID
        COMMAND
        HELLO
        HELLO 3
        HELLO 2 AUTH default wrong
        AUTH
        AUTH wrong
        AUTH default wrong
        AUTH bogus secret
        AUTH a b c
        PING
        RESET
        AUTH secret
        PING
        RESET
        PING
        HELLO 2 AUTH default secret SETNAME me
        CLIENT GETNAME
        AUTH wrong
        PING
        AUTH default secret
    """
    old = pair.clients()
    for client in old:
        assert client.call("CONFIG", "SET", "requirepass", "secret").value == b"OK"
    ours, oracle = (RawClient(server.port) for server in (pair.ours, pair.oracle))
    try:
        with closing(ours), closing(oracle):
            compare(pair, script, clients=(ours, oracle), databases=())
    finally:
        for client in old:
            client.call("CONFIG", "SET", "requirepass", "")
    pair.run(["PING", "AUTH x", "AUTH default x", "AUTH bogus x"])


def test_a_password_that_is_taken_away(pair: Pair):
    """Without a password even those are let in who came while there was one; with the next one they are asked again."""
    old = pair.clients()

    def require(password: str) -> None:
        for client in old:
            assert client.call("CONFIG", "SET", "requirepass", password).value == b"OK"

    def denied() -> list[int]:
        return [int(re.search(rb"acl_access_denied_auth:(\d+)", client.call("INFO").value)[1]) for client in old]

    before = denied()
    require("secret")
    ours, oracle = strangers = RawClient(pair.ours.port), RawClient(pair.oracle.port)
    try:
        with closing(ours), closing(oracle):
            wrong = ["PING", "AUTH wrong", "AUTH nouser secret", "HELLO 2 AUTH default wrong"]
            compare(pair, wrong, clients=strangers, databases=())
            assert [now - then for now, then in zip(denied(), before, strict=True)] == [3, 3]
            require("")
            compare(pair, ["PING", ("SET", "k", "x" * 20_000), "HELLO 2", "GET k"], clients=strangers, databases=())
            require("another")
            compare(pair, ["PING", "HELLO 2", "AUTH secret", "AUTH another", "PING"], clients=strangers, databases=())
    finally:
        require("")


def test_reset(pair: Pair, fresh: tuple[RawClient, RawClient]):
    """RESET brings a connection back to what it was: database 0, RESP2, no name, replies on."""
    compare(
        pair,
        [
            "SELECT 5",
            "CLIENT SETNAME me",
            "SET here 1",
            "RESET",
            "CLIENT GETNAME",
            "EXISTS here",
            "HGETALL missing",
            "RESET x",
        ],
        clients=fresh,
        databases=(0, 5),
    )


def test_quit(pair: Pair):
    """QUIT answers OK and closes; what was sent after it is not run."""
    seen = []
    for client in pair.fresh():
        with closing(client):
            client.send(pack(["SET", "a", 1]) + pack(["QUIT"]) + pack(["SET", "a", 2]))
            seen.append(client.read_until_closed())

    assert seen[0] == seen[1] == b"+OK\r\n+OK\r\n"
    pair.run(["GET a"])


INLINE = [
    b"PING\r\n",
    b"ping\n",
    b"SET k 'a b'\r\nGET k\r\n",
    b'SET k "a\\x41\\n\\"b\\\\"\r\nGET k\r\n',
    b"SET k 'it\\'s'\nGET k\n",
    b"  PING   hello  \r\n",
    b"\r\nPING\r\n",
    b"\r\n\r\n\n  \nPING\n",
    b'SET k ""\r\nGET k\r\nSTRLEN k\r\n',
    b"GET\r\nBOGUS a b\r\n",
    b"SET k\tv\r\nGET k\r\n",
    b"PING\r\n*1\r\n$4\r\nPING\r\nPING again\r\n",
    b"*0\r\nPING\r\n",
    b"*-1\r\nPING\r\n",
    b"*2\r\n$4\r\nECHO\r\n$0\r\n\r\n",
    b"SET k " + b"v" * 10_000 + b"\r\nSTRLEN k\r\n",
]


@pytest.mark.parametrize("request_bytes", INLINE, ids=[repr(text[:20]) for text in INLINE])
def test_inline_commands(pair: Pair, fresh: tuple[RawClient, RawClient], request_bytes: bytes):
    """Inline commands split and unquote as Redis's do, whole or byte by byte, and mix with arrays."""
    end = pack(["ECHO", "the end of this test"])
    for client in fresh:
        client.send(request_bytes + end)
    whole = [_until(client, b"the end of this test\r\n") for client in fresh]
    for client in fresh:
        for byte in (request_bytes + end)[:300]:
            client.send(bytes([byte]))
        client.send((request_bytes + end)[300:])
    piecemeal = [_until(client, b"the end of this test\r\n") for client in fresh]

    assert whole[0] == whole[1]
    assert piecemeal == whole


def _until(client: RawClient, end: bytes) -> bytes:
    seen = b""
    while not seen.endswith(end):
        seen += client.read_raw_reply()
    return seen


BROKEN = [
    b"*1\r\nPING\r\n",
    b"*a\r\n",
    b"*1\r\n:1\r\n",
    b"*1\r\n$-1\r\n",
    b"*1\r\n$a\r\n",
    b"*1\r\n$536870913\r\n",
    b"*1\r\n$99999999999999999999\r\n",
    b"*99999999999999999999\r\n",
    b"SET k 'unbalanced\r\n",
    b'SET k "unbalanced\r\n',
]


@pytest.mark.parametrize("request_bytes", BROKEN, ids=[repr(text[:24]) for text in BROKEN])
def test_broken_requests(pair: Pair, request_bytes: bytes):
    """What is not the protocol is answered with Redis's text, after the replies before it, and the connection closed."""
    seen = []
    for client in pair.fresh():
        with closing(client):
            client.send(pack(["PING"]) + request_bytes)
            seen.append(client.read_until_closed())

    assert seen[0] == seen[1]
    assert seen[0].startswith(b"+PONG\r\n-ERR Protocol error")


def test_pipelines_of_any_depth(pair: Pair, fresh: tuple[RawClient, RawClient]):
    """Ten thousand commands in one send are answered in order, errors among them."""
    script = list(
        commands_of(
            [
                "INCR n",
                "GET n",
                "LPUSH n x",
                "BOGUS",
                "APPEND s abc",
                "STRLEN s",
                "GETRANGE s -9 -1",
                "HSET h f 1",
                "HGET h",
            ]
        )
    )
    data = b"".join(map(pack, script * 1100))
    for client in fresh:
        client.send(data)
    for number in range(len(script) * 1100):
        words = script[number % len(script)]
        mine, theirs = (client.read() for client in fresh)

        assert equal(words, mine, theirs), f"reply {number}: {show(mine[0])} but {show(theirs[0])}"


def test_requests_in_pieces(pair: Pair, fresh: tuple[RawClient, RawClient]):
    """A request cut anywhere is the same request."""
    data = pack(["SET", b"k\r\n", b"\r\n$3\r\n"]) + pack(["GET", b"k\r\n"])
    for cut in range(1, len(data)):
        replies = []
        for client in fresh:
            client.send(data[:cut])
            client.send(data[cut:])
            replies.append([client.read_raw_reply() for _ in range(2)])

        assert replies[0] == replies[1], f"cut at {cut}"


def test_one_client_sees_what_another_was_told(pair: Pair):
    """A write that was answered is seen by every connection from then on."""
    for n in range(50):
        with pair.ours.connect(pair.protocol) as writer, pair.ours.connect(pair.protocol) as reader:
            writer.call("SET", "k", n)

            assert reader.call("GET", "k").value == b"%d" % n


def test_a_closed_connection_harms_nobody(pair: Pair):
    """Clients that leave in mid-request or with replies unread leave the others answered."""
    for leftover in (b"*2\r\n$3\r\nGET\r\n$100\r\nabc", pack(["GET", "big"]) * 200, b"*", b"PIN"):
        for client in pair.fresh():
            client.call("SET", "big", b"x" * 100_000)
            client.send(leftover)
            client.close()
            with pytest.raises(Disconnected):
                client.call("PING")
        pair.run(["PING", "STRLEN big"])
