"""Runs: what several clients ask alike is done together, and nobody can tell.

Two engines get the same requests. One has them as the batches of many clients, so that the executor makes runs of them; the
other has one after another. Replies and rows must be the same.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmdbredis import commands
from lmdbredis.datatypes import lists
from lmdbredis.registry import TABLE
from lmdbredis.runs import LONG_REPLY_BYTES
from lmdbredis.session import Session
from tests.crash import Engine

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

commands.load()
Request = list[bytes]

CLIENTS = 12
KEYS = [
    b"string",
    b"number",
    b"list",
    b"other list",
    b"uneven",
    b"hash",
    b"set",
    b"zset",
    b"stream",
    b"missing",
    b"soon",
    b"long" * 200,
]
INITIAL: list[Request] = [
    [b"SET", b"string", b"v"],
    [b"SET", b"number", b"7"],
    [b"RPUSH", b"list", *(b"%d" % number for number in range(40))],
    [b"RPUSH", b"uneven", *(b"%d" % number for number in range(200))],
    [b"LINSERT", b"uneven", b"BEFORE", b"100", b"between"],
    [b"HSET", b"hash", b"f", b"v", b"g", b"w"],
    [b"SADD", b"set", b"a", b"b"],
    [b"ZADD", b"zset", b"1", b"a", b"2", b"b"],
    [b"XADD", b"stream", b"1-1", b"f", b"v"],
    *([b"XADD", b"stream", b"1-%d" % number, b"f", b"v"] for number in range(2, 40)),
    [b"XGROUP", b"CREATE", b"stream", b"group", b"1-1"],
    [b"XGROUP", b"CREATE", b"stream", b"whole", b"0"],
    *(
        [b"XGROUP", b"CREATECONSUMER", b"stream", group, name]
        for group in (b"group", b"whole")
        for name in (b"c", b"d")
    ),
    [b"XREADGROUP", b"GROUP", b"whole", b"c", b"COUNT", b"9", b"STREAMS", b"stream", b">"],
    [b"XGROUP", b"SETID", b"stream", b"whole", b"1-3"],  # what was given will be given again
    [b"XDEL", b"stream", b"1-20"],
    [b"SET", b"soon", b"v", b"PX", b"20"],
]
VALUES = [b"", b"v", b"12", b"x" * 3000, b"y" * 20_000]


class Clients:
    """An engine with many sessions, and one more that hears of all key events that the setting `events` makes."""

    def __init__(self, directory: Path, events: str = "") -> None:
        self.engine = Engine(directory, None, "--notify-keyspace-events", events)
        first = self.engine.session
        self.sessions = [Session(1000 + number, first.database, "", "", 0) for number in range(CLIENTS)]
        self.listener = first
        self.engine.run([b"PSUBSCRIBE", b"__key*"])
        first.output = b""
        for request in INITIAL:
            self.alone([(0, request)])

    def together(self, asked: Iterable[tuple[int, Request]]) -> list[bytes]:
        """Run requests, each with the number of its client, as one batch; return what each client gets."""
        waiting: defaultdict[int, list[Request]] = defaultdict(list)
        for number, request in asked:
            waiting[number].append(list(request))
        batch = []
        for number, requests in waiting.items():
            self.sessions[number].requests = requests
            batch.append(self.sessions[number])
        got = dict.fromkeys(waiting, b"")
        while batch:
            left = self.engine.executor.run(batch, self.engine.clock_ms * 1000)
            for number in waiting:
                session = self.sessions[number]
                got[number] += session.output
                session.output = b""
            batch = left
        return [got.get(number, b"") for number in range(CLIENTS)]

    def alone(self, asked: Iterable[tuple[int, Request]]) -> list[bytes]:
        """Run requests one after another, client by client; return what each client gets."""
        got = [b""] * CLIENTS
        for number, request in sorted(asked, key=lambda pair: pair[0]):
            got[number] += self.together([(number, request)])[number]
        return got

    def tick(self, milliseconds: int) -> None:
        """Let time pass, and what is to expire by then do so: it waits for a commit, which the other engine may not have."""
        self.engine.tick(milliseconds)
        while self.engine.keyspace.due.next_ms <= self.engine.clock_ms:
            self.engine.store.wait_for_commit(1)  # so many rows may wait for it that no more are added
            self.engine.tick(0)

    def heard(self) -> list[bytes]:
        """Return the messages that the listener got since the last time. Requests of several clients have no order."""
        output, self.listener.output = self.listener.output, b""
        return sorted(output.split(b"*4\r\n"))

    def close(self) -> Any:
        """Check and close; return what was there, but for keys that are to be expired."""
        now_ms = self.engine.clock_ms
        state = {name: found for name, found in self.engine.dump().items() if not 0 < found[1] <= now_ms}
        assert self.engine.check() == []
        self.engine.close()
        return state


def _counts(clients: Clients) -> tuple[int, int]:
    keyspace = clients.engine.keyspace
    return keyspace.hits, keyspace.misses


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Clients, Clients]:
    """Return two engines in the same state."""
    return Clients(tmp_path / "one"), Clients(tmp_path / "other")


_value = st.sampled_from(VALUES)
_name = st.one_of(st.integers(0, 200).map(lambda number: b"%d" % number), st.sampled_from([b"", b"f", b"long" * 200]))
_range = (st.sampled_from([b"0", b"-3", b"x"]), st.sampled_from([b"2", b"-1"]))
_groups = st.sampled_from([b"group", b"whole", b"missing"])
KEY = st.sampled_from(KEYS)
# Name of a command with a run -> what follows the key.
WORDS: dict[str, tuple[st.SearchStrategy[bytes], ...]] = {
    "DECR": (),
    "GET": (),
    "HGETALL": (),
    "HSET": (_name, _value),
    "INCR": (),
    "LPOP": (),
    "LPUSH": (_value,),
    "LRANGE": _range,
    "RPOP": (),
    "RPUSH": (_value,),
    "SADD": (_name,),
    "SET": (_value,),
    "SMEMBERS": (),
    "SPOP": (),
    "XACK": (_groups, st.integers(1, 41).map(lambda number: b"1-%d" % number) | st.sampled_from([b"1-5", b"2", b"x", b"-"])),
    "XADD": (st.sampled_from([b"*", b"*", b"*", b"2-1"]), _name, _value),
    "XREADGROUP": (
        st.sampled_from([b"GROUP", b"group"]), _groups, st.sampled_from([b"c", b"c", b"c", b"d", b"d", b"new"]), st.just(b"COUNT"),
        st.sampled_from([b"1", b"1", b"1", b"3", b"0", b"-1", b"x"]), st.just(b"STREAMS"), st.just(b"stream") | KEY,
        st.sampled_from([b">"] * 9 + [b"0"]),
    ),
    "ZADD": (st.sampled_from([b"1", b"2", b"-3.5", b"inf", b"1e300"] * 4 + [b"0", b"-0", b"x", b"NX", b"nan"]), _name),
    "ZRANGE": _range,
}  # fmt: skip


def words_of(name: str) -> st.SearchStrategy[Request]:
    """Return requests of the command with as many words as its runs have."""
    key = () if name == "XREADGROUP" else (KEY,)  # there it comes later
    return st.tuples(st.just(name.encode()), *key, *WORDS[name]).map(list)


batches = st.sampled_from(sorted(WORDS)).flatmap(
    lambda name: st.lists(st.tuples(st.integers(0, CLIENTS - 1), words_of(name)), min_size=1, max_size=40)
)


def test_every_run_is_tested():
    """No command has a run that this file does not know."""
    assert sorted(WORDS) == sorted({found.name.upper() for found in TABLE.values() if found.run is not None})


def in_transactions(asked: list[tuple[int, Request]], numbers: Iterable[int]) -> list[tuple[int, Request]]:
    """Return the requests, ordered by client; those of some clients are a transaction each."""
    made: list[tuple[int, Request]] = []
    for number, series in groupby(sorted(asked, key=itemgetter(0)), itemgetter(0)):
        requests = list(series)
        made += [(number, [b"MULTI"]), *requests, (number, [b"EXEC"])] if number in numbers else requests
    return made


@pytest.mark.filterwarnings("ignore:Generating overly large repr")  # large values are meant to be
@given(
    st.lists(
        st.tuples(
            batches,
            st.sets(st.integers(0, CLIENTS - 1)) | st.just(set(range(CLIENTS))),
            st.sampled_from(["", "commit", "tick", "found late"]),
        ),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from(["", "KEx", "KEm", "KEAmn"]),
)
def test_runs_are_as_one_by_one(
    tmp_path_factory: pytest.TempPathFactory, plan: list[tuple[list[tuple[int, Request]], set[int], str]], events: str
):
    """Whatever is asked, in transactions or not, in a commit or not, with keys of every type: each gets what it would get alone, and as many events."""
    directory = tmp_path_factory.mktemp("runs")
    one, other = Clients(directory / "one", events), Clients(directory / "other", events)
    for requests, of_transactions, between in plan:
        asked = in_transactions(requests, of_transactions)
        assert other.alone(asked) == one.together(asked)
        assert other.heard() == one.heard()
        if between == "commit":
            one.engine.store.begin_commit()
        elif between == "tick":
            one.tick(15)
            other.tick(15)
        elif between == "found late":  # a key whose time has come is still stored when it is asked for
            one.engine.clock_ms += 15
            other.engine.clock_ms += 15
        assert _counts(other) == _counts(one)

    assert other.close() == one.close()


def sizes_of_runs(name: bytes, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the list to which each run of a command will add how many requests it has."""
    command, sizes = TABLE[name], []
    run = command.run
    assert run is not None

    def counted(cx: Any, requests: Any) -> Any:
        sizes.append(len(requests))
        return run(cx, requests)

    monkeypatch.setattr(command, "run", counted)
    return sizes


