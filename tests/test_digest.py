"""DEBUG DIGEST and DIGEST-VALUE: what Redis computes, to the digit, whatever the rows look like here.

So that two servers, or a primary and its replicas, can be compared in forty digits: the tests of replication stand on this.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.crash import Workload
from tests.servers import Lmdbredis, Valkey

if TYPE_CHECKING:
    from tests.differential import Pair

FAR_MS = 4_102_444_800_000

# Key -> the lines that make it.
VALUES = {
    "empty": 'SET empty ""',
    "int": "SET int 12345",
    "short": "SET short <44>",
    "longer": "SET longer <3000>",
    "long": "SET long <300000a>",
    "chunks": "SETRANGE chunks 100000 end",
    "<600k>": "SET <600k> long-name",
    "<600j>": "RPUSH <600j> long-name",
    '"\\x00\\xff\\r\\n"': 'SET "\\x00\\xff\\r\\n" "\\x00"',
    "list": 'RPUSH list a b 3 "" <2000> b',
    "set": "SADD set a b <600m> 7",
    "ints": "SADD ints 1 2 3",
    "zset": "ZADD zset 1 a 1.5 b -inf c inf d 0.1 e 1e300 f 3 <600m> 1e8 h 123456789012345678 g",
    "zeros": "ZADD zeros -0 a 0 b 99999999 c -1e8 d 1e-7 e",
    "hash": 'HSET hash f v <600f> w g "" h <2000>',
    "stream": "XADD stream 1-1 f v g w\nXADD stream 1-2 f v2\nXADD stream 18446744073709551615-3 <600f> <2000>\nXDEL stream 1-2",
    "bare": "XGROUP CREATE bare g $ MKSTREAM",
    "volatile": f"SET volatile v PXAT {FAR_MS}",
    "going": f"RPUSH going a b\nPEXPIREAT going {FAR_MS}",
}


def test_each_type(pair: Pair):
    """The value of every type has the oracle's digest, alone and among others, in several databases and with an expiry."""
    pair.run("DEBUG DIGEST\nDEBUG DIGEST-VALUE\nDEBUG DIGEST-VALUE nothing")
    for key, lines in VALUES.items():
        pair.run(f"{lines}\nDEBUG DIGEST-VALUE {key} nothing\nDEBUG DIGEST")
    pair.run(f"DEBUG DIGEST-VALUE {' '.join(VALUES)}")
    pair.run(
        "SELECT 3\nSET a 1\nDEBUG DIGEST\nSELECT 15\nDEBUG DIGEST\nSADD a 1\nDEBUG DIGEST\nSWAPDB 3 15\nDEBUG DIGEST"
    )
    pair.run(
        "SELECT 0\nMOVE int 9\nRENAME list other\nDEBUG DIGEST\nPERSIST going\nDEBUG DIGEST\nFLUSHDB\nDEBUG DIGEST"
    )
    pair.run("DEBUG DIGEST a\nFLUSHALL\nDEBUG DIGEST", databases=range(16))


def test_large_collections(pair: Pair):
    """Collections whose rows are read in several portions have it, too, and so has a database of some thousand keys."""
    numbers = range(2500)
    pair.run(
        [("RPUSH", "l", *numbers), ("LINSERT", "l", "BEFORE", 77, "x"), ("SADD", "s", *(f"m{n}" for n in numbers))]
    )
    pair.run([("HSET", "h", *(word for n in numbers for word in (f"f{n}", n)))])
    pair.run([("ZADD", "z", *(word for n in numbers for word in (n / 7, f"m{n}")))])
    pair.run([("XADD", "x", f"{n}-1", "f", n) for n in range(1, 2500)])
    pair.run("DEBUG DIGEST-VALUE l s h z x\nDEBUG DIGEST")
    pair.run([*(("SET", f"k{n}", n) for n in numbers), ("DEBUG", "DIGEST")])


@pytest.mark.parametrize("seed", range(3))
def test_random_commands(seed: int, pair: Pair):
    """After whatever commands, the digests are the same, though nobody compared a reply."""
    workload = Workload(random.Random(seed), able=frozenset({"XADD"}))
    for _ in range(4):
        commands = [workload.plain() for _ in range(150)]
        clients = pair.clients()
        for client in clients:
            client.pipeline(commands)

        ours, oracle = (client.call("DEBUG", "DIGEST").value for client in clients)
        assert oracle == ours


def test_expired_keys_do_not_count(pair: Pair):
    """A key whose time has come is not there, whether or not its row still is: a database with nothing else in it is empty."""
    for client in pair.clients():
        client.call("DEBUG", "SET-ACTIVE-EXPIRE", 0)
        empty = client.call("DEBUG", "DIGEST").value
        client.call("SET", "k", "v", "PX", 1)
        client.call("SELECT", 2)
        client.call("RPUSH", "l", "v")
        client.call("PEXPIRE", "l", 1)
    ours = pair.clients()[0]
    while ours.call("DEBUG", "DIGEST").value != empty:
        pass

    assert ours.call("DEBUG", "DIGEST-VALUE", "l").items()[0].value == empty
    for client in pair.clients():
        client.call("DEBUG", "SET-ACTIVE-EXPIRE", 1)


def test_databases_beyond_the_configured_number(tmp_path):
    """What stands in databases that a restart has put out of reach is still data: the digest is the same with fewer of them."""
    (tmp_path / "data").mkdir()
    with Valkey() as oracle, Lmdbredis(dir=tmp_path / "data") as server:
        for one in (oracle, server):
            one.client().pipeline([("SET", "a", 1), ("SELECT", 12), ("HSET", "h", "f", "v")])
        expected = oracle.client().call("DEBUG", "DIGEST").value
        server.options = ("--databases", "4")
        server.restart()

        assert expected == server.client().call("DEBUG", "DIGEST").value