@pytest.mark.parametrize(("events", "runs"), [("Ex", 1), ("KEx", 1), ("KExm", 0), ("KEn", 0)])
def test_runs_tell_of_expiry(tmp_path: Path, events: str, runs: int, monkeypatch: pytest.MonkeyPatch):
    """Who wants to hear of keys that expire gets told of one that a run writes over, and only events of writes end the runs."""
    clients = Clients(tmp_path / "one", events)
    clients.engine.clock_ms += 30
    sizes = sizes_of_runs(b"SET", monkeypatch)
    clients.heard()
    clients.together([(number, [b"SET", b"soon", b"v%d" % number]) for number in range(CLIENTS)])

    assert [CLIENTS] * runs == sizes
    assert sum(b"expired" in message for message in clients.heard()) == len(events.strip("xmn")) * ("x" in events)
    clients.close()


def test_each_client_gets_its_own(pair: tuple[Clients, Clients]):
    """Clients that ask for different things in one batch, in pipelines and not, in other databases and protocols, are told apart."""
    one, other = pair
    for clients in pair:
        clients.sessions[3].speak(3)
        clients.sessions[4].database = clients.engine.keyspace.databases[5]
    asked: list[tuple[int, Sequence[bytes]]] = []
    for number in range(CLIENTS):
        key = b"own%d" % number
        if number % 3 == 0:
            asked += [(number, [b"SET", key, b"v%d" % step]) for step in range(5)]
        elif number % 3 == 1:
            asked += [(number, [b"RPUSH", key, b"v%d" % number]), (number, [b"GET", key])]
        else:
            asked += [(number, [b"GET", key]), (number, [b"GET", b"none"])]
    requests = [(number, list(request)) for number, request in asked]

    assert other.alone(requests) == one.together(requests)
    assert other.close() == one.close()


def test_whole_transactions(pair: tuple[Clients, Clients], monkeypatch: pytest.MonkeyPatch):
    """Transactions that came whole and ask for one thing are one run, unless somebody watches a key, or more than one thing is asked for."""
    one, other = pair
    sizes = sizes_of_runs(b"SET", monkeypatch)
    calls = TABLE[b"MULTI"].calls, TABLE[b"EXEC"].calls
    asked = [
        (number, request)
        for number in range(CLIENTS)
        for request in ([b"MULTI"], *([b"SET", b"k%d" % at, b"%d" % number] for at in range(5)), [b"EXEC"])
    ]
    replies = one.together(asked)

    assert [b"+OK\r\n" + b"+QUEUED\r\n" * 5 + b"*5\r\n" + b"+OK\r\n" * 5] * CLIENTS == replies
    assert [5 * CLIENTS] == sizes
    assert (calls[0] + CLIENTS, calls[1] + CLIENTS) == (TABLE[b"MULTI"].calls, TABLE[b"EXEC"].calls)
    assert other.alone(asked) == replies

    sizes.clear()
    one.together([(0, [b"WATCH", b"k0"])])
    one.together([(1, [b"SET", b"k0", b"other"])])
    ended = [(0, [b"MULTI"]), *((0, [b"SET", b"k1", b"never"]) for _ in range(5)), (0, [b"EXEC"])]
    two_things = [
        (2, [b"MULTI"]),
        *((2, [b"SET", b"k2", b"v"]) for _ in range(3)),
        (2, [b"GET", b"k2"]),
        (2, [b"EXEC"]),
    ]
    not_ended = [(3, [b"MULTI"]), *((3, [b"SET", b"k3", b"never"]) for _ in range(5)), (3, [b"EXEC", b"x"])]
    replies = one.together([*ended, *two_things, *not_ended])

    assert replies[0].endswith(b"*-1\r\n")
    assert replies[2].endswith(b"*4\r\n+OK\r\n+OK\r\n+OK\r\n$1\r\nv\r\n")
    assert replies[3].endswith(
        b"-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command\r\n"
    )
    assert [] == sizes
    other.together([(0, [b"SET", b"k0", b"other"]), (0, [b"SET", b"k2", b"v"])])
    assert other.close() == one.close()


def test_a_run_that_fails(pair: tuple[Clients, Clients], monkeypatch: pytest.MonkeyPatch):
    """If a run fails in the middle, nothing of it is kept, and each request is run by itself."""
    one, other = pair
    command = TABLE[b"SET"]
    run = command.run
    assert run is not None

    def fails(cx: Any, requests: Any) -> Any:
        run(cx, requests[:3])
        raise RuntimeError("half way")

    monkeypatch.setattr(command, "run", fails)
    asked = [(number, [b"SET", b"new%d" % number, b"v"]) for number in range(CLIENTS)]

    assert other.alone(asked) == one.together(asked) == [b"+OK\r\n"] * CLIENTS
    assert other.close() == one.close()


def test_alike_reads_are_done_once(pair: tuple[Clients, Clients], monkeypatch: pytest.MonkeyPatch):
    """A range that all clients ask for in one batch is read once."""
    one, _ = pair
    calls = []
    get_range = lists.get_range

    def counted(*words: Any) -> list[bytes]:
        calls.append(words)
        return get_range(*words)

    monkeypatch.setattr(lists, "get_range", counted)
    replies = one.together([(number, [b"LRANGE", b"list", b"0", b"1"]) for number in range(CLIENTS)])

    assert [b"*2\r\n$1\r\n0\r\n$1\r\n1\r\n"] * CLIENTS == replies
    assert len(calls) == 1
    for clients in pair:
        clients.close()


def test_what_stays_as_it_is_is_not_written(tmp_path: Path):
    """A run of ZADDs that change nothing logs nothing, and ends nobody's transaction: as one by one."""
    clients = Clients(tmp_path / "one")
    add = [b"ZADD", b"scores", b"1", b"member"]
    clients.together([(0, add), (0, [b"WATCH", b"scores"])])
    end_lsn = clients.engine.store.wal.end_lsn
    assert clients.together([(number, add) for number in range(1, CLIENTS) for _ in range(4)])[1] == b":0\r\n" * 4
    assert clients.engine.store.wal.end_lsn == end_lsn
    assert clients.together([(0, [b"MULTI"]), (0, [b"PING"]), (0, [b"EXEC"])])[0].endswith(b"*1\r\n+PONG\r\n")
    clients.close()


@pytest.mark.parametrize(
    "reads",
    [
        pytest.param([[b"GET", b"long"]] * 600, id="run"),
        pytest.param([[b"LRANGE", b"long-list", b"0", b"-1"]] * 600, id="alike"),
        pytest.param([[b"GET", b"long"], [b"get", b"long"]] * 300, id="one-by-one"),
    ],
)
def test_long_replies_are_read_once(tmp_path: Path, reads: list[Request]):
    """What a client asks for in one piece is read once, and soon as much in a batch as may leave together."""
    clients = Clients(tmp_path / "one")
    value = b"x" * 15_000
    clients.together([(0, [b"SET", b"long", value]), (0, [b"RPUSH", b"long-list", *[value[:150]] * 100])])
    command, session = TABLE[reads[0][0]], clients.sessions[0]
    before = command.calls
    sizes = []
    for _ in range(2):
        session.requests = list(reads)
        batch = [session]
        while batch:
            batch = clients.engine.executor.run(batch, clients.engine.clock_ms * 1000)
            sizes.append(len(session.output))

    assert command.calls - before == 1200
    assert sum(sizes) == len(clients.together([(0, reads[0])])[0]) * 1200
    assert max(sizes) < 2 * LONG_REPLY_BYTES
    assert len(sizes) < 40
    clients.close()
